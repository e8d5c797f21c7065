"""Drift: what another hand changed is found by events, repaired at once, reported, and never fought over endlessly.

events ─► networks they concern ─► agenda ─► looks, many at once ─► repair, or not ─► report
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from uuid import UUID

import structlog
from prometheus_client import Counter

from viaduct_agent.agenda import Agenda
from viaduct_agent.backends.api import L2OnHost, Registry
from viaduct_agent.driftreports import Drift, Policy
from viaduct_agent.fights import Fights
from viaduct_agent.holdings import Holdings
from viaduct_agent.lanes import Lanes
from viaduct_agent.links.host import Checked, HostLinks
from viaduct_agent.links.watch import Changed
from viaduct_agent.watching import WatchIndex
from viaduct_common.errors import ViaductError
from viaduct_common.messages.base import ErrorBody
from viaduct_common.messages.l2 import Difference

log = structlog.get_logger()
REPAIRS = Counter("viaduct_agent_drift", "Drift found, by whether it was repaired", ["repaired"])
SWEEP_SECONDS = 60.0
_BUSY_PAUSE_SECONDS = 1.0
# Looks at the same time: they share one dump of the kernel and their repairs go in batches, see `HostLinks`.
_MOST_LOOKS = 1024
_MANY = 64
_MANY_PAUSE_SECONDS = 0.5

Report = Callable[[Drift], None]


class DriftGuard:
    """Looks at networks when their devices change, and at all of them every minute.

    With the policy `report` it tells what differs, once for each set of differences, and changes nothing. The digest
    stays as if nothing was: the manager has no reason to send a sync, which would repair it.
    """

    def __init__(
        self,
        backends: Registry,
        holdings: Holdings,
        lanes: Lanes,
        report: Report,
        *,
        links: HostLinks,
        policy: Policy = "repair",
        fights: Fights | None = None,
        sweep_seconds: float = SWEEP_SECONDS,
    ) -> None:
        self._backends = backends
        self._holdings = holdings
        self._lanes = lanes
        self._report = report
        self._links = links
        self._policy = policy
        self._fights = Fights() if fights is None else fights
        self._sweep_seconds = sweep_seconds
        self._index = WatchIndex(backends, holdings)
        self._agenda = Agenda()
        self._looking: dict[UUID, float | None] = {}  # and when to look once more
        self._next_many = 0.0
        self._told: dict[UUID, frozenset[str]] = {}
        self._wake = asyncio.Event()

    async def run(self, changes: AsyncIterator[Changed], *more: AsyncIterator[Changed]) -> None:
        """For ever. `changes` failing ends it; one of `more`, which are plugins', is done without: the sweep stays."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen(changes))
            for others in more:
                tasks.create_task(self._listen_to_plugin(others))
            tasks.create_task(self._sweep())
            tasks.create_task(self._work())

    async def _listen(self, changes: AsyncIterator[Changed]) -> None:
        async for changed in changes:
            self._links.note(changed.marked)
            concerned = self._index.concerned_by(changed)
            at = self._time_for(len(concerned))
            for uuid in concerned:
                self._schedule(uuid, at)

    def _time_for(self, count: int) -> float:
        """At once; but a NIC that a thousand networks share changes often while these are made, and a look at them all
        costs a tenth of a second."""
        now = time.monotonic()
        if count < _MANY:
            return now
        if now >= self._next_many:
            self._next_many = now + _MANY_PAUSE_SECONDS
            return now
        return self._next_many

    async def _listen_to_plugin(self, changes: AsyncIterator[Changed]) -> None:
        try:
            await self._listen(changes)
        except Exception:
            log.exception("changes_of_a_backend_crashed")
        else:
            log.warning("changes_of_a_backend_ended")

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
            self._told = {uuid: told for uuid, told in self._told.items() if uuid in watched}
            for uuid in self._fights.forget_old(watched):
                self._tell(watched[uuid], (), repaired=True)

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as looks:
            while True:
                self._wake.clear()
                for uuid in self._agenda.take(time.monotonic(), _MOST_LOOKS - len(self._looking)):
                    self._looking[uuid] = None
                    looks.create_task(self._look(uuid))
                await self._until_due()

    async def _until_due(self) -> None:
        at = self._agenda.next_at() if len(self._looking) < _MOST_LOOKS else None
        try:
            await asyncio.wait_for(self._wake.wait(), None if at is None else max(0.0, at - time.monotonic()))
        except TimeoutError:
            return

    def _schedule(self, uuid: UUID, at: float) -> None:
        """A network that is being looked at is looked at once more when that is done: what the look saw may be old."""
        if uuid in self._looking:
            again = self._looking[uuid]
            self._looking[uuid] = at if again is None else min(at, again)
        else:
            self._agenda.put(uuid, at)
            self._wake.set()

    async def _look(self, uuid: UUID) -> None:
        try:
            await self._look_at(uuid)
        except Exception:  # of a plugin: the other networks must be guarded all the same
            log.exception("drift_check_crashed", l2_uuid=str(uuid))
        finally:
            again = self._looking.pop(uuid)
            self._wake.set()
        if again is not None:
            self._schedule(uuid, again)

    async def _look_at(self, uuid: UUID) -> None:
        if self._lanes.busy(uuid):  # whoever is at it verifies it
            self._schedule(uuid, time.monotonic() + _BUSY_PAUSE_SECONDS)
            return
        async with self._lanes.enter(uuid):
            holding = self._holdings.get(uuid)
            if holding is None or holding.want is None:
                return
            try:
                checked = await self._backends.of(holding.want).check(holding.want)
            except ViaductError as exc:
                checked = Checked(refusal=exc)
            if not checked.differences and checked.refusal is None:
                self._fine(holding.want, broken=holding.broken)
            elif self._policy == "report":
                self._leave(holding.want, checked)
            else:
                await self._mend(holding.want, checked)

    def _fine(self, want: L2OnHost, *, broken: bool) -> None:
        uuid = want.network.uuid
        if broken:
            self._holdings.mark_broken(uuid, False)
        if self._told.pop(uuid, None) is not None:
            self._tell(want, (), repaired=False)

    def _leave(self, want: L2OnHost, checked: Checked) -> None:
        uuid = want.network.uuid
        found = frozenset(one.model_dump_json() for one in checked.differences)
        if not found:  # it could not be looked at
            log.warning("drift_check_failed", l2_uuid=str(uuid), error=str(checked.refusal))
        elif self._told.get(uuid) != found:
            self._told[uuid] = found
            self._found(want, checked.differences, repaired=False)

    async def _mend(self, want: L2OnHost, checked: Checked) -> None:
        uuid = want.network.uuid
        ready_at = self._fights.ready_at(uuid)
        if time.monotonic() < ready_at:
            self._schedule(uuid, ready_at)
            return
        error: ErrorBody | None = None
        try:
            await self._backends.of(want).realize(want)
        except ViaductError as exc:
            error = exc.to_body()
        self._fights.tried(uuid, repaired=error is None)
        self._holdings.mark_broken(uuid, error is not None)
        if error is not None:
            self._schedule(uuid, self._fights.ready_at(uuid))
        self._found(want, checked.differences, repaired=error is None, error=error)

    def _found(
        self, want: L2OnHost, found: tuple[Difference, ...], *, repaired: bool, error: ErrorBody | None = None
    ) -> None:
        REPAIRS.labels(str(repaired).lower()).inc()
        log.warning("drift", l2_uuid=str(want.network.uuid), repaired=repaired, differences=len(found))
        self._tell(want, found, repaired=repaired, error=error)

    def _tell(
        self, want: L2OnHost, found: tuple[Difference, ...], *, repaired: bool, error: ErrorBody | None = None
    ) -> None:
        uuid = want.network.uuid
        self._report(
            Drift(
                uuid,
                want.generation,
                found,
                repaired=repaired,
                policy=self._policy,
                storm=self._fights.is_storm(uuid),
                repairs=self._fights.repairs(uuid),
                error=error,
            )
        )
