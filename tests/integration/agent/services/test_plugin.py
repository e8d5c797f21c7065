"""The example of a network service on the running kernel: connections through HAProxy to VMs."""

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from viaduct_agent.services.api import ServiceOnHost
from viaduct_agent.services.supervise import load
from viaduct_agent.services.tools import ServiceTools
from viaduct_common.errors import InvalidRequest
from viaduct_lb_haproxy.backend import HaproxyBackend
from viaduct_lb_haproxy.fields import KIND

from .routed import INSIDE, INSIDE6, Routed, leg
from .world import World, leftovers, wait_until

pytestmark = pytest.mark.lab
FRONT, FRONT6 = INSIDE.format(5), INSIDE6.format(5)


@pytest.fixture
def routed(world: World) -> Routed:
    routed = Routed.make(world)
    routed.static()
    routed.one.serve(8080)
    routed.two.serve(8080)
    return routed


@pytest.fixture
async def backend(tools: ServiceTools, routed: Routed) -> AsyncIterator[HaproxyBackend]:
    backend = HaproxyBackend(tools)
    try:
        yield backend
    finally:
        await backend.remove(routed.service)
        await backend.aclose()


def want(routed: Routed, *numbers: int, generation: int = 1, port: int = 80) -> ServiceOnHost:
    """One listener, and the VMs that are its targets by their last numbers."""
    servers = [{"name": str(uuid4()), "ip": INSIDE.format(n), "port": 8080} for n in numbers]
    listener = {"name": "web", "protocol": "TCP", "port": port, "balance": "roundrobin", "servers": servers}
    spec: dict[str, Any] = {
        "l3_network_uuid": str(routed.l3),
        "leg": leg("br_in", "fa:00:00:00:03:01", [f"{FRONT}/24", f"{FRONT6}/64"]),
        "listeners": [listener],
    }
    return ServiceOnHost(routed.service, KIND, generation, json.loads(json.dumps(spec, default=str)))


async def test_connections_are_spread_over_the_targets(routed: Routed, backend: HaproxyBackend) -> None:
    """Of either IP version, from the one address; nothing but the listeners' ports is to be reached there."""
    assert await backend.apply(want(routed, 11, 12))
    for front in (FRONT, FRONT6):
        answered = {routed.one.ask(front, 80).split()[0] for _ in range(6)}
        assert answered == {routed.one.name, routed.two.name}
    assert routed.one.pings(FRONT)
    assert routed.one.hears_nothing(FRONT, 8080)


async def test_a_change_of_targets_keeps_established_connections(routed: Routed, backend: HaproxyBackend) -> None:
    await backend.apply(want(routed, 11))
    with routed.two.connect(FRONT, 80) as held:
        assert held.recv(100).decode().startswith(routed.one.name)
        assert await backend.apply(want(routed, 12, generation=2))
        wait_until(lambda: routed.two.ask(FRONT, 80).startswith(routed.two.name), "the new target")
        held.sendall(b"still there?")
        assert held.recv(100) == b"still there?"


async def test_it_is_checked_repaired_known_again_and_taken_away(
    routed: Routed, backend: HaproxyBackend, tools: ServiceTools
) -> None:
    wanted = want(routed, 11, 12, generation=7)
    await backend.apply(wanted)
    assert not (await backend.check(wanted)).differences
    assert await backend.apply(wanted) == ()
    directory = tools.state_dir / KIND / str(routed.service) / "haproxy"
    (directory / "haproxy.cfg").write_text("# another hand\n")
    assert [one.device for one in (await backend.check(wanted)).differences] == ["haproxy.cfg"]
    await backend.apply(wanted)

    again = HaproxyBackend(tools)
    try:
        assert await again.found() == {routed.service: 7}
        assert await again.apply(wanted) == ()
        _, process = load(directory)
        assert process is not None
        process.signal(9)
        wait_until(lambda: not process.alive, "the end of haproxy")
        assert (await again.check(wanted)).differences
        await again.apply(wanted)
        assert routed.one.ask(FRONT, 80)
        assert await again.remove(routed.service)
        assert await again.remove(routed.service) == ()
    finally:
        await again.aclose()
    assert leftovers(routed.world.host, str(routed.service)) == []
    assert not (tools.state_dir / KIND).exists()


async def test_a_spec_that_is_none_is_refused_with_the_field(routed: Routed, backend: HaproxyBackend) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        await backend.apply(want(routed, 11, port=70000))
    assert refusal.value.details["field"] == "listeners.0.port"
