"""A virtual machine that libvirt plugs in: its frames get through a VXLAN, and to nobody else."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest
from lab import Host, Lab, LabError, Vm
from lab.features import running_kernel_supports
from lab.netns import NetnsHost
from lab.process import Process
from lab.qemu import Guest, GuestNic

from viaduct_common.messages.agent import Peer
from viaduct_common.messages.l2 import L2NetworkInventory

from .guests import desired, do, inventory, serve_backends

pytestmark = [pytest.mark.lab, pytest.mark.slow]
MTU = 1450  # the most that VXLAN leaves of 1500
ICMP_HEADERS = 28
TAP = "vnic0123abcd456"
MAC = "52:54:02:00:00:01"
ELEMENT = (
    f'<interface type="bridge"><mac address="{MAC}"/><source bridge="%s"/><target dev="{TAP}"/>'
    f'<model type="virtio"/><mtu size="{MTU}"/></interface>'
)
# Its own datapath: this machine's kernel may have none of Open vSwitch. Real taps, real frames.
OPEN_VSWITCH = """
mkdir -p /run/openvswitch
cd /run/openvswitch
ovsdb-tool create conf.db /usr/share/openvswitch/vswitch.ovsschema
daemon="--pidfile --detach --no-chdir --log-file=/dev/null"
ovsdb-server conf.db --remote=punix:/run/openvswitch/db.sock $daemon > /dev/null 2>&1
ovs-vsctl --no-wait init
ovs-vswitchd --disable-system $daemon > /dev/null 2>&1
ovs-vsctl --timeout=20 add-br br_gr_7 -- set bridge br_gr_7 datapath_type=netdev
ip link set br_gr_7 up
"""


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Host]]:
    """Two hosts on this machine's kernel: one emulated inside the other's User-Mode Linux would crawl."""
    if missing := [feature for feature in ("bridge", "vxlan", "tun") if not running_kernel_supports(feature)]:
        reason = f"the running kernel lacks {missing}"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    with Lab(f"qemu-{uuid4().hex[:6]}", tmp_path_factory.mktemp("lab")) as lab:
        found = lab.start_hosts(["a", "b"], kind="netns")
        serve_backends(found)
        yield found


@pytest.fixture
def networks(hosts: list[Host]) -> Iterator[list[L2NetworkInventory]]:
    """Two VXLANs realised on both hosts; after the test nothing of them, nor of what was plugged in, is left."""
    found = [inventory("L2VxlanNetwork", vni, mtu=MTU) for vni in (10, 20)]
    before = [host.run("ip -br link").stdout for host in hosts]
    for network in found:
        for host, other in (hosts, hosts[::-1]):
            peer = Peer(host_uuid=uuid4(), tunnel_ip=other.address, nics=[])  # type: ignore[arg-type]
            assert "changes" in do(host, "realize", desired(network, host, peers=[peer]))
    yield found
    for network in found:
        for host in hosts:
            assert "changes" in do(host, "release", desired(network, host))
    assert [host.run("ip -br link").stdout for host in hosts] == before


@pytest.fixture
def vms(hosts: list[Host], networks: list[L2NetworkInventory]) -> Iterator[list[Vm]]:
    """One in each network, on the second host, with addresses of one subnet."""
    with ExitStack() as undo:
        found = []
        for number, network in enumerate(networks, start=2):
            found.append(hosts[1].add_vm(f"v{number}", network.bridge_name, address=f"192.168.5.{number}/24"))
            undo.callback(found[-1].remove)
        yield found


@pytest.fixture
def guest(hosts: list[Host], networks: list[L2NetworkInventory], tmp_path: Path) -> Guest:
    """Not started yet; on the first host, in the first network."""
    assert isinstance(hosts[0], NetnsHost)
    return Guest.on(hosts[0], [GuestNic(ELEMENT % networks[0].bridge_name, ["192.168.5.1/24"])], tmp_path)


def test_a_virtual_machine_reaches_its_network_and_no_other(
    hosts: list[Host], networks: list[L2NetworkInventory], guest: Guest, vms: list[Vm]
) -> None:
    """Both ways, with packets of the whole MTU but no larger ones; the guest takes MAC and MTU from its card."""
    friend, stranger = vms
    with guest:
        card = guest.run("cat /sys/class/net/eth0/address /sys/class/net/eth0/mtu").stdout.split()
        assert card == [MAC, str(MTU)]
        assert guest.ping("192.168.5.2", count=3)
        assert friend.ping("192.168.5.1")
        assert guest.ping("192.168.5.2", size_bytes=MTU - ICMP_HEADERS)
        assert friend.ping("192.168.5.1", size_bytes=MTU - ICMP_HEADERS)
        assert guest.run(f"ip link set eth0 mtu {MTU + 1}", check=False).code != 0
        assert not friend.ping("192.168.5.1", size_bytes=MTU - ICMP_HEADERS + 5, wait_seconds=1)  # 4: a tag's place

        assert not stranger.ping("192.168.5.1", wait_seconds=1)
        assert not guest.ping("192.168.5.3", wait_seconds=1)
        refusal = do(hosts[0], "release", desired(networks[0], hosts[0]))["refusal"]
        assert (refusal["code"], refusal["details"]["ports"]) == ("IN_USE", [TAP])


def test_a_guest_is_gone_with_its_tap_whatever_happens(hosts: list[Host], guest: Guest) -> None:
    """Also when what was done with it failed, or it could not be plugged in at all."""
    pids: list[int] = []

    def fail() -> None:
        with guest:
            assert guest.process
            pids.extend(one.pid for one in guest.process.family())
            assert TAP in hosts[0].run("ip -br link").stdout
            guest.run("false")

    with pytest.raises(LabError, match="exit 1"):
        fail()
    assert len(pids) >= 3  # unshare, libvirt, QEMU
    assert [pid for pid in pids if Process.of(pid)] == []
    assert TAP not in hosts[0].run("ip -br link").stdout

    guest.nics = [GuestNic(ELEMENT % "br_none")]
    with pytest.raises(LabError, match="br_none"), guest:
        pytest.fail("it was plugged into nothing")
    assert TAP not in hosts[0].run("ip -br link").stdout


def test_open_vswitch_takes_a_virtual_machine(hosts: list[Host], guest: Guest) -> None:
    """`<virtualport type='openvswitch'>` is all that libvirt needs to know."""
    host = hosts[0]
    host.run(f"set -e\n{OPEN_VSWITCH}")
    friend = host.add_vm("switched", address="192.168.5.2/24")
    host.run(f"ovs-vsctl add-port br_gr_7 {friend.port}")
    element = (ELEMENT % "br_gr_7").replace("<target", '<virtualport type="openvswitch"/><target')
    guest.nics = [GuestNic(element, ["192.168.5.1/24"])]
    try:
        with guest:
            assert host.run(f"ovs-vsctl port-to-br {TAP}").stdout == "br_gr_7\n"
            assert guest.ping("192.168.5.2", count=3)
            assert friend.ping("192.168.5.1")
            assert guest.ping("192.168.5.2", size_bytes=MTU - ICMP_HEADERS)
    finally:
        friend.remove()
        host.run("ovs-vsctl --if-exists del-br br_gr_7; ovs-appctl -t ovs-vswitchd exit --cleanup", check=False)
        host.run("kill $(cat /run/openvswitch/ovsdb-server.pid)", check=False)
