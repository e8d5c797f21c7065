"""What another hand does to the rules is heard of, and nothing is made of what we do ourselves."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from viaduct_agent.services.abilities import Watching
from viaduct_common.messages.services.security_specs import SECURITY_NIC

from .filters import Filter, members, nic, rule, rules
from .machines import Site, run

pytestmark = pytest.mark.lab
SOON_SECONDS = 10.0


@pytest.fixture
async def heard(filter_: Filter) -> AsyncIterator["asyncio.Queue[UUID]"]:
    backend = filter_.backends[SECURITY_NIC]
    assert isinstance(backend, Watching)
    queue: asyncio.Queue[UUID] = asyncio.Queue()

    async def listen() -> None:
        async for uuid in backend.changes():
            queue.put_nowait(uuid)

    listening = asyncio.create_task(listen())
    yield queue
    listening.cancel()
    await asyncio.wait([listening])


def change(site: Site, words: str) -> None:
    """As any program of the host."""
    run("ip", "netns", "exec", site.host, "nft", *words.split())


async def test_rules_that_are_flushed_are_heard_of(site: Site, filter_: Filter, heard: "asyncio.Queue[UUID]") -> None:
    wants = (
        nic(site.machines[0], ["web"]),
        rules("web", rule(ports=[(80, 80)], group="web")),
        members("web", ["10.0.0.9"]),
    )
    await filter_.apply(*wants)
    await asyncio.to_thread(change, site, "flush ruleset")
    async with asyncio.timeout(SOON_SECONDS):
        found = {await heard.get() for _ in wants}
    assert found == {want.uuid for want in wants}
    await filter_.apply(*wants)

    await asyncio.to_thread(change, site, "add table inet somebody")
    await asyncio.to_thread(change, site, "flush chain bridge viaduct_security guards")
    async with asyncio.timeout(SOON_SECONDS):
        assert await heard.get() in found
