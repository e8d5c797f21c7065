"""Distributed services on two hosts with one network between them, on the running kernel."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from viaduct_agent.links.netlink import Netlink
from viaduct_agent.services.api import ServiceOnHost
from viaduct_agent.services.flat import FlatBackend
from viaduct_agent.services.tools import ServiceTools
from viaduct_common.messages.services.specs import FlatSpec
from viaduct_common.naming import nic_device_name

from .routed import INSIDE, INSIDE6, PUBLIC, PUBLIC6, eip, leg, nic, vm_mac
from .world import INDEX, Machine, World, leftovers, wait_until

pytestmark = pytest.mark.lab

SERVER_MAC = "fa:00:00:00:03:01"
DHCP: dict[str, Any] = {
    "routers": [INSIDE.format(1), INSIDE6.format(1)],
    "dns_servers": [INSIDE.format(2)],
    "mtu": 1450,
}
DNS: dict[str, Any] = {
    "domain": "flat.example",
    "records": [
        {"host_name": "web", "ips": [INSIDE.format(11)]},
        {"host_name": "db", "ips": [INSIDE.format(12), INSIDE6.format(12)]},
    ],
}


def eip_leg(number: int) -> dict[str, Any]:
    addresses = [f"{PUBLIC.format(number)}/24", f"{PUBLIC6.format(number)}/64"]
    return leg("br_pub", f"fa:00:00:00:04:{number:02x}", addresses, [PUBLIC.format(100), PUBLIC6.format(100)])


def flat_eip(number: int, nic_number: int, public: str = PUBLIC, private: str = INSIDE) -> dict[str, Any]:
    rule = eip(public.format(number), private.format(nic_number))
    return {"rule": rule, "nic_uuid": UUID(int=nic_number << 96), "outside": eip_leg(number)}


@dataclass
class Host:
    """A host: its VM is .`number`, `tap` its device; `uplink` is the port to the other host."""

    machine: Machine
    vm: Machine
    number: int
    backend: FlatBackend
    state_dir: Path
    service: UUID = field(default_factory=uuid4)

    @property
    def nic(self) -> dict[str, Any]:
        name = "web" if self.number == 11 else "db"
        return {**nic(self.number, name), "nic_uuid": UUID(int=self.number << 96)}

    def want(self, generation: int = 1, **parts: Any) -> ServiceOnHost:
        inside = leg("br_in", SERVER_MAC, [f"{INSIDE.format(2)}/24", f"{INSIDE6.format(2)}/64"])
        values = {
            "l3_network_uuid": UUID(int=9),
            "inside": inside,
            "nics": [self.nic],
            "dhcp": DHCP,
            "dns": DNS,
            **parts,
        }
        spec = FlatSpec.model_validate(values)
        return ServiceOnHost(self.service, "flat", generation, spec.model_dump(mode="json"))


@dataclass
class Flat:
    world: World
    a: Host
    b: Host
    outer: Machine


@pytest.fixture
async def flat(world: World, directory: Path) -> AsyncIterator[Flat]:
    """`br_in` of both hosts are joined by a cable; `br_pub` of both and `outer` are joined in a third namespace."""
    outer, switch = world.machine("outer"), world.machine("switch")
    world.bridge("br_pub", switch)
    world.plug(outer, "br_pub", vm_mac(100), "ext", switch)
    outer.ip(f"address add {PUBLIC.format(100)}/24 dev eth0", f"address add {PUBLIC6.format(100)}/64 dev eth0 nodad")
    machines = {11: world.host, 12: world.machine("host2")}
    async with AsyncExitStack() as stack:
        hosts = []
        for number, machine in machines.items():
            for bridge in ("br_in", "br_pub"):
                world.bridge(bridge, machine)
            machine.ip(f"link add name pub type veth peer name pub{number} index {INDEX + number} netns {switch.name}")
            machine.ip("link set pub master br_pub up")
            switch.ip(f"link set pub{number} master br_pub up")
            vm = world.machine(f"vm{number}")
            world.plug(vm, "br_in", vm_mac(number), nic_device_name(UUID(int=number << 96)), machine)
            netlink = await stack.enter_async_context(Netlink(machine.name))
            state = directory / f"state{number}"
            host = Host(machine, vm, number, FlatBackend(ServiceTools(netlink, state, machine.name)), state)
            stack.push_async_callback(host.backend.aclose)
            stack.push_async_callback(host.backend.remove, host.service)
            hosts.append(host)
        world.host.ip(f"link add name uplink type veth peer name uplink index {INDEX} netns {machines[12].name}")
        for machine in machines.values():
            machine.ip("link set uplink master br_in up")
        yield Flat(world, *hosts, outer)


async def test_each_host_serves_its_own_nics_and_is_not_heard_from_another(flat: Flat) -> None:
    """Both VMs get their leases and names from the server of their host; on the cable there is nothing of it."""
    for host in (flat.a, flat.b):
        await host.backend.apply(host.want())
    words = "-i uplink -n -l ether host fa:00:00:00:03:01 or port 67 or port 547 or host 10.0.0.2 or host fd00::2"
    flat.a.machine.start(f"tcpdump {words} or icmp6[icmp6type]==icmp6-routeradvert or ether proto 0x88b5")
    wait_until(lambda: "listening on" in flat.a.machine.output(), "tcpdump")
    for host in (flat.a, flat.b):
        got = host.vm.dhcp()
        assert got["ip"] == INSIDE.format(host.number)
        assert host.vm.dhcp6()["new_ip6_address"] == INSIDE6.format(host.number)
        assert host.vm.pings(INSIDE.format(2))
        assert host.vm.pings(INSIDE6.format(2))
        assert host.vm.dig(f"@{INSIDE.format(2)}", "db.flat.example") == [INSIDE.format(12)]
        assert host.vm.json("neighbor show 10.0.0.2")[0]["lladdr"] == SERVER_MAC
    assert flat.a.vm.pings(INSIDE.format(12))
    assert not frames(flat.a.machine)
    await flat.b.backend.remove(flat.b.service)
    flat.b.vm.ip("neighbor flush dev eth0")
    assert not flat.b.vm.pings(INSIDE.format(2))
    assert flat.b.vm.dhcp(tries=2) == {}
    wait_until(lambda: frames(flat.a.machine), "what nothing keeps from the cable now")


def frames(machine: Machine) -> list[str]:
    """What tcpdump has shown."""
    return [line for line in machine.output().splitlines() if line[:2].isdigit()]


async def test_eip_is_served_on_its_nics_host(flat: Flat) -> None:
    """Both ways, for either version, between two EIPs of two hosts; no router is anywhere, and none is needed."""
    for host, number in ((flat.a, 3), (flat.b, 4)):
        v4, v6 = flat_eip(number, host.number), flat_eip(number, host.number, PUBLIC6, INSIDE6)
        await host.backend.apply(host.want(eips=[v4, v6]))
        assert host.vm.dhcp()["router"] == INSIDE.format(1)
        host.vm.ip(
            f"address add {INSIDE6.format(host.number)}/64 dev eth0 nodad",
            f"-6 route replace default via {INSIDE6.format(1)}",
        )
        host.vm.serve(80)
    flat.outer.serve(80)
    for public in (PUBLIC, PUBLIC6):
        assert flat.a.vm.ask(public.format(100), 80) == f"{flat.outer.name} {public.format(3)}"
        assert flat.b.vm.ask(public.format(100), 80) == f"{flat.outer.name} {public.format(4)}"
        assert flat.outer.ask(public.format(3), 80) == f"{flat.a.vm.name} {public.format(100)}"
        assert flat.a.vm.ask(public.format(4), 80) == f"{flat.b.vm.name} {public.format(3)}"
    assert flat.a.vm.ask(INSIDE.format(12), 80) == f"{flat.b.vm.name} {INSIDE.format(11)}"
    await flat.a.backend.apply(flat.a.want(2))
    assert flat.outer.hears_nothing(PUBLIC.format(3), 80)
    assert flat.a.vm.hears_nothing(PUBLIC.format(100), 80)


async def test_eip_that_moves_to_another_host_is_announced(flat: Flat) -> None:
    """Who knew the address at the old place finds it at the new one long before it would have forgotten."""
    flat.outer.serve(80)
    for host in (flat.a, flat.b):
        other = flat.b if host is flat.a else flat.a
        await other.backend.apply(other.want(1))
        one = flat_eip(3, host.number)
        one["outside"]["mac"] = f"fa:00:00:00:05:{host.number:02x}"
        await host.backend.apply(host.want(2, eips=[one]))
        host.vm.dhcp()
        host.vm.serve(80)
        wait_until(partial(flat.outer.ask, PUBLIC.format(3), 80), "an answer", seconds=5)
        assert flat.outer.ask(PUBLIC.format(3), 80) == f"{host.vm.name} {PUBLIC.format(100)}"


async def test_what_another_hand_changed_is_mended_and_the_next_agent_changes_nothing(flat: Flat) -> None:
    """The table on the bridge, too."""
    host = flat.a
    want = host.want(5, eips=[flat_eip(3, 11)])
    await host.backend.apply(want)
    assert (await host.backend.check(want)).differences == ()
    table = f"viaduct_flat_{host.service.hex}"
    for change in (f"nft delete table bridge {table}", f"nft flush chain bridge {table} crossing"):
        host.machine.run(change)
        assert (await host.backend.check(want)).differences
        assert await host.backend.apply(want)
        assert (await host.backend.check(want)).differences == ()
    await host.backend.aclose()
    assert await host.backend.found() == {host.service: 5}
    assert await host.backend.apply(want) == ()


async def test_removal_leaves_nothing(flat: Flat) -> None:
    """No namespace, process, device, table, file."""
    host = flat.a
    await host.backend.apply(host.want(eips=[flat_eip(3, 11)]))
    assert await host.backend.remove(host.service)
    assert await host.backend.remove(host.service) == ()
    assert leftovers(host.machine, str(host.service)) == []
    assert list(host.state_dir.rglob("*")) == []
    assert not [link for link in host.machine.json("link show") if link["ifname"].startswith("vs")]
