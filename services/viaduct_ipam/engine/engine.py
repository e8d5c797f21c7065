"""How a request to allocate or to release comes to its answer: once per message id, in whatever batch."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from viaduct_common.bus import RequestContext
from viaduct_common.bus.serve import Deferred
from viaduct_common.messages.base import Request
from viaduct_common.messages.ipam import AllocateIp, ReleaseIp
from viaduct_common.postgres.pool import Pool, store_failures
from viaduct_ipam.engine import metrics
from viaduct_ipam.engine.clock import DatabaseClock
from viaduct_ipam.engine.desk import Desk
from viaduct_ipam.engine.lanes import Lanes
from viaduct_ipam.engine.memory import Memory
from viaduct_ipam.engine.work import Key, Work
from viaduct_ipam.store.postgres import PostgresStore

Execute = Callable[[Request[Any], RequestContext], Awaitable[bytes | Deferred]]


class Engine:
    """Args:
    others: does all other requests, and a release that is of several scopes or of none.
    committed: called after each commit that may have written to the outbox.
    pause_seconds: for tests, see `viaduct_ipam.settings`.
    """

    def __init__(
        self,
        pool: Pool,
        others: Execute,
        *,
        rng: random.Random,
        committed: Callable[[], None] = lambda: None,
        pause_seconds: float = 0.0,
    ) -> None:
        self._pool = pool
        self._others = others
        self._clock = DatabaseClock()
        memory = Memory()
        self._lanes = Lanes(
            pool, memory, self._clock, rng,
            to_desk=self._to_desk, committed=committed, pause_seconds=pause_seconds,
        )  # fmt: skip
        self._desk = Desk(pool, memory, self._clock, rng, to_lane=self._lanes.submit, pause_seconds=pause_seconds)
        self._under_way: dict[Key, asyncio.Future[bytes]] = {}

    async def run(self) -> None:
        """Serve until cancelled."""
        await self._desk.run()

    def _to_desk(self, work: Work) -> None:
        self._desk.submit(work)

    async def execute(self, request: Request[Any], context: RequestContext) -> bytes | Deferred:
        """Raises:
        ViaductError: refused, and nothing was changed.
        StoreUnavailable: the database is away; repeat it.
        """
        if isinstance(request, AllocateIp):
            return await self._once(Work(request.l3_network_uuid, request, context))
        if isinstance(request, ReleaseIp):
            return await self._release(request, context)
        return await self._others(request, context)

    async def _release(self, request: ReleaseIp, context: RequestContext) -> bytes | Deferred:
        if request.uuids is not None and request.l3_network_uuid is None and request.ips is None:
            with store_failures():
                async with self._pool.acquire(timeout=10) as connection:
                    scopes = await PostgresStore(connection).scopes_of_used(request.uuids)
            if len(scopes) == 1:
                return await self._once(Work(scopes[0], request, context))
        elif request.uuids is None and request.l3_network_uuid is not None and request.ips is not None:
            return await self._once(Work(request.l3_network_uuid, request, context))
        return await self._others(request, context)

    async def _once(self, work: Work) -> bytes:
        """Two of one message id at the same moment: the second waits, and then finds the answer of the first."""
        repeated = False
        while (first := self._under_way.get(work.key)) is not None:
            await asyncio.wait([first])
            repeated = True
        self._under_way[work.key] = work.answer
        began = time.monotonic()
        try:
            work.needs_lane |= repeated
            if work.needs_lane or self._lanes.is_busy(work.l3_network_uuid):
                self._lanes.submit(work)
            else:
                self._desk.submit(work)
            return await work.answer
        finally:
            del self._under_way[work.key]
            metrics.engine_seconds(work.request.message_type).observe(time.monotonic() - began)
