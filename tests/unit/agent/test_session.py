"""Hello and heartbeats."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import uuid4

import pytest

from viaduct_agent.driftreports import Drift
from viaduct_agent.holdings import Holdings
from viaduct_agent.links.model import Link
from viaduct_agent.links.table import LinkTable
from viaduct_agent.services.api import ServiceOnHost
from viaduct_agent.services.holdings import ServiceHoldings
from viaduct_agent.session import Session
from viaduct_common.bus import PublishFailed
from viaduct_common.digest import holdings_digest
from viaduct_common.messages.agent import HealthFact, HostDrift, HostHeartbeat, HostHello
from viaduct_common.messages.base import Report
from viaduct_common.messages.l2 import Difference
from viaduct_common.messages.services.commands import ServiceDrift

OWNER = uuid4()
SERVICE = uuid4()
LINKS = {
    link.name: link
    for link in (
        Link("eth1", mac="02:00:00:00:00:01", master="br_eth1", index=2),
        Link("br_eth1", "bridge", OWNER, 4, index=3),
        *(Link(f"vnet{n}", "tun", master="br_eth1", index=n + 10) for n in range(1200)),
        Link("eth2", index=5000),
    )
}
TABLE = LinkTable(LINKS.values())


@asynccontextmanager
async def running(send: Callable[[Report], object]) -> AsyncIterator[Session]:
    holdings = Holdings()
    holdings.adopt(TABLE.owners())
    services = ServiceHoldings()
    services.realized(ServiceOnHost(SERVICE, "flat", 3, {}))

    async def observe() -> LinkTable:
        return TABLE

    async def capabilities() -> list[str]:
        return ["L2VlanNetwork"]

    async def health() -> list[HealthFact]:
        return [HealthFact(name="br_netfilter", ok=True)]

    async def sent(report: Report) -> None:
        send(report)

    session = Session(
        uuid4(), version="1", capabilities=capabilities, holdings=holdings, services=services, send=sent,
        observe=observe, health=health, heartbeat_seconds=0.05,
    )  # fmt: skip
    task = asyncio.create_task(session.run())
    yield session
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - any condition, nothing signals it
            await asyncio.sleep(0.01)


async def test_hello_comes_first_and_again_after_a_reconnect() -> None:
    """With what it holds; NICs before ours before taps, a thousand at most."""
    reports: list[Report] = []
    async with running(reports.append) as session:
        await until(lambda: len(reports) > 3)
        await session.on_connect()
        await until(lambda: sum(isinstance(one, HostHello) for one in reports) == 2)
    hello = reports[0]
    assert isinstance(hello, HostHello)
    assert [(held.l2_network_uuid, held.generation) for held in hello.holds] == [(OWNER, 4)]
    assert [fact.name for fact in hello.interfaces[:3]] == ["eth1", "eth2", "br_eth1"]
    assert len(hello.interfaces) == 1000
    assert len(hello.to_json()) < 512 * 1024
    beats = [one for one in reports if isinstance(one, HostHeartbeat)]
    assert [beat.sequence for beat in beats] == list(range(1, len(beats) + 1))
    assert {beat.session_id for beat in beats} == {hello.session_id}
    assert beats[0].held == 1
    assert [(held.service_uuid, held.generation) for held in hello.services] == [(SERVICE, 3)]
    assert (beats[0].services_held, beats[0].services_digest) == (1, holdings_digest([(SERVICE, 3)]))
    assert beats[0].digest != holdings_digest([(OWNER, 4)])  # not proven yet


async def test_a_hello_that_was_not_taken_is_said_again() -> None:
    """The broker may come after us."""
    reports: list[Report] = []
    refusals = 2

    def send(report: Report) -> None:
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise PublishFailed("no broker")
        reports.append(report)

    async with running(send):
        await until(lambda: len(reports) >= 2)
    assert isinstance(reports[0], HostHello)
    assert isinstance(reports[1], HostHeartbeat)


async def test_drift_is_told_with_all_that_was_found_and_a_refusal_is_the_senders() -> None:
    """Whoever sends it keeps it until it can be told."""
    reports: list[Report] = []
    found = Difference(device="br_eth1", attribute="mtu", desired=1500, actual=1400)
    drift = Drift(OWNER, 4, (found,), repaired=True, storm=True, repairs=3)
    async with running(reports.append) as session:
        await session.drift(drift)
    (report,) = [one for one in reports if isinstance(one, HostDrift)]
    assert (report.l2_network_uuid, report.generation, report.differences) == (OWNER, 4, [found])
    assert (report.policy, report.repaired, report.storm, report.repairs) == ("repair", True, True, 3)

    reports.clear()
    async with running(reports.append) as session:
        await session.service_drift(replace(drift, uuid=SERVICE, generation=3))
        await session.service_drift(Drift(SERVICE, 3, repaired=True))  # a storm is over
    (of_service,) = [one for one in reports if isinstance(one, ServiceDrift)]
    assert (of_service.service_uuid, of_service.generation, of_service.differences) == (SERVICE, 3, [found])
    assert of_service.repaired

    def refuse(report: Report) -> None:
        raise PublishFailed("no broker")

    async with running(refuse) as session:
        with pytest.raises(PublishFailed):
            await session.drift(drift)
