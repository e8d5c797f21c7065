"""The example plugin on the running kernel: a kind of link that the agent does not know, with frames of VMs."""

import os
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from select import select
from typing import Any
from uuid import UUID, uuid4

import pytest
from lab.machine import inside_netns

from viaduct_agent.backends.api import L2OnHost
from viaduct_agent.links.host import HostLinks
from viaduct_agent.links.netlink import Netlink
from viaduct_common.errors import InUse, PreconditionFailed
from viaduct_common.messages.l2 import L2NetworkInventory
from viaduct_l2_macvtap.backend import MacvtapBackend

from .conftest import Namespace

pytestmark = pytest.mark.lab
END = "mvl_eth1"
VNET_HEADER = bytes(10)  # struct virtio_net_hdr, which stands before each frame of a macvtap device
EXPERIMENTAL = b"\x88\xb5"  # IEEE 802, for local experiments
UUID_ = uuid4()


def want(generation: int = 1, *, uuid: UUID = UUID_, mode: str = "bridge", force: bool = False) -> L2OnHost:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    body: dict[str, Any] = {
        "uuid": uuid, "name": "net", "zone_uuid": uuid4(), "physical_interface": "eth1", "type": "L2MacvtapNetwork",
        "mtu": 1400, "bridge_name": "", "device_names": [END], "created_at": now, "updated_at": now, "mode": mode,
    }  # fmt: skip
    return L2OnHost(generation, L2NetworkInventory.model_validate(body), "eth1", force=force)


@pytest.fixture
def backend(netlink: Netlink, namespace: Namespace) -> MacvtapBackend:
    namespace.ip("link set peer1 up")
    return MacvtapBackend(HostLinks(netlink))


@dataclass
class Tap:
    """The guest's side of a macvtap device, as a hypervisor has it."""

    mac: bytes
    file: int

    def send(self, to: bytes, text: bytes) -> None:
        os.write(self.file, VNET_HEADER + (to + self.mac + EXPERIMENTAL + text).ljust(60, b"\0"))

    def heard_until(self, last: bytes) -> list[bytes]:
        """Texts that came since, up to `last`, which must come."""
        found: list[bytes] = []
        while last not in found:
            assert select([self.file], [], [], 5)[0], f"{last!r} did not come, only {found}"
            frame = os.read(self.file, 2048)[len(VNET_HEADER) :]
            if frame[12:14] == EXPERIMENTAL:
                found.append(frame[14:].rstrip(b"\0"))
        return found


@pytest.fixture
def plug(namespace: Namespace, tmp_path: Path) -> Iterator[Any]:
    """Make a macvtap device on the network's end as libvirt does for `<interface type='direct'>`, and open it."""
    with ExitStack() as stack:

        def make(number: int, mode: str) -> Tap:
            name, mac = f"vnic{number}", f"52:54:00:00:00:{number:02x}"
            namespace.ip(f"link add link {END} name {name} address {mac} type macvtap mode {mode}")
            namespace.ip(f"link set {name} up")
            where = f"/sys/class/net/{name}/macvtap/tap{namespace.link(name)['ifindex']}/dev"
            device = subprocess.run(
                ["ip", "netns", "exec", namespace.name, "cat", where], capture_output=True, text=True, check=True
            ).stdout
            # Not /dev/tap<index>: another namespace may have the same index.
            node = tmp_path / name
            major, minor = map(int, device.split(":"))
            os.mknod(node, 0o600 | stat.S_IFCHR, os.makedev(major, minor))
            file = os.open(node, os.O_RDWR | os.O_NONBLOCK)
            stack.callback(os.close, file)
            return Tap(bytes.fromhex(mac.replace(":", "")), file)

        yield make


@pytest.mark.parametrize(("mode", "direct"), [("bridge", True), ("vepa", False), ("private", False)])
async def test_vms_hear_each_other_as_the_mode_says(
    backend: MacvtapBackend, namespace: Namespace, plug: Any, mode: str, direct: bool
) -> None:
    """And the wire in all modes; a foreign kind of device, and foreign devices that are left alone."""
    net = want(mode=mode)
    assert await backend.realize(net)
    end = namespace.link(END)
    assert end["linkinfo"]["info_data"]["mode"] == mode
    assert (end["link"], end["mtu"], end["ifalias"]) == ("eth1", 1400, f"viaduct:{net.network.uuid}:1")
    assert end["address"] != namespace.link("eth1")["address"]
    assert "UP" in end["flags"]
    assert await backend.realize(net) == ()
    checked = await backend.check(net)
    assert (checked.present, checked.differences, checked.steps) == (True, (), ())

    taps = [plug(number, mode) for number in (1, 2)]
    taps[0].send(taps[1].mac, b"neighbour")
    if direct:
        assert taps[1].heard_until(b"neighbour") == [b"neighbour"]
    with wire(namespace) as peer:
        taps[0].send(b"\xff" * 6, b"everybody")
        while b"everybody" not in peer.recv(2048):
            pass
        for tap in taps:
            peer.send(tap.mac + b"\x52\x54\x00\x00\x00\x99" + EXPERIMENTAL + b"answer".ljust(46, b"\0"))
    assert taps[0].heard_until(b"answer") == [b"answer"]
    rest = taps[1].heard_until(b"answer")
    assert rest == [b"answer"] or (direct and rest == [b"everybody", b"answer"])

    before = namespace.names()
    assert (await backend.check(net, "release")).refusal is not None
    with pytest.raises(InUse, match="vnic1, vnic2"):
        await backend.release(net)
    assert await backend.release(want(2, mode=mode, force=True))
    assert namespace.names() == before - {END}


def wire(namespace: Namespace) -> socket.socket:
    """The other end of eth1's cable."""
    with inside_netns(namespace.name):
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5))
        made.bind(("peer1", 0x88B5))
    made.settimeout(5)
    return made


async def test_differences_are_found_and_mended(backend: MacvtapBackend, namespace: Namespace) -> None:
    """Also in the option that the plugin brought, without a new device."""
    net = want()
    await backend.realize(net)
    index = namespace.link(END)["ifindex"]
    namespace.ip(f"link set {END} type macvlan mode vepa")
    namespace.ip(f"link set {END} down mtu 1300")
    found = {one.attribute: (one.desired, one.actual) for one in (await backend.check(net)).differences}
    assert found == {"mode": ("bridge", "vepa"), "up": (True, False), "mtu": (1400, 1300)}
    await backend.realize(net)
    assert not (await backend.check(net)).differences
    assert namespace.link(END)["ifindex"] == index

    namespace.ip(f"link del {END}")
    namespace.ip(f"link add {END} type bridge")
    namespace.ip(f"link set {END} alias viaduct:{net.network.uuid}:1")
    await backend.realize(net)
    assert namespace.link(END)["linkinfo"]["info_kind"] == "macvlan"
    await backend.release(net)
    assert END not in namespace.names()


async def test_interface_that_a_bridge_has_is_refused(backend: MacvtapBackend, namespace: Namespace) -> None:
    """Before anything is tried: the kernel would refuse it only then."""
    namespace.ip("link add br0 type bridge")
    namespace.ip("link set eth1 master br0")
    before = namespace.names()
    assert isinstance((await backend.check(want())).refusal, PreconditionFailed)
    with pytest.raises(PreconditionFailed, match="eth1 is a port of bridge br0"):
        await backend.realize(want())
    assert namespace.names() == before
