"""`kill -9` of IPAM's processes, and of its database, under the load of 64 clients: who got an answer holds exactly
that address, a repetition gets the same answer, nothing leaks. IPAM is alone here, without the manager."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from faults.truth import eventually
from integration.manager.control_plane import Place, furnished

from local_stack.broker import Broker
from local_stack.postgres import Postgres
from local_stack.run_dir import RunDir
from local_stack.service import Service
from viaduct_common.client import ViaductClient
from viaduct_common.errors import DeadlineExceeded, Exhausted
from viaduct_common.messages.ipam import UsedIpInventory
from viaduct_common.postgres.pool import open_pool
from viaduct_ipam.store.audit import audit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

CLIENTS = 64
PROCESSES = 3
ROUNDS = 8
CIDR = "10.0.0.0/23"  # so tight that all want the same block


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """Servers of one's own: one of them is killed."""
    run_dir = RunDir(tmp_path)
    with Broker(run_dir) as broker, Postgres(run_dir) as postgres:
        async with furnished(broker, postgres) as place:
            yield place


@pytest.fixture
async def processes(place: Place) -> AsyncIterator[list[Service]]:
    """Three IPAM processes, of which one sleeps before each write."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(place.running("ipam", VIADUCT_PAUSE_SECONDS="0.01" if number == 0 else ""))
            for number in range(PROCESSES)
        ]


@dataclass
class Tenant:
    """One client that takes and gives back, and knows what it holds."""

    net: ViaductClient
    l3: UUID
    rng: random.Random
    holds: dict[UUID, UsedIpInventory] = field(default_factory=dict)
    answers: dict[UUID, list[UsedIpInventory]] = field(default_factory=dict)

    async def run(self) -> None:
        for _ in range(ROUNDS):
            if self.holds and self.rng.random() < 0.4:
                await self.release()
            else:
                await self.allocate()

    async def allocate(self) -> None:
        message_id = uuid4()
        strategy = self.rng.choice(["firstAvailable", "random", "nextFit", "sticky"])
        body = {"l3_network_uuid": self.l3, "count": self.rng.randint(1, 3), "owner": "tenant", "strategy": strategy}
        while True:
            try:
                given = await self.net.ip.allocate(**body, message_id=message_id)
            except DeadlineExceeded:
                continue  # whatever became of it: the same id again
            except Exhausted:
                return
            break
        self.answers[message_id] = given
        self.holds |= {one.uuid: one for one in given}
        again = await self.until_answered(body, message_id)
        assert again == given, "a repetition got another answer"

    async def until_answered(self, body: dict[str, object], message_id: UUID) -> list[UsedIpInventory]:
        while True:
            try:
                return await self.net.ip.allocate(**body, message_id=message_id)
            except DeadlineExceeded:
                continue

    async def release(self) -> None:
        message_id, uuids = uuid4(), self.rng.sample(list(self.holds), min(2, len(self.holds)))
        while True:
            try:
                released = await self.net.ip.release(uuids=uuids, message_id=message_id)
            except DeadlineExceeded:
                continue
            break
        assert {one.uuid for one in released} == set(uuids), "somebody else had freed them"
        for uuid in uuids:
            del self.holds[uuid]


@pytest.mark.parametrize("victim", ["ipam", "postgres"])
async def test_killed_in_the_middle_nobody_loses_or_shares_an_address(
    place: Place, processes: list[Service], victim: str
) -> None:
    """Five kills, at random moments; then the tenants' books and IPAM's are compared."""
    rng = random.Random(victim)
    async with place.client(timeout_seconds=15) as net:
        l3 = uuid4()
        await net.scope.register(l3_network_uuid=l3, l2_network_uuid=uuid4(), zone_uuid=uuid4())
        await net.range.create(l3_network_uuid=l3, network_cidr=CIDR)
        tenants = [Tenant(net, l3, random.Random(seed)) for seed in range(CLIENTS)]
        at_work = asyncio.gather(*(tenant.run() for tenant in tenants))
        try:
            for number in range(5):
                await eventually(lambda: busy(tenants, more_than=number * CLIENTS // 2))  # noqa: B023 - awaited here
                part = place.postgres if victim == "postgres" else processes[rng.randrange(PROCESSES)]
                await asyncio.to_thread(part.kill)
                await asyncio.to_thread(part.start)
            await at_work
        finally:
            at_work.cancel()

        held = [one for tenant in tenants for one in tenant.holds.values()]
        known = await everything(net, l3)
        assert len({one.ip for one in held}) == len(held), "two tenants hold one address"
        assert {one.uuid: one.ip for one in known} == {one.uuid: one.ip for one in held}
        assert (await net.ip.capacity(l3_network_uuids=[l3])).used == len(held)
    async with (
        open_pool(place.postgres_url("viaduct_ipam"), "audit") as pool,
        pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read"),
    ):
        assert await audit(connection) == []


async def busy(tenants: list[Tenant], *, more_than: int) -> None:
    """Asserts that so many answers have come in all."""
    assert sum(len(tenant.answers) for tenant in tenants) > more_than


async def everything(net: ViaductClient, l3: UUID) -> list[UsedIpInventory]:
    found: list[UsedIpInventory] = []
    after = None
    while True:
        page = await net.ip.query(filters={"l3NetworkUuid": str(l3)}, limit=1000, after=after)
        found += page.items
        after = page.after
        if after is None:
            return found
