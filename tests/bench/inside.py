"""What runs inside a simulated host: networks realized, checked and released by the agent's own backends, and the same
devices made and deleted by `ip -batch`, in turns.

    python -m bench.inside novlan|vlan NETWORKS ROUNDS      prints the seconds of each round as JSON
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from uuid import UUID

from viaduct_agent.backends.api import L2OnHost
from viaduct_agent.backends.linkbackend import LinkBackend
from viaduct_agent.backends.novlan import NoVlanBackend
from viaduct_agent.backends.vlan import VlanBackend
from viaduct_agent.links.host import HostLinks
from viaduct_agent.links.netlink import Netlink
from viaduct_common.messages.l2 import L2_NOVLAN, L2_VLAN, L2NetworkInventory

FIRST_VLAN = 100
NAMES = {"novlan": L2_NOVLAN, "vlan": L2_VLAN}


def wants(kind: str, count: int) -> list[L2OnHost]:
    """The networks: each on an uplink of its own, or each a VLAN on eth1."""
    return [_want(kind, number) for number in range(count)]


def _want(kind: str, number: int) -> L2OnHost:
    interface = f"u{number}" if kind == "novlan" else "eth1"
    vlan = FIRST_VLAN + number
    bridge = f"br_{interface}" if kind == "novlan" else f"br_{interface}_{vlan}"
    now = datetime.now(UTC)
    fields = {
        "uuid": UUID(int=number + 1),
        "name": bridge,
        "zone_uuid": UUID(int=0),
        "physical_interface": interface,
        "type": NAMES[kind],
        "mtu": 1500,
        "bridge_name": bridge,
        "device_names": [bridge] if kind == "novlan" else [bridge, f"{interface}.{vlan}"],
        "created_at": now,
        "updated_at": now,
        **({} if kind == "novlan" else {"vlan": vlan}),
    }
    return L2OnHost(1, L2NetworkInventory.model_validate(fields), interface)


def uplinks(count: int) -> list[str]:
    """The ports of the networks without a VLAN: one end of a pair each, as a NIC would be."""
    return [f"link add u{number} up type veth peer name p{number}" for number in range(count)]


def creation(want: L2OnHost) -> list[str]:
    """What an administrator would write for the same devices, marks included."""
    bridge, alias = want.network.bridge_name, f"viaduct:{want.network.uuid}:1"
    lines = [
        f"link add name {bridge} mtu 1500 up type bridge stp_state 0 forward_delay 0",
        f"link set dev {bridge} alias {alias}",
    ]
    vlan = want.network.own_fields().get("vlan")
    if vlan is None:
        return [*lines, f"link set dev {want.interface} master {bridge} up"]
    device = f"{want.interface}.{vlan}"
    lines.append(f"link add link {want.interface} name {device} mtu 1500 master {bridge} up type vlan id {vlan}")
    return [*lines, f"link set dev {device} alias {alias}"]


def deletion(want: L2OnHost) -> list[str]:
    """And to take them away."""
    vlan = want.network.own_fields().get("vlan")
    devices = [want.network.bridge_name] if vlan is None else [f"{want.interface}.{vlan}", want.network.bridge_name]
    return [f"link del dev {device}" for device in devices]


def ip_batch(lines: Sequence[str]) -> None:
    """Run them in one `ip`."""
    subprocess.run(["ip", "-batch", "-"], input="\n".join(lines) + "\n", text=True, check=True)


def ip_show() -> None:
    """All that `ip` can tell of all links, as text that is thrown away."""
    subprocess.run(["ip", "-json", "-details", "link"], stdout=subprocess.DEVNULL, check=True)


async def ours(backend: LinkBackend, wanted: Sequence[L2OnHost]) -> dict[str, float]:
    """Realize, check, release."""

    async def each(act: Callable[[L2OnHost], Awaitable[object]]) -> float:
        began = time.perf_counter()
        for want in wanted:
            await act(want)
        return time.perf_counter() - began

    return {
        "create": await each(backend.realize),
        "check": await each(backend.check),
        "delete": await each(backend.release),
    }


def theirs(wanted: Sequence[L2OnHost]) -> dict[str, float]:
    """The same by `ip -batch`."""
    steps: dict[str, Callable[[], None]] = {
        "create": lambda: ip_batch([line for want in wanted for line in creation(want)]),
        "check": ip_show,
        "delete": lambda: ip_batch([line for want in wanted for line in deletion(want)]),
    }
    seconds = {}
    for name, step in steps.items():
        began = time.perf_counter()
        step()
        seconds[name] = time.perf_counter() - began
    return seconds


async def main(kind: str, count: int, rounds: int) -> None:
    """Print the seconds of each round, by who and what; the first round does not count."""
    wanted = wants(kind, count)
    if kind == "novlan":
        ip_batch(uplinks(count))
    found: dict[str, dict[str, list[float]]] = {"ours": {}, "theirs": {}}
    async with Netlink() as kernel:
        links = HostLinks(kernel)
        backend = NoVlanBackend(links) if kind == "novlan" else VlanBackend(links)
        for number in range(-1, rounds):
            order = ("ours", "theirs") if number % 2 else ("theirs", "ours")
            for who in order:
                seconds = await ours(backend, wanted) if who == "ours" else theirs(wanted)
                for name, value in seconds.items() if number >= 0 else ():
                    found[who].setdefault(name, []).append(value)
    print(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
