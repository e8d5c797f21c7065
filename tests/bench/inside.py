"""What runs inside a simulated host: networks realized, checked and released by the agent's own backends, and the same
devices made and deleted by `ip -batch`, in turns.

    python -m bench.inside novlan|vlan|vxlan NETWORKS ROUNDS      prints the seconds of each round as JSON

Each turn has a network namespace of its own, which takes its devices away at its end: deleting a thousand bridges one
by one takes a minute, whoever does it. Releases are measured with a few of them.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from ipaddress import IPv4Address
from uuid import UUID

from viaduct_agent.backends.api import L2OnHost
from viaduct_agent.backends.linkbackend import LinkBackend
from viaduct_agent.backends.novlan import NoVlanBackend
from viaduct_agent.backends.vlan import VlanBackend
from viaduct_agent.backends.vxlan import VxlanBackend
from viaduct_agent.garbage import collect_rarely
from viaduct_agent.links import encode
from viaduct_agent.links.dialogue import Dialogue, open_socket
from viaduct_agent.links.host import HostLinks
from viaduct_agent.links.netlink import Netlink
from viaduct_common.messages.agent import Peer
from viaduct_common.messages.l2 import L2_NOVLAN, L2_VLAN, L2_VXLAN, L2NetworkInventory

BACKENDS: dict[str, type[LinkBackend]] = {"novlan": NoVlanBackend, "vlan": VlanBackend, "vxlan": VxlanBackend}
RELEASED = 20
CHECKS = 5  # in each round, of which the median counts: one takes a twentieth of a second
TUNNEL_IP, PEER_IP = "10.99.0.1", "10.99.0.2"
FIRST_VLAN = 100
NAMES = {"novlan": L2_NOVLAN, "vlan": L2_VLAN, "vxlan": L2_VXLAN}


def wants(kind: str, count: int) -> list[L2OnHost]:
    """The networks: each on an uplink of its own, or each a VLAN on eth1, or each a VNI with one peer."""
    return [_want(kind, number) for number in range(count)]


def _want(kind: str, number: int) -> L2OnHost:
    interface = f"u{number}" if kind == "novlan" else "eth1"
    tag = FIRST_VLAN + number
    bridge, others, own = {
        "novlan": (f"br_{interface}", [], {}),
        "vlan": (f"br_{interface}_{tag}", [f"{interface}.{tag}"], {"vlan": tag}),
        "vxlan": (f"br_vx_{tag}", [f"vxlan{tag}"], {"vni": tag}),
    }[kind]
    now = datetime.now(UTC)
    fields = {
        "uuid": UUID(int=number + 1),
        "name": bridge,
        "zone_uuid": UUID(int=0),
        "physical_interface": interface,
        "type": NAMES[kind],
        "mtu": 1400,
        "bridge_name": bridge,
        "device_names": [bridge, *others],
        "created_at": now,
        "updated_at": now,
        **own,
    }
    peer = Peer(host_uuid=UUID(int=0), tunnel_ip=IPv4Address(PEER_IP))
    network = L2NetworkInventory.model_validate(fields)
    return L2OnHost(1, network, interface, tunnel_ip=IPv4Address(TUNNEL_IP), peers=(peer,))


def uplinks(kind: str, count: int) -> list[str]:
    """What the networks stand on: a NIC each is one end of a pair."""
    names = [f"u{number}" for number in range(count)] if kind == "novlan" else ["eth1"]
    lines = [f"link add {name} up type veth peer name p{name}" for name in names]
    return [*lines, f"addr add {TUNNEL_IP}/24 dev eth1"] if kind == "vxlan" else lines


def creation(kind: str, want: L2OnHost) -> list[str]:
    """What an administrator would write for the same devices, marks included."""
    bridge, alias = want.network.bridge_name, f"viaduct:{want.network.uuid}:1"
    lines = [
        f"link add name {bridge} mtu 1400 up type bridge stp_state 0 forward_delay 0",
        f"link set dev {bridge} alias {alias}",
    ]
    if kind == "novlan":
        return [*lines, f"link set dev {want.interface} master {bridge} up"]
    device = next(name for name in want.network.device_names if name != bridge)
    own = want.network.own_fields()
    if kind == "vlan":
        lines.append(f"link add link eth1 name {device} mtu 1400 master {bridge} up type vlan id {own['vlan']}")
    else:
        options = f"vxlan id {own['vni']} local {TUNNEL_IP} dstport 4789"
        lines.append(f"link add name {device} mtu 1400 master {bridge} up type {options}")
        lines.append(f"link set dev {device} type bridge_slave neigh_suppress on")
    return [*lines, f"link set dev {device} alias {alias}"]


def entries(kind: str, want: L2OnHost) -> list[str]:
    """For `bridge -batch`: where frames for everybody go."""
    if kind != "vxlan":
        return []
    device = next(name for name in want.network.device_names if name != want.network.bridge_name)
    return [f"fdb append 00:00:00:00:00:00 dev {device} dst {PEER_IP} self permanent"]


def deletion(want: L2OnHost) -> list[str]:
    """And to take them away."""
    return [f"link del dev {name}" for name in reversed(want.network.device_names)]


def batch(program: str, netns: str, lines: Sequence[str]) -> None:
    """Run them in one `ip`, or `bridge`."""
    if lines:
        command = [program, "-n", netns, "-batch", "-"]
        subprocess.run(command, input="\n".join(lines) + "\n", text=True, check=True)


def raw_dump(dialogue: Dialogue) -> None:
    """All links as the kernel tells them to whoever asks without a filter, split into messages and thrown away."""
    dialogue.dump(encode.link_message(_RTM_GETLINK, _REQUEST_DUMP, 0))


_RTM_GETLINK, _REQUEST_DUMP = 18, 0x301


@contextmanager
def namespace(kind: str, count: int) -> Iterator[str]:
    """A network namespace with the uplinks."""
    name = f"bench-{time.monotonic_ns()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        batch("ip", name, uplinks(kind, count))
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


async def ours(kind: str, wanted: Sequence[L2OnHost]) -> dict[str, float]:
    """Realize and check all of them at once, as they come in one command; release a few."""
    with namespace(kind, len(wanted)) as netns:
        async with Netlink(netns) as kernel:
            backend = BACKENDS[kind](HostLinks(kernel))

            async def each(act: Callable[[L2OnHost], Awaitable[object]], some: Sequence[L2OnHost]) -> float:
                began = time.perf_counter()
                await asyncio.gather(*(act(want) for want in some))
                return (time.perf_counter() - began) / len(some)

            return {
                "create": await each(backend.realize, wanted),
                "check": statistics.median([await each(backend.check, wanted) for _ in range(CHECKS)]),
                "delete": await each(backend.release, wanted[:RELEASED]),
            }


async def theirs(kind: str, wanted: Sequence[L2OnHost]) -> dict[str, float]:
    """The same by `ip -batch` and `bridge -batch`, and one raw dump."""

    def timed(act: Callable[[], None], count: int) -> float:
        began = time.perf_counter()
        act()
        return (time.perf_counter() - began) / count

    def create() -> None:
        batch("ip", netns, [line for want in wanted for line in creation(kind, want)])
        batch("bridge", netns, [line for want in wanted for line in entries(kind, want)])

    with namespace(kind, len(wanted)) as netns:
        created = timed(create, len(wanted))
        async with Netlink(netns) as kernel:
            dialogue = await kernel.run(lambda: Dialogue(open_socket(0), 30.0))
            checked = statistics.median([timed(lambda: raw_dump(dialogue), len(wanted)) for _ in range(CHECKS)])
            dialogue.close()
        some = wanted[:RELEASED]
        deleted = timed(lambda: batch("ip", netns, [line for want in some for line in deletion(want)]), len(some))
    return {"create": created, "check": checked, "delete": deleted}


async def main(kind: str, count: int, rounds: int) -> None:
    """Print the seconds for one network of each round, by who and what; the first round does not count."""
    wanted = wants(kind, count)
    found: dict[str, dict[str, list[float]]] = {"ours": {}, "theirs": {}}
    for number in range(-1, rounds):
        for who in ("ours", "theirs") if number % 2 else ("theirs", "ours"):
            seconds = await (ours if who == "ours" else theirs)(kind, wanted)
            for name, value in seconds.items() if number >= 0 else ():
                found[who].setdefault(name, []).append(value)
    print(json.dumps(found))


if __name__ == "__main__":
    collect_rarely()  # as the agent does
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
