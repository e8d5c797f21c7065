"""DHCP, DNS and router advertisements, as clients that we did not write see them."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from viaduct_agent.services.router import VirtualRouterBackend
from viaduct_agent.services.supervise import load
from viaduct_agent.services.tools import ServiceTools

from .routed import INSIDE, INSIDE6, PUBLIC, Routed, nic, vm_mac
from .world import World, wait_until

pytestmark = pytest.mark.lab

ROUTES = [{"prefix": "192.168.50.0/24", "next_hop": INSIDE.format(9)}]
DHCP: dict[str, Any] = {
    "routers": [INSIDE.format(1), INSIDE6.format(1)],
    "dns_servers": [INSIDE.format(1), "9.9.9.9", INSIDE6.format(1)],
    "domain": "cloud.example",
    "routes": ROUTES,
    "mtu": 1450,
    "lease_seconds": 120,
}
DNS: dict[str, Any] = {
    "domain": "cloud.example",
    "forwarders": [PUBLIC.format(100)],
    "records": [
        {"host_name": "web", "ips": [INSIDE.format(11), INSIDE6.format(11)]},
        {"host_name": "db", "ips": [INSIDE.format(12)]},
    ],
}


@pytest.fixture
def routed(world: World) -> Routed:
    return Routed.make(world)


@pytest.fixture
async def backend(tools: ServiceTools, routed: Routed) -> AsyncIterator[VirtualRouterBackend]:
    backend = VirtualRouterBackend(tools)
    try:
        yield backend
    finally:
        await backend.remove(routed.service)
        await backend.aclose()


def directory(tools: ServiceTools, routed: Routed) -> Path:
    return tools.state_dir / "virtualRouter" / str(routed.service) / "dnsmasq"


def pid(tools: ServiceTools, routed: Routed) -> int:
    """0 while it is started."""
    _, process = load(directory(tools, routed))
    return 0 if process is None else process.pid


async def test_known_nics_get_their_addresses_and_options_and_strangers_get_nothing(
    routed: Routed, backend: VirtualRouterBackend
) -> None:
    """A NIC that does not carry the default route gets neither routers nor DNS servers; a lease is renewed."""
    nics = [nic(11, "web"), nic(12, "db", default=False)]
    await backend.apply(routed.want(routed.spec(nics=nics, dhcp=DHCP, dns=DNS)))
    got = routed.one.dhcp()
    assert got["ip"] == INSIDE.format(11)
    assert got["mask"] == "24"
    assert got["router"] == INSIDE.format(1)
    assert got["dns"] == f"{INSIDE.format(1)} 9.9.9.9"
    assert (got["mtu"], got["domain"], got["hostname"]) == ("1450", "cloud.example", "web")
    routes = f"192.168.50.0/24 {INSIDE.format(9)} 0.0.0.0/0 {INSIDE.format(1)}"
    assert got["staticroutes"] == routes
    assert got["lease"] == "120"
    assert got["msstaticroutes"] == routes
    assert routed.one.dhcp()["ip"] == INSIDE.format(11)
    second = routed.two.dhcp()
    assert second["ip"] == INSIDE.format(12)
    assert "router" not in second
    assert "dns" not in second
    assert second["staticroutes"] == f"192.168.50.0/24 {INSIDE.format(9)}"
    stranger = routed.world.machine("stranger")
    routed.world.plug(stranger, "br_in", vm_mac(77), "vm77")
    assert stranger.dhcp(tries=2) == {}
    assert stranger.dhcp("-r", INSIDE.format(11), tries=2) == {}


async def test_ipv6_address_by_dhcp_and_the_router_by_its_advertisements(
    routed: Routed, backend: VirtualRouterBackend
) -> None:
    """DHCPv6 gives a NIC its own address, and DNS servers; RA the default route and the MTU."""
    await backend.apply(routed.want(routed.spec(nics=[nic(11, "web")], dhcp=DHCP, dns=DNS)))
    routed.one.run("sysctl -q -w net.ipv6.conf.eth0.accept_ra=2")
    routed.one.ip("link set eth0 down", "link set eth0 up")  # it asks for a router then
    wait_until(lambda: routed.one.json("-6 route show default"), "the default route")
    assert routed.one.run("sysctl -n net.ipv6.conf.eth0.mtu").strip() == "1450"
    got = routed.one.dhcp6()
    assert got["new_ip6_address"] == INSIDE6.format(11)
    assert got["new_dhcp6_name_servers"] == INSIDE6.format(1)
    assert got["new_dhcp6_domain_search"].rstrip(".") == "cloud.example"
    assert routed.one.pings(INSIDE6.format(1))
    assert routed.two.dhcp6() == {}


async def test_names_forward_and_reverse_and_all_else_from_the_forwarder(
    routed: Routed, backend: VirtualRouterBackend
) -> None:
    """`dig` gets both; a changed record and another forwarder need no new process."""
    conf = routed.outer.directory / "dns"
    arguments = "--no-daemon --conf-file=/dev/null --no-resolv --no-hosts --bind-interfaces --interface=eth0"
    routed.outer.start(f"dnsmasq {arguments} --pid-file={conf} --address=/outside.example/198.51.100.7")
    routed.static()
    spec = routed.spec(nics=[nic(11, "web")], dhcp=DHCP, dns=DNS, snat=[PUBLIC.format(2)])
    await backend.apply(routed.want(spec))
    for server in (INSIDE.format(1), INSIDE6.format(1)):
        assert routed.one.dig(f"@{server}", "web.cloud.example") == [INSIDE.format(11)]
        assert routed.one.dig(f"@{server}", "web", "AAAA") == [INSIDE6.format(11)]
        assert routed.one.dig(f"@{server}", "-x", INSIDE.format(12)) == ["db.cloud.example."]
        assert routed.one.dig(f"@{server}", "-x", INSIDE6.format(11)) == ["web.cloud.example."]
    dns = f"@{INSIDE.format(1)}"
    wait_until(lambda: routed.one.dig(dns, "www.outside.example") == ["198.51.100.7"], "the outside name")
    assert routed.one.dig(dns, "+tcp", "www.outside.example") == ["198.51.100.7"]
    records = [{"host_name": "db", "ips": [INSIDE.format(13)]}]
    changed = routed.spec(nics=[nic(11, "web")], dhcp=DHCP, dns={**DNS, "records": records}, snat=[PUBLIC.format(2)])
    (done,) = [step for step in await backend.apply(routed.want(changed)) if "kill" in step]
    assert done.startswith("kill -HUP")
    wait_until(lambda: routed.one.dig(dns, "db.cloud.example") == [INSIDE.format(13)], "the new record")
    assert not routed.outer.dig(f"@{PUBLIC.format(2)}", "db.cloud.example")


async def test_address_of_a_nic_that_is_gone_is_free_for_another(
    routed: Routed, backend: VirtualRouterBackend, tools: ServiceTools
) -> None:
    """A new NIC is known after SIGHUP; one whose address another had gets it in spite of the lease."""
    await backend.apply(routed.want(routed.spec(nics=[nic(11, "web")], dhcp=DHCP)))
    first = pid(tools, routed)
    assert routed.one.dhcp()["ip"] == INSIDE.format(11)
    assert routed.two.dhcp(tries=1) == {}
    await backend.apply(routed.want(routed.spec(nics=[nic(11, "web"), nic(12, "db")], dhcp=DHCP), 2))
    assert pid(tools, routed) == first
    assert routed.two.dhcp()["ip"] == INSIDE.format(12)
    moved = {**nic(11, "web"), "mac": vm_mac(12)}
    await backend.apply(routed.want(routed.spec(nics=[moved], dhcp=DHCP), 3))
    assert routed.two.dhcp()["ip"] == INSIDE.format(11)
    assert routed.one.dhcp(tries=2) == {}


async def test_killed_dnsmasq_is_started_anew_also_by_the_next_agent(
    routed: Routed, backend: VirtualRouterBackend, tools: ServiceTools
) -> None:
    """By the agent that started it, and by one that only found it."""
    want = routed.want(routed.spec(nics=[nic(11, "web")], dhcp=DHCP))
    await backend.apply(want)

    async def kill_and_wait(backend: VirtualRouterBackend) -> None:
        killed = pid(tools, routed)
        os.kill(killed, signal.SIGKILL)
        async with asyncio.timeout(10):
            assert await anext(backend.changes()) == routed.service
        await wait_for(lambda: pid(tools, routed) not in {0, killed})
        assert routed.one.dhcp()["ip"] == INSIDE.format(11)

    await kill_and_wait(backend)
    await backend.aclose()
    again = VirtualRouterBackend(tools)
    await again.found()
    await kill_and_wait(again)
    assert (await again.check(want)).differences == ()
    await again.aclose()


async def wait_for(fact: Any) -> None:
    await asyncio.to_thread(wait_until, fact, "it")


async def test_agent_that_ends_leaves_it_serving_and_the_next_changes_nothing(
    routed: Routed, backend: VirtualRouterBackend, tools: ServiceTools
) -> None:
    """The same process goes on."""
    want = routed.want(routed.spec(nics=[nic(11, "web")], dhcp=DHCP, dns=DNS))
    await backend.apply(want)
    running = pid(tools, routed)
    await backend.aclose()
    assert routed.one.dhcp()["ip"] == INSIDE.format(11)
    again = VirtualRouterBackend(tools)
    await again.found()
    assert await again.apply(want) == ()
    assert pid(tools, routed) == running
    await again.aclose()
