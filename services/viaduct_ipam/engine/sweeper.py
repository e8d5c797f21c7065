"""What happens because time passes: leases end, addresses cool down, blocks fall empty, history grows old.

Any number of processes sweep at once: each takes the scopes that nobody else has. All is done in chunks, each a
transaction of its own, so nothing is locked for long, and a process that dies loses nothing.
"""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from ipaddress import IPv4Address
from typing import Final
from uuid import UUID

import structlog

from viaduct_common import topology
from viaduct_common.bus import Outgoing, StoreUnavailable
from viaduct_common.messages.ipam import IpamEvent
from viaduct_common.postgres.outbox import enqueue
from viaduct_common.postgres.pool import Pool, transaction
from viaduct_ipam.engine import metrics
from viaduct_ipam.handlers.inventories import used_ip_inventory
from viaduct_ipam.store.api import UsedIp
from viaduct_ipam.store.filling import announce_fill
from viaduct_ipam.store.releasing import IPAM_ITSELF, Claim, take_back, warm
from viaduct_ipam.store.states import load_states
from viaduct_ipam.store.sweeping import (
    Due,
    EmptyBlock,
    by_scope,
    drop_empty,
    forget_history,
    lock,
    read_due,
    read_empty_blocks,
)

log = structlog.get_logger()

EVERY_SECONDS = 1.0
TIDY_EACH = 10  # so many sweeps
WINDOW = 5000  # what is due is looked up so many at a time,
CHUNK = 500  # and so many of one scope are done in one transaction
TIDY_CHUNK = 2000

_BEFORE_ALL: Final = EmptyBlock(UUID(int=0), IPv4Address(0), UUID(int=0), False)


class Sweeper:
    """Args:
    history_days: how long a holding is kept after its end.
    committed: called after each commit that may have written to the outbox.
    """

    def __init__(self, pool: Pool, *, history_days: float, committed: Callable[[], None] = lambda: None) -> None:
        self._pool = pool
        self._history = timedelta(days=history_days)
        self._committed = committed
        self._skipped: set[UUID] = set()  # scopes that somebody else had

    async def run(self) -> None:
        """Sweep until cancelled."""
        count = 0
        while True:
            try:
                await self._sweep_due()
                if count % TIDY_EACH == 0:
                    await self._tidy()
            except StoreUnavailable as error:
                log.warning("sweep_postponed", reason=str(error))
            count += 1
            await asyncio.sleep(EVERY_SECONDS)

    async def sweep_once(self) -> None:
        """Do all that is due, but for what somebody else is at.

        Raises:
            StoreUnavailable: the database is away; what is not done yet is still due.
        """
        await self._sweep_due()
        await self._tidy()

    # ---- leases and cooling addresses ------------------------------------------------------------------------

    async def _sweep_due(self) -> None:
        waited_for, self._skipped = self._skipped, set()
        found = WINDOW
        while found >= WINDOW:
            async with transaction(self._pool) as connection:
                due = await read_due(connection, WINDOW)
            found = max(sum(len(one.leases) for one in due.values()), sum(len(one.cooled) for one in due.values()))
            for l3_network_uuid, mine in due.items():
                if l3_network_uuid in self._skipped:
                    continue
                # A busy scope is locked nearly always: who never waits would never get it.
                if not await self._sweep_scope(l3_network_uuid, mine, wait=l3_network_uuid in waited_for):
                    self._skipped.add(l3_network_uuid)
            if due.keys() <= self._skipped:
                break

    async def _sweep_scope(self, l3_network_uuid: UUID, due: Due, *, wait: bool) -> bool:
        """False: somebody else has it."""
        for index in range(0, max(len(due.leases), len(due.cooled)), CHUNK):
            part = Due(due.leases[index : index + CHUNK], due.cooled[index : index + CHUNK])
            if not await self._sweep_part(l3_network_uuid, part, wait=wait):
                return False
        return True

    async def _sweep_part(self, l3_network_uuid: UUID, due: Due, *, wait: bool) -> bool:
        async with transaction(self._pool) as connection:
            if not await lock(connection, l3_network_uuid, wait=wait):
                return False
            state = (await load_states(connection, [l3_network_uuid], {}))[l3_network_uuid]
            [ended] = await take_back(connection, state, [Claim(IPAM_ITSELF, due.leases)], "expired")
            await warm(connection, state, due.cooled)
            await enqueue(connection, [_expired(one) for one in ended])
            await announce_fill(connection, state)
        self._committed()
        metrics.ADDRESSES.labels("expired").inc(len(ended))
        return True

    # ---- blocks and history ----------------------------------------------------------------------------------

    async def _tidy(self) -> None:
        await self._drop_empty_blocks()
        found = TIDY_CHUNK
        while found == TIDY_CHUNK:
            async with transaction(self._pool) as connection:
                found = await forget_history(connection, self._history, TIDY_CHUNK)

    async def _drop_empty_blocks(self) -> None:
        after = _BEFORE_ALL
        while True:
            async with transaction(self._pool) as connection:
                blocks = await read_empty_blocks(connection, after, TIDY_CHUNK)
            for l3_network_uuid, mine in by_scope(one for one in blocks if not one.is_needed).items():
                async with transaction(self._pool) as connection:
                    if await lock(connection, l3_network_uuid, wait=False):
                        await drop_empty(connection, l3_network_uuid, mine)
            if len(blocks) < TIDY_CHUNK:
                break
            after = blocks[-1]


def _expired(used: UsedIp) -> Outgoing:
    body = IpamEvent(subject=used_ip_inventory(used).model_dump(mode="json")).to_json()
    return Outgoing(topology.EVENTS, routing_key="ip.expired", type="ip.expired", body=body, mandatory=False)
