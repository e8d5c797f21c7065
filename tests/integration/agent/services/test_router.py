"""A router on the running kernel: what real clients and servers see of it."""

import signal
import socket
from collections.abc import AsyncIterator

import pytest

from viaduct_agent.services.router import VirtualRouterBackend
from viaduct_agent.services.supervise import load
from viaduct_agent.services.tools import ServiceTools

from .routed import INSIDE, INSIDE6, PUBLIC, PUBLIC6, Routed, eip, forwarding, nic
from .world import World, leftovers, wait_until

pytestmark = pytest.mark.lab


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


async def test_many_hide_behind_one_public_address(routed: Routed, backend: VirtualRouterBackend) -> None:
    """SNAT: a server outside sees the router's address, of either version; nothing comes in by itself."""
    routed.static()
    spec = routed.spec(snat=[PUBLIC.format(2), PUBLIC6.format(2)])
    await backend.apply(routed.want(spec))
    routed.outer.serve(80)
    routed.one.serve(80)
    for public, own in ((PUBLIC, PUBLIC.format(2)), (PUBLIC6, PUBLIC6.format(2))):
        assert routed.one.ask(public.format(100), 80) == f"{routed.outer.name} {own}"
    routed.outer.ip(f"route add 10.0.0.0/24 via {PUBLIC.format(2)}")
    assert routed.outer.hears_nothing(INSIDE.format(11), 80)


async def test_without_snat_a_private_address_is_not_seen_outside(
    routed: Routed, backend: VirtualRouterBackend
) -> None:
    """Not even its packets."""
    routed.static()
    await backend.apply(routed.want(routed.spec()))
    routed.outer.ip(f"route add 10.0.0.0/24 via {PUBLIC.format(2)}")
    assert routed.one.pings(INSIDE.format(1))
    assert not routed.one.pings(PUBLIC.format(100))


async def test_eip_is_its_nics_both_ways_and_from_inside(routed: Routed, backend: VirtualRouterBackend) -> None:
    """Others see the NIC as its EIP, reach it there, and so does a neighbour inside; IPv6 as IPv4."""
    routed.static()
    eips = [eip(PUBLIC.format(3), INSIDE.format(11)), eip(PUBLIC6.format(3), INSIDE6.format(11))]
    spec = routed.spec(publics=(2, 3), snat=[PUBLIC.format(2), PUBLIC6.format(2)], eips=eips)
    await backend.apply(routed.want(spec))
    routed.outer.serve(80)
    routed.one.serve(80)
    for inside, public in ((INSIDE, PUBLIC), (INSIDE6, PUBLIC6)):
        assert routed.one.ask(public.format(100), 80) == f"{routed.outer.name} {public.format(3)}"
        assert routed.two.ask(public.format(100), 80) == f"{routed.outer.name} {public.format(2)}"
        assert routed.outer.ask(public.format(3), 80) == f"{routed.one.name} {public.format(100)}"
        assert routed.two.ask(public.format(3), 80) == f"{routed.one.name} {inside.format(1)}"
        assert routed.one.ask(public.format(3), 80) == f"{routed.one.name} {public.format(3)}"
    await backend.apply(routed.want(routed.spec(publics=(2, 3), snat=[PUBLIC.format(2)]), 2))
    assert routed.outer.hears_nothing(PUBLIC.format(3), 80)
    assert routed.one.ask(PUBLIC.format(100), 80) == f"{routed.outer.name} {PUBLIC.format(2)}"


