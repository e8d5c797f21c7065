"""Looking at what a host holds when something may have changed it, and mending what did: the same for everything held.

due ─► agenda ─► looks, many at once, each in its thing's lane ─► repair, or not ─► report
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Generic, TypeVar
from uuid import UUID

import structlog
from prometheus_client import Counter

from viaduct_agent.agenda import Agenda
from viaduct_agent.driftreports import Drift, Policy
from viaduct_agent.fights import Fights
from viaduct_agent.holdings import HoldingsOf, Wanted
from viaduct_agent.lanes import Lanes
from viaduct_agent.links.host import Checked
from viaduct_common.errors import ViaductError
from viaduct_common.messages.base import ErrorBody
from viaduct_common.messages.l2 import Difference

log = structlog.get_logger()
REPAIRS = Counter("viaduct_agent_drift", "Drift found, by whether it was repaired", ["repaired"])
_BUSY_PAUSE_SECONDS = 1.0

W = TypeVar("W", bound=Wanted)
Report = Callable[[Drift], None]


class Guarding(Generic[W]):
    """`check` compares and `repair` mends one thing; `most` looks are under way at the same time.

    With the policy `report` it tells what differs, once for each set of differences, and changes nothing. The digest
    stays as if nothing was: the manager has no reason to send a sync, which would repair it.
    """

    def __init__(
        self,
        holdings: HoldingsOf[W],
        lanes: Lanes,
        report: Report,
        *,
        check: Callable[[W], Awaitable[Checked]],
        repair: Callable[[W], Awaitable[object]],
        policy: Policy,
        fights: Fights,
        most: int,
    ) -> None:
        self._holdings = holdings
        self._lanes = lanes
        self._report = report
        self._check = check
        self._repair = repair
        self._policy = policy
        self._fights = fights
        self._most = most
        self._agenda = Agenda()
        self._looking: dict[UUID, float | None] = {}  # and when to look once more
        self._told: dict[UUID, frozenset[str]] = {}
        self._wake = asyncio.Event()

    async def work(self) -> None:
        """Look at what is due; for ever."""
        async with asyncio.TaskGroup() as looks:
            while True:
                self._wake.clear()
                for uuid in self._agenda.take(time.monotonic(), self._most - len(self._looking)):
                    self._looking[uuid] = None
                    looks.create_task(self._look(uuid))
                await self._until_due()

    def schedule(self, uuid: UUID, at: float) -> None:
        """One that is being looked at is looked at once more when that is done: what the look saw may be old."""
        if uuid in self._looking:
            again = self._looking[uuid]
            self._looking[uuid] = at if again is None else min(at, again)
        else:
            self._agenda.put(uuid, at)
            self._wake.set()

    def sweep(self, seconds: float = 0.0) -> None:
        """Look at all, spread over so many seconds; forget what is over, and tell of storms that ended."""
        watched = self._holdings.watched()
        now = time.monotonic()
        for number, uuid in enumerate(watched):
            self.schedule(uuid, now + seconds * number / len(watched))
        self._told = {uuid: told for uuid, told in self._told.items() if uuid in watched}
        for uuid in self._fights.forget_old(watched):
            self._tell(watched[uuid], (), repaired=True)

    async def _until_due(self) -> None:
        at = self._agenda.next_at() if len(self._looking) < self._most else None
        try:
            await asyncio.wait_for(self._wake.wait(), None if at is None else max(0.0, at - time.monotonic()))
        except TimeoutError:
            return

    async def _look(self, uuid: UUID) -> None:
        try:
            await self._look_at(uuid)
        except Exception:  # of a plugin: the others must be guarded all the same
            log.exception("drift_check_crashed", uuid=str(uuid))
        finally:
            again = self._looking.pop(uuid)
            self._wake.set()
        if again is not None:
            self.schedule(uuid, again)

    async def _look_at(self, uuid: UUID) -> None:
        if self._lanes.busy(uuid):  # whoever is at it verifies it
            self.schedule(uuid, time.monotonic() + _BUSY_PAUSE_SECONDS)
            return
        async with self._lanes.enter(uuid):
            holding = self._holdings.get(uuid)
            if holding is None or holding.want is None:
                return
            try:
                checked = await self._check(holding.want)
            except ViaductError as exc:
                checked = Checked(refusal=exc)
            if not checked.differences and checked.refusal is None:
                self._fine(holding.want, broken=holding.broken)
            elif self._policy == "report":
                self._leave(holding.want, checked)
            else:
                await self._mend(holding.want, checked)

    def _fine(self, want: W, *, broken: bool) -> None:
        if broken:
            self._holdings.mark_broken(want.uuid, False)
        if self._told.pop(want.uuid, None) is not None:
            self._tell(want, (), repaired=False)

    def _leave(self, want: W, checked: Checked) -> None:
        found = frozenset(one.model_dump_json() for one in checked.differences)
        if not found:  # it could not be looked at
            log.warning("drift_check_failed", uuid=str(want.uuid), error=str(checked.refusal))
        elif self._told.get(want.uuid) != found:
            self._told[want.uuid] = found
            self._found(want, checked.differences, repaired=False)

    async def _mend(self, want: W, checked: Checked) -> None:
        uuid = want.uuid
        ready_at = self._fights.ready_at(uuid)
        if time.monotonic() < ready_at:
            self.schedule(uuid, ready_at)
            return
        error: ErrorBody | None = None
        try:
            await self._repair(want)
        except ViaductError as exc:
            error = exc.to_body()
        self._fights.tried(uuid, repaired=error is None)
        self._holdings.mark_broken(uuid, error is not None)
        if error is not None:
            self.schedule(uuid, self._fights.ready_at(uuid))
        self._found(want, checked.differences, repaired=error is None, error=error)

    def _found(self, want: W, found: Iterable[Difference], *, repaired: bool, error: ErrorBody | None = None) -> None:
        differences = tuple(found)
        REPAIRS.labels(str(repaired).lower()).inc()
        log.warning("drift", uuid=str(want.uuid), repaired=repaired, differences=len(differences))
        self._tell(want, differences, repaired=repaired, error=error)

    def _tell(self, want: W, found: tuple[Difference, ...], *, repaired: bool, error: ErrorBody | None = None) -> None:
        self._report(
            Drift(
                want.uuid,
                want.generation,
                found,
                repaired=repaired,
                policy=self._policy,
                storm=self._fights.is_storm(want.uuid),
                repairs=self._fights.repairs(want.uuid),
                error=error,
            )
        )
