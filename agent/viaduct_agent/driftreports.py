"""What was found of drift, told to the manager: at most so many reports a second, those of one network put together."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Literal
from uuid import UUID

import structlog
from prometheus_client import Counter

from viaduct_common.bus.failures import BusError
from viaduct_common.messages.base import ErrorBody
from viaduct_common.messages.l2 import Difference

log = structlog.get_logger()
REPORTS = Counter("viaduct_agent_drift_reports", "Reports of drift, by what became of them", ["outcome"])
LEFT_OUT = Counter("viaduct_agent_drift_differences_left_out", "Differences that had no room in a report")
PER_SECOND = 20.0
_MOST_DIFFERENCES = 1000  # some 150 bytes each; a message may have a MiB
_RETRY_SECONDS = 1.0

Policy = Literal["repair", "report"]


@dataclass(frozen=True, slots=True)
class Drift:
    """What a look found of one network, and what was done about it: the fields of `HostDrift`.

    Without differences it tells an end: with policy `report` of what was told before, else of a storm.
    """

    uuid: UUID
    generation: int
    differences: tuple[Difference, ...] = ()
    repaired: bool = False
    policy: Policy = "repair"
    storm: bool = False
    repairs: int = 0
    error: ErrorBody | None = None


class DriftReports:
    """`tell` never waits; `run` sends. While there is no broker at most one report for each network is kept."""

    def __init__(self, send: Callable[[Drift], Awaitable[None]], per_second: float = PER_SECOND) -> None:
        self._send = send
        self._pause = 1 / per_second
        self._pending: OrderedDict[UUID, Drift] = OrderedDict()
        self._due = asyncio.Event()

    def tell(self, drift: Drift) -> None:
        earlier = self._pending.get(drift.uuid)
        if earlier is not None:
            REPORTS.labels("merged").inc()
        self._pending[drift.uuid] = _bounded(drift if earlier is None else _merged(earlier, drift))
        self._due.set()

    async def run(self) -> None:
        """For ever."""
        while True:
            await self._due.wait()
            uuid, drift = self._pending.popitem(last=False)
            if not self._pending:
                self._due.clear()
            pause = self._pause
            try:
                await self._send(drift)
                REPORTS.labels("sent").inc()
            except BusError as exc:
                REPORTS.labels("put_off").inc()
                log.warning("report_not_sent", reason=str(exc), l2_uuid=str(uuid))
                self._put_back(drift)
                pause = max(pause, _RETRY_SECONDS)
            await asyncio.sleep(pause)

    def _put_back(self, drift: Drift) -> None:
        later = self._pending.get(drift.uuid)
        self._pending[drift.uuid] = drift if later is None else _bounded(_merged(drift, later))
        self._pending.move_to_end(drift.uuid, last=False)
        self._due.set()


def _merged(earlier: Drift, later: Drift) -> Drift:
    """All that was found by repairs, each attribute as it was found last; what was left alone is a state, not a sum."""
    if later.policy == "report":
        return later
    found = {(one.device, one.attribute, str(one.desired)): one for one in earlier.differences + later.differences}
    return replace(later, differences=tuple(found.values()))


def _bounded(drift: Drift) -> Drift:
    excess = len(drift.differences) - _MOST_DIFFERENCES
    if excess <= 0:
        return drift
    LEFT_OUT.inc(excess)
    return replace(drift, differences=drift.differences[:_MOST_DIFFERENCES])