async def test_ports_are_forwarded_for_whom_they_are_allowed(routed: Routed, backend: VirtualRouterBackend) -> None:
    """One port, a range with another start, a range as it is; a source that is not in `allowed_cidr` gets nothing."""
    routed.static()
    routed.outer.ip(f"address add {PUBLIC.format(101)}/24 dev eth0")
    rules = [
        forwarding(PUBLIC.format(3), (8080, 8080), INSIDE.format(11), 80),
        forwarding(PUBLIC.format(3), (2000, 2009), INSIDE.format(12), 3000),
        forwarding(PUBLIC.format(3), (4000, 4009), INSIDE.format(12), 4000, protocol="UDP"),
        forwarding(PUBLIC.format(3), (22, 22), INSIDE.format(11), 22, allowed_cidr=f"{PUBLIC.format(101)}/32"),
        forwarding(PUBLIC6.format(3), (2000, 2009), INSIDE6.format(12), 3000),
        forwarding(PUBLIC6.format(3), (8080, 8080), INSIDE6.format(11), 80),
    ]
    await backend.apply(routed.want(routed.spec(publics=(3,), port_forwardings=rules)))
    routed.one.serve(80, 22)
    routed.two.serve(3003)
    routed.two.serve(4009, udp=True)
    source = PUBLIC.format(100)
    assert routed.outer.ask(PUBLIC.format(3), 8080) == f"{routed.one.name} {source}"
    assert routed.outer.ask(PUBLIC.format(3), 2003) == f"{routed.two.name} {source}"
    assert routed.outer.ask(PUBLIC.format(3), 4009, udp=True) == f"{routed.two.name} {source}"
    assert routed.outer.ask(PUBLIC6.format(3), 2003) == f"{routed.two.name} {PUBLIC6.format(100)}"
    assert routed.outer.ask(PUBLIC6.format(3), 8080) == f"{routed.one.name} {PUBLIC6.format(100)}"
    assert routed.one.ask(PUBLIC.format(3), 2003) == f"{routed.two.name} {INSIDE.format(1)}"
    assert routed.outer.hears_nothing(PUBLIC.format(3), 80)
    assert routed.outer.hears_nothing(PUBLIC.format(3), 22)
    routed.outer.ip(f"route add {PUBLIC.format(3)} dev eth0 src {PUBLIC.format(101)}")
    assert routed.outer.ask(PUBLIC.format(3), 22) == f"{routed.one.name} {PUBLIC.format(101)}"


async def test_small_change_interrupts_nothing_and_a_rule_that_goes_ends_its_connections(
    routed: Routed, backend: VirtualRouterBackend
) -> None:
    """A connection by one rule lives while others come and go, and dies with its own; the legs are the same ones."""
    routed.static()
    rule = forwarding(PUBLIC.format(3), (7000, 7000), INSIDE.format(11), 7)
    other = forwarding(PUBLIC.format(3), (7010, 7019), INSIDE.format(11), 4)
    want = routed.want(routed.spec(publics=(3,), port_forwardings=[rule]))
    await backend.apply(want)
    legs = {leg.outer: link_index(routed, leg.outer) for leg in backend.layout(want).space.legs}
    routed.one.serve(7)
    with routed.outer.connect(PUBLIC.format(3), 7000) as stream:
        assert says(stream, b"") == f"{routed.one.name} {PUBLIC.format(100)}".encode()
        assert await backend.apply(routed.want(routed.spec(publics=(3, 4), port_forwardings=[rule, other]), 2))
        assert says(stream, b"still there") == b"still there"
        assert {outer: link_index(routed, outer) for outer in legs} == legs
        with routed.outer.connect(PUBLIC.format(3), 7013) as kept:
            assert says(kept, b"")
            await backend.apply(routed.want(routed.spec(publics=(3, 4), port_forwardings=[other]), 3))
            assert says(kept, b"me too") == b"me too"
            stream.settimeout(1.2)
            with pytest.raises(TimeoutError):
                says(stream, b"still there")


def link_index(routed: Routed, device: str) -> int:
    return int(routed.world.host.json(f"link show dev {device}")[0]["ifindex"])


def says(stream: socket.socket, text: bytes) -> bytes:
    stream.sendall(text)
    return stream.recv(100)


async def test_new_agent_finds_it_and_changes_nothing(
    routed: Routed, backend: VirtualRouterBackend, tools: ServiceTools
) -> None:
    """What was applied is applied, whichever process asks; the generation is that of the last."""
    want = routed.want(routed.spec(snat=[PUBLIC.format(2)]), 7)
    assert await backend.found() == {}
    assert not (await backend.check(want)).present
    assert await backend.apply(want)
    await backend.aclose()
    again = VirtualRouterBackend(tools)
    assert await again.found() == {routed.service: 7}
    assert await again.apply(want) == ()
    checked = await again.check(want)
    assert (checked.present, checked.differences, checked.steps) == (True, (), ())
    await again.aclose()


