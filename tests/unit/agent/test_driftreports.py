"""Reports of drift: not faster than allowed, merged by network, none lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import pytest
from prometheus_client import REGISTRY

from viaduct_agent import driftreports
from viaduct_agent.driftreports import Drift, DriftReports
from viaduct_common.bus import PublishFailed
from viaduct_common.messages.l2 import Difference

ONE, OTHER = uuid4(), uuid4()


def found(uuid: UUID, *devices: str, actual: int = 0, **values: object) -> Drift:
    differences = tuple(Difference(device=name, attribute="mtu", desired=1500, actual=actual) for name in devices)
    return Drift(uuid, 1, differences, **{"repaired": True, **values})  # type: ignore[arg-type]


def devices(drift: Drift) -> list[str]:
    return [one.device for one in drift.differences]


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def running(reports: DriftReports) -> AsyncIterator[None]:
    task = asyncio.create_task(reports.run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def sent_of(reports: list[Drift], count: int) -> list[Drift]:
    """The sent ones, as soon as there are so many."""
    async with asyncio.timeout(5):
        while len(reports) < count:  # noqa: ASYNC110 - nothing signals it
            await asyncio.sleep(0.01)
    return reports


async def test_what_waits_is_put_together_by_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every device once, as it was found last; the newest outcome; and it is counted."""
    sent: list[Drift] = []

    async def send(drift: Drift) -> None:
        sent.append(drift)

    merged = counted("viaduct_agent_drift_reports_total", outcome="merged")
    reports = DriftReports(send, per_second=100)
    reports.tell(found(ONE, "a", "b", actual=1, repairs=1))
    reports.tell(found(OTHER, "x"))
    reports.tell(found(ONE, "b", "c", actual=2, repairs=2, storm=True))
    async with running(reports):
        first, second = await sent_of(sent, 2)
    assert (devices(first), [one.actual for one in first.differences]) == (["a", "b", "c"], [1, 2, 2])
    assert (first.storm, first.repairs) == (True, 2)
    assert devices(second) == ["x"]
    assert counted("viaduct_agent_drift_reports_total", outcome="merged") == merged + 1


async def test_what_is_only_reported_is_a_state_of_which_the_last_counts() -> None:
    """A difference that is gone is not told as if it were there."""
    sent: list[Drift] = []

    async def send(drift: Drift) -> None:
        sent.append(drift)

    reports = DriftReports(send, per_second=100)
    reports.tell(found(ONE, "a", policy="report", repaired=False))
    reports.tell(found(ONE, "b", policy="report", repaired=False))
    async with running(reports):
        (only,) = await sent_of(sent, 1)
    assert devices(only) == ["b"]


async def test_no_report_is_lost_while_there_is_no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is put back before those that wait, together with what came meanwhile."""
    monkeypatch.setattr(driftreports, "_RETRY_SECONDS", 0.01)
    sent: list[Drift] = []
    refused = asyncio.Event()

    async def send(drift: Drift) -> None:
        if not refused.is_set():
            refused.set()
            reports.tell(found(ONE, "b"))
            raise PublishFailed("no broker")
        sent.append(drift)

    reports = DriftReports(send, per_second=100)
    reports.tell(found(ONE, "a"))
    reports.tell(found(OTHER, "x"))
    async with running(reports):
        first, second = await sent_of(sent, 2)
    assert devices(first) == ["a", "b"]
    assert devices(second) == ["x"]


async def test_a_flood_over_many_networks_goes_out_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """One, a pause, the next: told by the pauses that were asked for, not by a clock."""
    pauses: list[float] = []
    sent: list[Drift] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    async def send(drift: Drift) -> None:
        sent.append(drift)

    monkeypatch.setattr(driftreports.asyncio, "sleep", noted)
    reports = DriftReports(send, per_second=20)
    told = [uuid4() for _ in range(100)]
    for uuid in told:
        reports.tell(found(uuid, "a"))
    async with running(reports):
        async with asyncio.timeout(5):
            while len(sent) < 100:
                await sleep(0)
    assert [drift.uuid for drift in sent] == told
    assert pauses.count(0.05) >= 99


def test_a_report_has_room_for_a_thousand_differences_and_the_rest_is_counted() -> None:
    """A message has a limit."""
    before = counted("viaduct_agent_drift_differences_left_out_total")

    async def send(drift: Drift) -> None:
        raise AssertionError(drift)

    DriftReports(send).tell(found(ONE, *(f"d{number}" for number in range(1500))))
    assert counted("viaduct_agent_drift_differences_left_out_total") == before + 500
