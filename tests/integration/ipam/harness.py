"""The whole of IPAM but the bus: requests go through the executor, as they do in the service."""

import asyncio
import random
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self, TypeVar
from uuid import UUID, uuid4

from viaduct_common.bus import RequestContext
from viaduct_common.errors import ViaductError
from viaduct_common.messages.base import ErrorReply, Request, reply_adapter
from viaduct_common.messages.ipam import (
    AllocateIp,
    CreateRange,
    CreateReservation,
    GetIpCapacity,
    IpCapacity,
    RangeInventory,
    RegisterScope,
    ReleaseIp,
    ReservationInventory,
    UsedIpInventory,
)
from viaduct_common.postgres.pool import Pool
from viaduct_ipam.engine.auditor import AskOwners, nobody_to_ask
from viaduct_ipam.engine.sweeper import Sweeper
from viaduct_ipam.main import build_engine
from viaduct_ipam.store.audit import Finding, audit

V = TypeVar("V")


class Ipam:
    """Async context manager around what one process does."""

    def __init__(
        self, pool: Pool, seed: int = 1, pause_seconds: float = 0.0, ask_owners: AskOwners = nobody_to_ask
    ) -> None:
        self.pool = pool
        self._engine = build_engine(pool, random.Random(seed), ask_owners=ask_owners, pause_seconds=pause_seconds)
        self._sweeper = Sweeper(pool, history_days=90)

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self._engine.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._running.cancel()
        with suppress(asyncio.CancelledError):
            await self._running

    async def answer(self, request: Request[Any], message_id: UUID | None = None) -> bytes:
        """The reply's JSON."""
        context = RequestContext("tester", message_id or uuid4(), None, None, time.monotonic() + 60)
        reply = await self._engine.execute(request, context)
        assert isinstance(reply, bytes)
        return reply

    async def __call__(self, request: Request[V], message_id: UUID | None = None) -> V:
        """The value of the reply, or its error raised."""
        reply = reply_adapter(type(request)).validate_json(await self.answer(request, message_id))
        if isinstance(reply, ErrorReply):
            raise ViaductError.from_body(reply.error)
        value: V = reply.value
        return value

    async def network(
        self, strategy: str = "firstAvailable", l2: UUID | None = None, zone: UUID | None = None, **fields: Any
    ) -> "Network":
        """A fresh L3 network; keywords are other fields of its registration."""
        network = Network(self, uuid4(), l2 or uuid4(), zone or uuid4())
        body = {"l3_network_uuid": network.l3, "l2_network_uuid": network.l2, "zone_uuid": network.zone}
        await self(RegisterScope.model_validate({**body, "strategy": strategy, **fields}))
        return network

    async def sweep(self) -> None:
        """Let happen what is due by the database's clock."""
        await self._sweeper.sweep_once()

    async def audit(self) -> list[Finding]:
        async with self.pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
            return await audit(connection)


@dataclass(frozen=True)
class Network:
    """One L3 network, and short ways to ask for something in it; keywords are the fields of the request."""

    ipam: Ipam
    l3: UUID
    l2: UUID
    zone: UUID

    async def range(self, **fields: Any) -> list[RangeInventory]:
        return await self.ipam(CreateRange.model_validate({"l3_network_uuid": self.l3, **fields}))

    async def allocate(self, **fields: Any) -> list[UsedIpInventory]:
        return await self.ipam(AllocateIp.model_validate({"l3_network_uuid": self.l3, **fields}))

    async def ips(self, **fields: Any) -> list[str]:
        """Allocate, and give the addresses as text."""
        return [str(one.ip) for one in await self.allocate(**fields)]

    async def release(self, *ips: str) -> list[UsedIpInventory]:
        return await self.ipam(ReleaseIp.model_validate({"l3_network_uuid": self.l3, "ips": list(ips)}))

    async def reserve(self, start: str, end: str, **fields: Any) -> ReservationInventory:
        body = {"l3_network_uuid": self.l3, "start_ip": start, "end_ip": end}
        return await self.ipam(CreateReservation.model_validate({**body, **fields}))

    async def capacity(self) -> IpCapacity:
        return await self.ipam(GetIpCapacity(l3_network_uuids=[self.l3]))

    async def revisions(self) -> tuple[int, int]:
        """Of all changes, and of the layout alone."""
        row = await self.ipam.pool.fetchrow(
            "SELECT revision, layout_revision FROM scope WHERE l3_network_uuid = $1", self.l3
        )
        assert row is not None
        return row["revision"], row["layout_revision"]
