"""Drift: what another hand changed is found by events, repaired at once, reported, and never fought over endlessly."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

import structlog
from prometheus_client import Counter

from viaduct_agent.backends.api import L2OnHost, Registry
from viaduct_agent.holdings import Holdings
from viaduct_agent.lanes import Lanes
from viaduct_agent.links.host import Checked, HostLinks
from viaduct_agent.links.watch import Changed
from viaduct_common.errors import ViaductError
from viaduct_common.messages.base import ErrorBody
from viaduct_common.messages.l2 import Difference

log = structlog.get_logger()
REPAIRS = Counter("viaduct_agent_drift", "Drift found, by whether it was repaired", ["repaired"])
SWEEP_SECONDS = 60.0
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0
_FORGIVE_SECONDS = 300.0  # after so long a peace the next repair is again done at once
_BUSY_PAUSE_SECONDS = 1.0

Report = Callable[[UUID, int, list[Difference], ErrorBody | None], Awaitable[None]]


@dataclass(slots=True)
class _Fight:
    """Repairs of one network: the pause before the next doubles with each, from one second to a minute."""

    pause: float = 0.0
    last: float = 0.0


class DriftGuard:
    """Looks at networks when their devices change, and at all of them every minute."""

    def __init__(
        self,
        backends: Registry,
        holdings: Holdings,
        lanes: Lanes,
        report: Report,
        *,
        links: HostLinks,
        sweep_seconds: float = SWEEP_SECONDS,
    ) -> None:
        self._backends = backends
        self._holdings = holdings
        self._lanes = lanes
        self._report = report
        self._links = links
        self._sweep_seconds = sweep_seconds
        self._due: dict[UUID, float] = {}
        self._fights: dict[UUID, _Fight] = {}
        self._names_of: dict[UUID, tuple[L2OnHost, frozenset[str]]] = {}
        self._wake = asyncio.Event()

    async def run(self, changes: AsyncIterator[Changed]) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen(changes))
            tasks.create_task(self._sweep())
            tasks.create_task(self._work())

    async def _listen(self, changes: AsyncIterator[Changed]) -> None:
        async for changed in changes:
            for uuid, want in self._holdings.watched().items():
                if changed.overflow or uuid in changed.owners or not changed.names.isdisjoint(self._names(uuid, want)):
                    self._schedule(uuid, time.monotonic())

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self._sweep_seconds)
            try:
                await self._links.observe()  # so that the looks find devices that no name leads to
            except ViaductError as exc:
                log.warning("sweep_without_dump", error=exc.message)
            now = time.monotonic()
            watched = self._holdings.watched()
            for uuid in watched:
                self._schedule(uuid, now)
            self._names_of = {uuid: kept for uuid, kept in self._names_of.items() if uuid in watched}
            self._fights = {uuid: fight for uuid, fight in self._fights.items() if now - fight.last < _FORGIVE_SECONDS}

    async def _work(self) -> None:
        """One after the other: a look at a thousand networks must not stand in front of a command."""
        while True:
            self._wake.clear()
            now = time.monotonic()
            for uuid in [uuid for uuid, at in self._due.items() if at <= now]:
                del self._due[uuid]
                await self._look_at(uuid)
            if not self._wake.is_set():
                pause = None if not self._due else max(0.0, min(self._due.values()) - time.monotonic())
                try:
                    await asyncio.wait_for(self._wake.wait(), pause)
                except TimeoutError:
                    continue

    def _schedule(self, uuid: UUID, at: float) -> None:
        self._due[uuid] = min(at, self._due.get(uuid, at))
        self._wake.set()

    async def _look_at(self, uuid: UUID) -> None:
        if self._lanes.busy(uuid):  # whoever is at it verifies it
            return self._schedule(uuid, time.monotonic() + _BUSY_PAUSE_SECONDS)
        async with self._lanes.enter(uuid):
            holding = self._holdings.get(uuid)
            if holding is None or holding.want is None:
                return None
            try:
                await self._mend(holding.want, broken=holding.broken)
            except Exception:  # of a plugin: the other networks must be guarded all the same
                log.exception("drift_check_crashed", l2_uuid=str(uuid))

    async def _mend(self, want: L2OnHost, *, broken: bool) -> None:
        uuid = want.network.uuid
        backend = self._backends.of(want)
        try:
            checked = await backend.check(want)
        except ViaductError as exc:
            checked = Checked(refusal=exc)
        if not checked.differences and checked.refusal is None:
            if broken:
                self._holdings.mark_broken(uuid, False)
            return
        now = time.monotonic()
        fight = self._fights.setdefault(uuid, _Fight())
        if now - fight.last > _FORGIVE_SECONDS:
            fight.pause = 0.0
        if now < fight.last + fight.pause:
            self._schedule(uuid, fight.last + fight.pause)
            return
        error: ErrorBody | None = None
        try:
            await backend.realize(want)
        except ViaductError as exc:
            error = exc.to_body()
        fight.last = time.monotonic()
        fight.pause = min(max(_FIRST_PAUSE_SECONDS, fight.pause * 2), _LONGEST_PAUSE_SECONDS)
        self._holdings.mark_broken(uuid, error is not None)
        if error is not None:
            self._schedule(uuid, fight.last + fight.pause)
        REPAIRS.labels(str(error is None).lower()).inc()
        log.warning("drift", l2_uuid=str(uuid), repaired=error is None, differences=len(checked.differences))
        await self._report(uuid, want.generation, list(checked.differences), error)

    def _names(self, uuid: UUID, want: L2OnHost) -> frozenset[str]:
        """Kept as long as `want` is the same: events come by the thousand."""
        kept = self._names_of.get(uuid)
        if kept is None or kept[0] is not want:
            kept = self._names_of[uuid] = (want, self._backends.of(want).device_names(want))
        return kept[1]
