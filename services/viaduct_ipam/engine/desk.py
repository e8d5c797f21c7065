"""Allocations on what the process remembers: one statement for all that have gathered, whichever scopes they are of.

Two batches are under way at a time: while one is being written, the next is planned on what the first will have made.
If a write does not take effect, what was planned upon it is worth nothing.

What cannot be done here (somebody else holds or has changed the scope, a message id was used before, a fill level is
crossed, there is no such scope) goes to the lane of its scope, which takes its time without keeping others waiting.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from uuid import UUID

import structlog

from viaduct_common.bus.failures import StoreUnavailable
from viaduct_common.postgres.idempotency import AnsweredBefore
from viaduct_common.postgres.pool import Connection, Pool, store_failures
from viaduct_ipam.engine import metrics
from viaduct_ipam.engine.clock import DatabaseClock
from viaduct_ipam.engine.memory import Memory
from viaduct_ipam.engine.planned import Planned, by_scope, to_write
from viaduct_ipam.engine.planner import run_plans
from viaduct_ipam.engine.work import Work, allocations
from viaduct_ipam.model.state import ScopeState
from viaduct_ipam.store.filling import changed_levels
from viaduct_ipam.store.giving import give
from viaduct_ipam.store.states import load_states

log = structlog.get_logger()

MOST_TOGETHER = 256
# While a write is under way, so many are worth planning at once; fewer wait until it has ended.
WORTH_PLANNING = 16
AGAIN_SECONDS = 0.5


class Desk:
    """Args:
    to_lane: takes what cannot be done here.
    pause_seconds: for tests, see `viaduct_ipam.settings`.
    """

    def __init__(
        self,
        pool: Pool,
        memory: Memory,
        clock: DatabaseClock,
        rng: random.Random,
        *,
        to_lane: Callable[[Work], None],
        pause_seconds: float,
    ) -> None:
        self._pool = pool
        self._memory = memory
        self._clock = clock
        self._rng = rng
        self._to_lane = to_lane
        self._pause_seconds = pause_seconds
        self._waiting: deque[Work] = deque()
        self._changed = asyncio.Event()  # something has arrived, is planned, or is written
        self._in_planning: dict[UUID, ScopeState] = {}  # some of them are in writing as well
        self._planned: list[Planned] = []
        self._in_writing: dict[UUID, ScopeState] = {}

    def submit(self, work: Work) -> None:
        self._waiting.append(work)
        self._changed.set()

    async def run(self) -> None:
        """Serve until cancelled, on two connections; on others when they are lost."""
        while True:
            try:
                with store_failures():
                    async with (
                        self._pool.acquire(timeout=10) as reader,
                        self._pool.acquire(timeout=10) as writer,
                        asyncio.TaskGroup() as hands,
                    ):
                        hands.create_task(self._keep_planning(reader))
                        hands.create_task(self._keep_writing(writer))
            except* StoreUnavailable as errors:
                log.warning("desk_store_unavailable", reason=repr(errors.exceptions[0]))
            finally:
                self._drop_all()
            await asyncio.sleep(AGAIN_SECONDS)

    def _drop_all(self) -> None:
        for work in (work for one in self._planned for work in one.works):
            work.fail(StoreUnavailable("the connection that would have written was lost"))
        for state in (*self._in_planning.values(), *self._in_writing.values()):
            state.is_void = True
        self._in_planning, self._planned, self._in_writing = {}, [], {}

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    # ---- planning --------------------------------------------------------------------------------------------

    async def _keep_planning(self, reader: Connection) -> None:
        while True:
            await self._until(
                lambda: not self._planned and len(self._waiting) >= (WORTH_PLANNING if self._in_writing else 1)
            )
            works = self._next_batch()
            with _no_work_forgotten(works), self._no_half_plans(), store_failures():
                self._planned = await self._plan(reader, works)
                self._changed.set()

    def _next_batch(self) -> list[Work]:
        count = len(self._waiting)
        if not self._in_writing and count > 2 * WORTH_PLANNING:
            count //= 2  # else all would be in one batch from then on, and nothing to plan while it is written
        works = [self._waiting.popleft() for _ in range(min(count, MOST_TOGETHER))]
        return [work for work in works if work.is_wanted]

    @contextmanager
    def _no_half_plans(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            for state in self._in_planning.values():
                state.is_void = True
            self._in_planning = {}
            raise

    async def _plan(self, reader: Connection, works: list[Work]) -> list[Planned]:
        if self._clock.is_stale:
            await self._clock.set(reader)
        scopes = by_scope(works)
        states = await self._states(reader, scopes)
        for uuid in scopes.keys() - states.keys():
            self._send_to_lanes(scopes[uuid])
        self._in_planning = states
        ready = [(state, scopes[uuid]) for uuid, state in states.items()]
        outcomes = await run_plans(reader, [(state, allocations(mine)) for state, mine in ready], self._rng)
        now = self._clock.now()
        planned: list[Planned] = []
        for (state, mine), decided in zip(ready, outcomes, strict=True):
            one = to_write(state, zip(mine, decided, strict=True), now)
            if changed_levels(state):
                state.is_void = True  # the lane announces it
            planned.append(one)
        return planned

    async def _states(self, reader: Connection, scopes: Iterable[UUID]) -> dict[UUID, ScopeState]:
        states = {}
        for uuid in scopes:
            state = self._in_writing.get(uuid) or self._memory.take_out(uuid)
            if state is not None and not state.is_void:
                states[uuid] = state
        missing = [uuid for uuid in scopes if uuid not in states]
        if missing:
            states |= await load_states(reader, missing, self._memory.layouts(missing))
        return states

    # ---- writing ---------------------------------------------------------------------------------------------

    async def _keep_writing(self, writer: Connection) -> None:
        """The next batch is on its way before the answers of the last one are given: these set those in motion who
        wait for them."""
        loop = asyncio.get_running_loop()
        while True:
            await self._until(lambda: bool(self._planned))
            planned = [one for one in self._planned if not one.write.state.is_void]
            for one in self._planned:
                if one.write.state.is_void:  # it was planned upon a write that did not take effect
                    self._send_to_lanes(one.works)
            self._in_writing = {one.write.l3_network_uuid: one.write.state for one in planned}
            self._in_planning, self._planned = {}, []
            self._changed.set()
            done = await self._write(writer, planned) if planned else set()
            for one in planned:
                if one.write.l3_network_uuid not in done:
                    one.write.state.is_void = True
            self._in_writing = {}
            self._changed.set()
            loop.call_soon(self._deliver, planned, done)

    async def _write(self, writer: Connection, planned: list[Planned]) -> set[UUID]:
        """The scopes for which it took effect."""
        works = [work for one in planned for work in one.works]
        metrics.BATCH.observe(len(works))
        try:
            with _no_work_forgotten(works), store_failures():
                return await give(writer, [one.write for one in planned], pause=self._pause_seconds)
        except AnsweredBefore:
            metrics.CONFLICTS.labels("message_id").inc()
        return set()

    def _deliver(self, planned: list[Planned], done: set[UUID]) -> None:
        for one in planned:
            state, uuid = one.write.state, one.write.l3_network_uuid
            if uuid not in done:
                metrics.CONFLICTS.labels("revision").inc()
                self._send_to_lanes(one.works)
                continue
            one.finish()
            if state not in (self._in_planning.get(uuid), self._in_writing.get(uuid)):
                self._memory.put_back(state)

    def _send_to_lanes(self, works: Iterable[Work]) -> None:
        for work in works:
            if work.is_wanted:
                work.needs_lane = True
                self._to_lane(work)


@contextmanager
def _no_work_forgotten(works: Iterable[Work]) -> Iterator[None]:
    """Whatever goes wrong is told to those who wait, unless they are served in another way."""
    try:
        yield
    except AnsweredBefore:
        raise
    except asyncio.CancelledError:
        for work in works:
            work.fail(StoreUnavailable("the connection that wrote was lost"))
        raise
    except Exception as error:
        for work in works:
            work.fail(error)
        if isinstance(error, StoreUnavailable):
            raise
        log.exception("batch_crashed")