async def test_after_a_boot_of_the_host_nothing_is_taken_for_applied(
    routed: Routed, backend: VirtualRouterBackend, tools: ServiceTools
) -> None:
    """Files are there, and nothing else: the generation is 0, and all is made anew, on bridges that are new as well."""
    want = routed.want(routed.spec(snat=[PUBLIC.format(2)], nics=[nic(11, "web")], dhcp={"mtu": 1450}), 7)
    await backend.apply(want)
    await backend.aclose()
    _, process = load(tools.state_dir / "virtualRouter" / str(routed.service) / "dnsmasq")
    assert process is not None
    process.signal(signal.SIGKILL)
    routed.world.host.ip(*(f"link del {leg.outer}" for leg in backend.layout(want).space.legs))
    routed.world.host.run(f"ip netns del vr-{routed.service}")
    again = VirtualRouterBackend(tools)
    assert await again.found() == {routed.service: 0}
    await again.apply(want)
    assert await again.found() == {routed.service: 7}
    assert (await again.check(want)).differences == ()
    assert routed.one.dhcp()["ip"] == INSIDE.format(11)
    await again.aclose()


CHANGES = [
    "ip netns exec {space} ip address del 10.0.0.1/24 dev inside",
    "ip netns exec {space} ip address add 10.9.9.9/24 dev inside",
    "ip netns exec {space} ip route del default",
    "ip netns exec {space} ip rule flush",
    "ip netns exec {space} ip link set inside mtu 1400",
    "ip netns exec {space} ip link set inside down",
    "ip netns exec {space} ip link del inside",
    "ip netns exec {space} sysctl -w net.ipv4.ip_forward=0",
    "ip netns exec {space} nft flush chain inet viaduct translate_out",
    "ip netns exec {space} nft delete table inet viaduct",
    "ip netns exec {space} nft add rule inet viaduct through accept",
    "ip netns del {space}",
    "ip link set {outer} nomaster",
    "ip link set {outer} down",
    "ip link set {outer} alias x",
    "ip link set {outer} mtu 1300",
    "ip link del {outer}",
]


async def test_whatever_another_hand_changed_is_found_and_mended(routed: Routed, backend: VirtualRouterBackend) -> None:
    """`check` tells, `apply` mends, and then `check` has nothing to tell."""
    routed.static()
    want = routed.want(routed.spec(snat=[PUBLIC.format(2), PUBLIC6.format(2)]))
    await backend.apply(want)
    routed.outer.serve(80)
    names = {"space": f"vr-{routed.service}", "outer": backend.layout(want).space.legs[0].outer}
    for change in CHANGES:
        command = change.format(**names)
        routed.world.host.run(command)
        checked = await backend.check(want)
        assert checked.differences or not checked.present, command
        assert await backend.apply(want), command
        assert (await backend.check(want)).differences == (), command
        wait_until(lambda: routed.one.ask(PUBLIC.format(100), 80), f"traffic after {command}")


async def test_removal_leaves_nothing(routed: Routed, backend: VirtualRouterBackend, tools: ServiceTools) -> None:
    """No namespace, process, device, file; twice is no error, and a new agent can do it by the mark alone."""
    devices = routed.world.host.run("ip -o link").count("\n")
    await backend.apply(routed.want(routed.spec(snat=[PUBLIC.format(2)])))
    again = VirtualRouterBackend(tools)
    assert await again.remove(routed.service)
    assert await again.remove(routed.service) == ()
    assert await again.found() == {}
    assert leftovers(routed.world.host, str(routed.service)) == []
    assert routed.world.host.run("ip -o link").count("\n") == devices
    assert list(tools.state_dir.rglob("*")) == []
    await again.aclose()
