"""Allocations on what the process remembers: one statement for all that have gathered, whichever scopes they are of.

What cannot be done so (somebody else holds or has changed the scope, a message id was used before, a fill level is
crossed, there is no such scope) goes to the lane of its scope, which takes its time without keeping others waiting.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterable
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
# While one part is written, the callers of the other come back with more: neither we nor the database are idle then.
ENOUGH_TO_SPLIT = 12
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
        self._arrived = asyncio.Event()

    def submit(self, work: Work) -> None:
        self._waiting.append(work)
        self._arrived.set()

    async def run(self) -> None:
        """Serve until cancelled, on one connection; on another one when that is lost."""
        while True:
            try:
                with store_failures():
                    async with self._pool.acquire(timeout=10) as connection:
                        await self._clock.set(connection)
                        await self._serve(connection)
            except StoreUnavailable as error:
                log.warning("desk_store_unavailable", reason=str(error))
            await asyncio.sleep(AGAIN_SECONDS)

    async def _serve(self, connection: Connection) -> None:
        while True:
            await self._arrived.wait()
            works = self._next_batch()
            try:
                await self._serve_batch(connection, works)
            except AnsweredBefore:
                metrics.CONFLICTS.labels("message_id").inc()
                self._send_to_lanes(works)
            except Exception as error:
                for work in works:
                    work.fail(_failure(error))
                raise

    def _next_batch(self) -> list[Work]:
        count = len(self._waiting)
        if count > ENOUGH_TO_SPLIT:
            count = min(count * 2 // 3, MOST_TOGETHER)
        works = [self._waiting.popleft() for _ in range(count)]
        if not self._waiting:
            self._arrived.clear()
        return [work for work in works if work.is_wanted]

    async def _serve_batch(self, connection: Connection, works: list[Work]) -> None:
        scopes = by_scope(works)
        states = await self._states(connection, scopes)
        for uuid in scopes.keys() - states.keys():
            self._send_to_lanes(scopes[uuid])
        ready = [(state, scopes[uuid]) for uuid, state in states.items()]
        outcomes = await run_plans(connection, [(state, allocations(mine)) for state, mine in ready], self._rng)
        now = self._clock.now()
        planned: list[Planned] = []
        for (state, mine), decided in zip(ready, outcomes, strict=True):
            one = to_write(state, zip(mine, decided, strict=True), now)
            if changed_levels(state):
                self._send_to_lanes(mine)  # which announces it
            else:
                planned.append(one)
        if not planned:
            return
        metrics.BATCH.observe(sum(len(one.works) for one in planned))
        done = await give(connection, [one.write for one in planned], now, pause=self._pause_seconds)
        for one in planned:
            if one.write.state.l3_network_uuid in done:
                one.finish()
                self._memory.put_back(one.write.state)
            else:
                metrics.CONFLICTS.labels("revision").inc()
                self._send_to_lanes(one.works)

    async def _states(self, connection: Connection, scopes: Iterable[UUID]) -> dict[UUID, ScopeState]:
        states = {uuid: state for uuid in scopes if (state := self._memory.take_out(uuid)) is not None}
        missing = [uuid for uuid in scopes if uuid not in states]
        if missing:
            states |= await load_states(connection, missing, self._memory.layouts(missing))
        return states

    def _send_to_lanes(self, works: Iterable[Work]) -> None:
        for work in works:
            if work.is_wanted:
                self._to_lane(work)


def _failure(error: Exception) -> Exception:
    """What a request is told of it: that the database is away, or the failure itself."""
    try:
        with store_failures():
            raise error
    except Exception as translated:
        return translated
