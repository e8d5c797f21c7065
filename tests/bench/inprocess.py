"""What the process of IPAM does, from the validated request to the reply, in this process: without a broker."""

import asyncio
import random
import re
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from typing import Any
from uuid import UUID, uuid4

from uuid_utils.compat import uuid4 as fast_uuid4

from bench.echo import OK
from bench.measure import Times, timed
from local_stack.stack import Stack
from viaduct_common.bus import RequestContext
from viaduct_common.messages.base import Request
from viaduct_common.messages.ipam import AllocateIp, CreateRange, RegisterScope, ReleaseIp
from viaduct_common.postgres.migrations import migrate
from viaduct_common.postgres.pool import Pool, open_pool
from viaduct_ipam.engine.auditor import nobody_to_ask
from viaduct_ipam.engine.engine import Engine
from viaduct_ipam.main import MIGRATIONS, build_engine
from viaduct_ipam.settings import IpamSettings

MOST_AT_ONCE = 1000  # addresses of one request
_UUID = re.compile(rb'"uuid":"([^"]+)"')


class Ipam:
    """Requests to an engine that runs."""

    def __init__(self, pool: Pool, engine: Engine) -> None:
        self.pool = pool
        self._engine = engine
        self._owners = count()

    async def ask(self, request: Request[Any]) -> bytes:
        """The JSON of the reply.

        Raises:
            RuntimeError: it was refused.
        """
        context = RequestContext("bench", fast_uuid4(), None, None, time.monotonic() + 60)
        reply = await self._engine.execute(request, context)
        if not isinstance(reply, bytes) or not reply.startswith(OK):
            raise RuntimeError(f"{request.message_type}: {reply!r}")
        return reply

    async def network(self, cidr: str, l3_uuid: UUID | None = None) -> UUID:
        """An L3 network with one range."""
        l3_uuid = l3_uuid or uuid4()
        await self.ask(RegisterScope(l3_network_uuid=l3_uuid, l2_network_uuid=uuid4(), zone_uuid=uuid4()))
        await self.ask(CreateRange(l3_network_uuid=l3_uuid, network_cidr=cidr))
        return l3_uuid

    async def allocate(self, l3_uuid: UUID, **fields: Any) -> list[UUID]:
        """The allocations' uuids; `fields` are further ones of the request."""
        reply = await self.ask(AllocateIp(l3_network_uuid=l3_uuid, **fields))
        return [UUID(uuid.decode()) for uuid in _UUID.findall(reply)]

    async def release(self, uuids: Sequence[UUID]) -> None:
        """However many, a thousand a request."""
        for index in range(0, len(uuids), MOST_AT_ONCE):
            await self.ask(ReleaseIp(uuids=list(uuids[index : index + MOST_AT_ONCE])))

    async def cycle(self, l3_uuid: UUID, count: int = 1) -> None:
        """Allocate and release."""
        await self.release(await self.allocate(l3_uuid, owner="bench", count=count))

    async def allocate_and_put_back(
        self, l3_uuid: UUID, number: int, callers: int, *, times: int, strategy: str
    ) -> Times:
        """Allocate so many addresses, each for an owner of its own, and release them untimed; so often."""
        found = []
        for _ in range(times):
            uuids: list[UUID] = []

            async def allocate(uuids: list[UUID] = uuids) -> None:
                uuids.extend(await self.allocate(l3_uuid, strategy=strategy, owner=f"bench-{next(self._owners)}"))

            found.append(await timed(allocate, number, callers))
            await self.release(uuids)
        return Times.together(found)


@contextmanager
def scratch_database(stack: Stack, name: str) -> Iterator[str]:
    """The URL of an empty database for as long as this lasts."""
    postgres = stack.postgres
    postgres.create_database(name)
    try:
        yield postgres.url("viaduct_ipam", name)
    finally:
        postgres.drop_database(name)


@asynccontextmanager
async def ipam(url: str) -> AsyncIterator[Ipam]:
    """IPAM on a database of its own, with as many connections as its process has."""
    connections = IpamSettings(amqp_url="", postgres_url=url).connections
    async with open_pool(url, "bench", max_size=connections) as pool:
        await migrate(pool, *MIGRATIONS)
        engine = build_engine(pool, random.Random(1), ask_owners=nobody_to_ask)
        serving = asyncio.create_task(engine.run())
        try:
            yield Ipam(pool, engine)
        finally:
            serving.cancel()
            await asyncio.wait([serving])
