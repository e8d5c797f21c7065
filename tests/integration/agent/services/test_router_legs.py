"""Where a router's legs are plugged in, and which of several a packet leaves by."""

from collections.abc import AsyncIterator

import pytest

from viaduct_agent.services.router import VirtualRouterBackend
from viaduct_agent.services.tools import ServiceTools
from viaduct_common.errors import InvalidRequest, PreconditionFailed

from .routed import INSIDE, INSIDE6, PUBLIC, PUBLIC6, Routed, eip, forwarding, leg, vm_mac
from .world import World

pytestmark = pytest.mark.lab

OTHER, OTHER6 = "198.51.100.{}", "2001:db8:1::{}"


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


async def test_of_two_public_networks_each_connection_keeps_to_its_own(
    routed: Routed, backend: VirtualRouterBackend
) -> None:
    """SNAT by one, a NIC's EIP and forwarded ports by the other; answers leave by the leg that was asked. Who answers
    is far away in both networks, so that nothing but the routing tables decides."""
    routed.static()
    routed.world.bridge("br_far")
    far = routed.world.machine("far")
    routed.world.plug(far, "br_far", vm_mac(101), "far")
    far.ip(f"address add {OTHER.format(100)}/24 dev eth0", f"address add {OTHER6.format(100)}/64 dev eth0 nodad")
    for machine in (routed.outer, far):
        machine.ip("address add 192.0.2.1/32 dev lo", "-6 address add 2001:db8:9::1/128 dev lo")
        machine.serve(80)
    publics = [f"{OTHER.format(n)}/24" for n in (3, 4)] + [f"{OTHER6.format(n)}/64" for n in (3, 4)]
    second = leg("br_far", "fa:00:00:00:02:02", publics, [OTHER.format(100), OTHER6.format(100)])
    spec = routed.spec(
        snat=[PUBLIC.format(2), PUBLIC6.format(2)],
        eips=[eip(OTHER.format(3), INSIDE.format(12)), eip(OTHER6.format(3), INSIDE6.format(12))],
        port_forwardings=[
            forwarding(OTHER.format(4), (8080, 8080), INSIDE.format(11), 80),
            forwarding(OTHER6.format(4), (8080, 8080), INSIDE6.format(11), 80),
        ],
    )
    values = spec.model_dump(mode="json")
    values["outside"].append(
        type(spec).model_validate({**values, "outside": [second]}).model_dump(mode="json")["outside"][0]
    )
    await backend.apply(routed.want(type(spec).model_validate(values)))
    routed.one.serve(80)
    routed.two.serve(80)
    for target, public, other in (("192.0.2.1", PUBLIC, OTHER), ("2001:db8:9::1", PUBLIC6, OTHER6)):
        assert routed.one.ask(target, 80) == f"{routed.outer.name} {public.format(2)}"
        assert routed.two.ask(target, 80) == f"{far.name} {other.format(3)}"
        far.ip(f"route replace {other.format(4)} dev eth0 src {target}")
        far.ip(f"route replace {other.format(3)} dev eth0 src {target}")
        assert far.ask(other.format(4), 8080) == f"{routed.one.name} {target}"
        assert far.ask(other.format(3), 80) == f"{routed.two.name} {target}"


async def test_public_address_on_no_leg_and_a_bridge_that_is_missing_are_refused(
    routed: Routed, backend: VirtualRouterBackend
) -> None:
    """The error names the address, or the bridge; once that is there all is made."""
    with pytest.raises(InvalidRequest, match=PUBLIC.format(9)):
        await backend.apply(routed.want(routed.spec(snat=[PUBLIC.format(9)])))
    assert await backend.found() == {}
    routed.world.host.ip("link del br_pub")
    with pytest.raises(PreconditionFailed) as caught:
        await backend.apply(routed.want(routed.spec(snat=[PUBLIC.format(2)])))
    assert caught.value.details["device"] == "br_pub"
    assert await backend.found() == {}
    routed.world.bridge("br_pub")
    await backend.apply(routed.want(routed.spec(snat=[PUBLIC.format(2)])))
    assert (await backend.check(routed.want(routed.spec(snat=[PUBLIC.format(2)])))).differences == ()


async def test_spec_of_another_kind_is_refused(routed: Routed, backend: VirtualRouterBackend) -> None:
    """INVALID_REQUEST with the field, and nothing is made."""
    want = routed.want(routed.spec())
    broken = type(want)(want.uuid, want.kind, want.generation, {**want.spec, "inside": {"port": 3}})
    with pytest.raises(InvalidRequest) as caught:
        await backend.apply(broken)
    assert caught.value.details["field"].startswith("inside")
    assert await backend.found() == {}
