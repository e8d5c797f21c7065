"""One scope at a time, behind its lock: releases, and what the desk could not do.

A lane takes all that has gathered for its scope into one transaction: releases first, then allocations. It ends with
the last that needs it; the others that wait by then go back to the desk, which is faster.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog

from viaduct_common.errors import NotFound, ViaductError
from viaduct_common.messages.base import ErrorReply
from viaduct_common.messages.ipam import AllocateIp, ReleaseIp
from viaduct_common.postgres.idempotency import Answer, AnsweredBefore, former_answers, ok_reply, store_answers
from viaduct_common.postgres.pool import Connection, Pool, transaction
from viaduct_ipam.engine import metrics
from viaduct_ipam.engine.clock import DatabaseClock
from viaduct_ipam.engine.memory import Memory
from viaduct_ipam.engine.planned import to_write
from viaduct_ipam.engine.planner import run_plans
from viaduct_ipam.engine.work import Work, allocations
from viaduct_ipam.handlers.inventories import used_ip_inventory
from viaduct_ipam.model.state import ScopeState
from viaduct_ipam.model.together import Outcome
from viaduct_ipam.store.api import UsedIp
from viaduct_ipam.store.filling import announce_fill
from viaduct_ipam.store.giving import give
from viaduct_ipam.store.releasing import Actor, Claim, take_back
from viaduct_ipam.store.states import load_states, lock_revision

log = structlog.get_logger()

MOST_TOGETHER = 256
# A message id that another process is using at this moment is found used the next time.
ATTEMPTS = 5


class Lanes:
    """Each lane is a task, which ends when nothing waits for its scope."""

    def __init__(
        self,
        pool: Pool,
        memory: Memory,
        clock: DatabaseClock,
        rng: random.Random,
        *,
        to_desk: Callable[[Work], None],
        committed: Callable[[], None],
        pause_seconds: float,
    ) -> None:
        self._pool = pool
        self._memory = memory
        self._clock = clock
        self._rng = rng
        self._to_desk = to_desk
        self._committed = committed
        self._pause_seconds = pause_seconds
        self._waiting: dict[UUID, deque[Work]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def is_busy(self, l3_network_uuid: UUID) -> bool:
        return l3_network_uuid in self._waiting

    def submit(self, work: Work) -> None:
        uuid = work.l3_network_uuid
        if uuid in self._waiting:
            self._waiting[uuid].append(work)
            return
        self._waiting[uuid] = deque([work])
        task = asyncio.create_task(self._run(uuid))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, l3_network_uuid: UUID) -> None:
        waiting = self._waiting[l3_network_uuid]
        await asyncio.sleep(0)  # let those come along that arrive at the same moment
        while any(work.needs_lane for work in waiting):
            works = [waiting.popleft() for _ in range(min(len(waiting), MOST_TOGETHER))]
            works = [work for work in works if work.is_wanted]
            try:
                await self._serve(l3_network_uuid, works)
            except Exception as error:
                for work in works:
                    work.fail(error)
        del self._waiting[l3_network_uuid]
        for work in waiting:
            self._to_desk(work)

    async def _serve(self, l3_network_uuid: UUID, works: Sequence[Work]) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with transaction(self._pool) as connection:
                    if attempt > 1:
                        works = await _without_answered(connection, works)
                    answers, state, count = await self._write(connection, l3_network_uuid, works)
            except AnsweredBefore:
                if attempt == ATTEMPTS:
                    raise
                metrics.CONFLICTS.labels("message_id").inc()
            else:
                break
        self._committed()
        metrics.allocated.inc(count.allocated)
        metrics.released.inc(count.released)
        for work, body in answers:
            work.finish(body)
        if state is not None:
            self._memory.put_back(state)

    async def _write(
        self, connection: Connection, l3_network_uuid: UUID, works: Sequence[Work]
    ) -> tuple[list[tuple[Work, bytes]], ScopeState | None, "_Count"]:
        """The answers, for after the commit, and the scope as it is then."""
        state = await self._locked_state(connection, l3_network_uuid)
        if state is None:
            return await _without_scope(connection, works), None, _Count()
        releases = [work for work in works if isinstance(work.request, ReleaseIp)]
        others = [work for work in works if isinstance(work.request, AllocateIp)]
        released = await self._release(connection, state, releases)
        outcomes: list[tuple[Work, Outcome | bytes]] = [
            (work, ok_reply([used_ip_inventory(one) for one in mine]))
            for work, mine in zip(releases, released, strict=True)
        ]
        [decided] = await run_plans(connection, [(state, allocations(others))], self._rng)
        outcomes += zip(others, decided, strict=True)
        if self._clock.is_stale:
            await self._clock.set(connection)
        planned = to_write(state, outcomes, self._clock.now())
        metrics.BATCH.observe(len(planned.works))
        if not planned.write.given:
            await store_answers(connection, [planned.kept(work, body) for work, body in planned.answers])
        elif not await give(connection, [planned.write], pause=self._pause_seconds):
            raise ViaductError("the scope has changed under its lock")
        await announce_fill(connection, state)
        count = _Count(allocated=len(planned.write.given), released=sum(map(len, released)))
        return list(planned.answers), state, count

    async def _locked_state(self, connection: Connection, l3_network_uuid: UUID) -> ScopeState | None:
        revision = await lock_revision(connection, l3_network_uuid)
        remembered = self._memory.take_out(l3_network_uuid)
        if remembered is not None and remembered.revision == revision:
            return remembered
        layouts = self._memory.layouts([l3_network_uuid])
        return (await load_states(connection, [l3_network_uuid], layouts)).get(l3_network_uuid)

    async def _release(self, connection: Connection, state: ScopeState, works: Sequence[Work]) -> list[list[UsedIp]]:
        """What was released by each."""
        if not works:
            return []
        await asyncio.sleep(self._pause_seconds)
        return await take_back(connection, state, [claim_of(work) for work in works])


@dataclass(frozen=True)
class _Count:
    """Addresses that changed hands."""

    allocated: int = 0
    released: int = 0


def claim_of(work: Work) -> Claim:
    """What a request to release wants to be free."""
    request = work.request
    assert isinstance(request, ReleaseIp)
    return Claim(Actor(*work.key), request.uuids or (), request.ips or ())


async def _without_answered(connection: Connection, works: Sequence[Work]) -> list[Work]:
    """What was answered before gets the same answer again. It is looked up only once it is known that there is such:
    most requests come once."""
    former = await former_answers(connection, [work.key for work in works])
    fresh = []
    for work in works:
        answer = former.get(work.key)
        if answer is None:
            fresh.append(work)
            continue
        try:
            work.finish(answer.checked(work.request.message_type))
        except ViaductError as error:
            work.fail(error)
    return fresh


async def _without_scope(connection: Connection, works: Sequence[Work]) -> list[tuple[Work, bytes]]:
    """Nothing is used where nothing is: a release has nothing to do, an allocation is refused."""
    answers = []
    for work in works:
        if isinstance(work.request, ReleaseIp):
            answers.append((work, ok_reply([])))
        else:
            error = NotFound.of("L3 network", work.l3_network_uuid)
            answers.append((work, ErrorReply(error=error.to_body()).to_json()))
    await store_answers(connection, [Answer(*work.key, work.request.message_type, body) for work, body in answers])
    return answers
