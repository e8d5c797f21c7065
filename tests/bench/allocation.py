"""What IPAM's handlers do a second, without the broker, against the least of a database: one row a transaction."""

import asyncio
import random
import time
from functools import partial
from itertools import count
from uuid import UUID, uuid4

from bench.measure import Comparison, compare, rounds, seconds_per_call
from local_stack.stack import Stack
from viaduct_common.bus import RequestContext
from viaduct_common.messages.ipam import AllocateIp, CreateRange, RegisterScope, ReleaseIp
from viaduct_common.postgres.migrations import migrate
from viaduct_common.postgres.pool import Pool, open_pool, transaction
from viaduct_ipam.main import MIGRATIONS, build_engine
from viaduct_ipam.settings import IpamSettings

TITLE = "IPAM's handlers on Postgres (an address allocated and released; baseline: a row inserted and deleted)"
ROUNDS = 6
CYCLES = {1: 100, 32: 500}  # at a time -> cycles a round
DATABASE = "bench"

_TABLE = "CREATE TABLE bench_row (uuid uuid PRIMARY KEY, ip bigint UNIQUE, owner text)"
_INSERT = "INSERT INTO bench_row (uuid, ip, owner) VALUES ($1, $2, $3) RETURNING uuid"
_DELETE = "DELETE FROM bench_row WHERE uuid = $1 RETURNING ip"


class Handlers:
    """IPAM as its process runs it, from the validated request on: idempotency, handler, reply."""

    def __init__(self, pool: Pool) -> None:
        self.engine = build_engine(pool, random.Random(1))
        self.l3_uuid = uuid4()

    async def set_up(self) -> None:
        """One L3 network with a /20."""
        await self._ask(RegisterScope(l3_network_uuid=self.l3_uuid, l2_network_uuid=uuid4(), zone_uuid=uuid4()))
        await self._ask(CreateRange(l3_network_uuid=self.l3_uuid, network_cidr="10.16.0.0/20"))

    async def cycle(self) -> None:
        """Allocate and release."""
        reply = await self._ask(AllocateIp(l3_network_uuid=self.l3_uuid, owner="bench"))
        uuid = reply.partition(b'"uuid":"')[2][:36].decode()
        await self._ask(ReleaseIp(uuids=[UUID(uuid)]))

    async def _ask(self, request: RegisterScope | CreateRange | AllocateIp | ReleaseIp) -> bytes:
        context = RequestContext("bench", uuid4(), None, None, time.monotonic() + 60)
        reply = await self.engine.execute(request, context)
        assert isinstance(reply, bytes)
        return reply


async def run(stack: Stack) -> list[Comparison]:
    """Measure with one and with 32 clients, on the service's number of connections."""
    postgres = stack.postgres
    postgres.create_database(DATABASE)
    url = postgres.url("viaduct_ipam", DATABASE)
    connections = IpamSettings(amqp_url="", postgres_url=url).connections
    found = []
    numbers = count()
    async with open_pool(url, "bench", max_size=connections) as pool:
        await migrate(pool, *MIGRATIONS)
        async with transaction(pool) as connection:
            await connection.execute(_TABLE)
        handlers = Handlers(pool)
        serving = asyncio.create_task(handlers.engine.run())
        await handlers.set_up()

        async def one_row() -> None:
            async with transaction(pool) as connection:
                uuid = await connection.fetchval(_INSERT, uuid4(), next(numbers), "bench")
            async with transaction(pool) as connection:
                await connection.fetchval(_DELETE, uuid)

        for at_a_time, cycles in CYCLES.items():
            seconds = await rounds(
                {
                    "rows": partial(seconds_per_call, one_row, cycles, at_a_time),
                    "handlers": partial(seconds_per_call, handlers.cycle, cycles, at_a_time),
                },
                ROUNDS,
            )
            name = f"allocate + release, {at_a_time} at a time"
            found.append(compare(name, seconds["handlers"], "insert + delete", seconds["rows"], unit="cycles/s"))
        serving.cancel()
    postgres.drop_database(DATABASE)
    return found
