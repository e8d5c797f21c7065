"""The guard over services: found, repaired, reported; not fought over."""

import asyncio
import time
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from unit.agent.services.memory import Host
from unit.agent.test_session import until

from viaduct_agent.driftreports import Drift, Policy
from viaduct_agent.fights import Fights
from viaduct_agent.links.watch import Changed
from viaduct_agent.services import guard as module
from viaduct_agent.services.api import ServiceOnHost
from viaduct_agent.services.guard import ServiceGuard
from viaduct_agent.services.tools import ServiceTools
from viaduct_common.digest import holdings_digest


class Guarded:
    """A guard over one service that was applied."""

    def __init__(self, tools: ServiceTools, *, policy: Policy = "repair", sweep_seconds: float = 3600.0) -> None:
        self.host = Host(tools)
        self.want = ServiceOnHost(uuid4(), "memory", 1, {"size": 1})
        self.reports: asyncio.Queue[Drift] = asyncio.Queue()
        self.fights = Fights()
        self.guard = ServiceGuard(
            self.host.backends, self.host.holdings, self.host.lanes, self.reports.put_nowait, policy=policy,
            fights=self.fights, sweep_seconds=sweep_seconds,
        )  # fmt: skip

    async def __aenter__(self) -> "Guarded":
        await self.host.backend.apply(self.want)
        self.host.holdings.realized(self.want)
        self._task = asyncio.create_task(self.guard.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def lose(self) -> None:
        del self.host.backend.there[self.want.uuid]

    @property
    def looks(self) -> int:
        return sum(call == "check" for call, _ in self.host.backend.calls)

    @property
    def is_put_off(self) -> bool:
        return (self.guard._guarding._agenda.next_at() or 0) > time.monotonic() + 0.1

    async def report(self) -> Drift:
        return await asyncio.wait_for(self.reports.get(), 5)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SETTLE_SECONDS", 0.0)


@pytest.fixture
async def guarded(tools: ServiceTools) -> AsyncIterator[Guarded]:
    async with Guarded(tools) as one:
        yield one


@pytest.mark.parametrize("told", ["link", "overflow", "backend"])
async def test_what_is_gone_is_made_again_and_reported(guarded: Guarded, told: str) -> None:
    """By an event of a link with its mark, after lost events, or by a backend's own news."""
    guarded.lose()
    uuid = guarded.want.uuid
    if told == "backend":
        guarded.host.backend.news.put_nowait(uuid)
    else:
        guarded.guard.note(Changed(overflow=True) if told == "overflow" else Changed(services=frozenset({uuid})))
    drift = await guarded.report()
    assert (drift.uuid, drift.generation, drift.repaired, drift.error) == (uuid, 1, True, None)
    assert [(one.device, one.attribute, one.actual) for one in drift.differences] == [("memory", "service", None)]
    assert guarded.host.there == {uuid: 1}


async def test_what_no_event_tells_is_found_by_the_sweep(tools: ServiceTools) -> None:
    """Also what only differs."""
    async with Guarded(tools, sweep_seconds=0.05) as guarded:
        guarded.host.backend.there[guarded.want.uuid] = (1, {"size": 2})
        drift = await guarded.report()
        assert [one.attribute for one in drift.differences] == ["spec"]
        assert guarded.host.backend.there[guarded.want.uuid] == (1, {"size": 1})


async def test_events_of_strangers_and_our_own_changes_lead_to_no_report(guarded: Guarded) -> None:
    """What is as it should be is compared, and left."""
    guarded.guard.note(Changed(services=frozenset({uuid4(), guarded.want.uuid})))
    guarded.lose()
    guarded.guard.note(Changed(services=frozenset({guarded.want.uuid})))
    await guarded.report()
    assert guarded.reports.empty()
    assert ("apply", guarded.want.uuid) == guarded.host.backend.calls[-1]


async def test_a_repair_that_fails_is_told_and_tried_again(guarded: Guarded) -> None:
    """Meanwhile the digest says that it is not there."""
    uuid = guarded.want.uuid
    guarded.lose()
    guarded.host.backend.broken.add(uuid)
    guarded.guard.note(Changed(services=frozenset({uuid})))
    failed = await guarded.report()
    assert failed.error is not None
    assert (failed.repaired, failed.error.code) == (False, "BACKEND_FAILED")
    assert guarded.host.holdings.digest() == holdings_digest([])
    guarded.host.backend.broken.clear()
    assert (await guarded.report()).repaired
    assert guarded.host.holdings.digest() == holdings_digest([(uuid, 1)])


async def test_repairs_of_what_drifts_again_and_again_are_put_off(guarded: Guarded) -> None:
    """The second comes no sooner than a second after the first."""
    uuid = guarded.want.uuid
    for _ in range(2):
        guarded.lose()
        guarded.guard.note(Changed(services=frozenset({uuid})))
        await guarded.report()
    times = list(guarded.fights._fights[uuid].repairs)
    assert times[1] - times[0] >= 1.0


async def test_with_the_policy_report_nothing_is_repaired(tools: ServiceTools) -> None:
    """Told once."""
    async with Guarded(tools, policy="report") as guarded:
        guarded.lose()
        for looks in (1, 2):
            guarded.guard.note(Changed(services=frozenset({guarded.want.uuid})))
            await until(lambda: guarded.looks == looks)  # noqa: B023 - awaited at once
        drift = await guarded.report()
        assert (drift.repaired, drift.policy) == (False, "report")
        assert guarded.reports.empty()
        assert guarded.host.there == {}


async def test_a_look_waits_for_the_command_that_is_at_it(guarded: Guarded) -> None:
    """Whoever is at it verifies it."""
    uuid = guarded.want.uuid
    async with guarded.host.lanes.enter(uuid):
        guarded.lose()
        guarded.guard.note(Changed(services=frozenset({uuid})))
        await until(lambda: guarded.is_put_off)
        assert guarded.looks == 0
    assert (await guarded.report()).repaired
