"""The duty behind requests about VMs' networks: moves their operations on, and asks IPAM, outside of any request.

    something happened ─► operation is due ─► VmConductor ─► NICs with something to do ─► IPAM ─► operation is due ─► ..

Any number of managers may run one each. All that is to be done stands in Postgres; NICs are claimed with SKIP LOCKED
for as long as IPAM is asked, so that another manager takes over from one that dies at once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar
from uuid import UUID

import structlog

from viaduct_common.bus import StoreUnavailable
from viaduct_common.errors import DeadlineExceeded, ViaductError
from viaduct_common.messages.base import ErrorBody
from viaduct_common.messages.ipam import UsedIpInventory
from viaduct_common.postgres.pool import Connection, Pool, single_statements, transaction
from viaduct_manager.nic_ipam import IPAM_SECONDS, NicIpam
from viaduct_manager.store import account_networks, nic_addresses, vm_operations
from viaduct_manager.store.nic_addresses import Claimed
from viaduct_manager.vm_conductor import VmConductor

log = structlog.get_logger()

POLL_SECONDS = 1.0
AT_ONCE = 4
DUE_AT_MOST = 64
AGAIN_SECONDS = 0.5

V = TypeVar("V")
Answer = list[UsedIpInventory] | ErrorBody | None


class VmWorker:
    """Args:
    committed: called after each commit.
    """

    def __init__(self, pool: Pool, conductor: VmConductor, ipam: NicIpam, committed: Callable[[], None]) -> None:
        self._pool = pool
        self._conductor = conductor
        self._ipam = ipam
        self._committed = committed
        self._operations = asyncio.Event()
        self._nics = asyncio.Event()

    def wake(self) -> None:
        """Something was committed: do not wait for the next poll."""
        self._operations.set()
        self._nics.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_repeat(self._move_operations, self._operations))
            tasks.create_task(_repeat(self._serve_nics, self._nics))

    # ---- operations ----------------------------------------------------------------------------------------------

    async def _move_operations(self) -> bool:
        """One round; true if there was something to do."""
        async with single_statements(self._pool) as connection:
            due = await vm_operations.due(connection, DUE_AT_MOST)
        turns = asyncio.Semaphore(AT_ONCE)

        async def move(operation_uuid: UUID) -> bool:
            async with turns:
                return await self._move(operation_uuid)

        moved = await asyncio.gather(*(move(uuid) for uuid in due))
        return any(moved)

    async def _move(self, operation_uuid: UUID) -> bool:
        """One that cannot be moved must not keep the others from it; it is tried again in the next round."""
        try:
            async with transaction(self._pool) as connection:
                await self._conductor.advance(connection, operation_uuid)
        except (StoreUnavailable, ViaductError) as error:
            log.warning("operation_not_moved", operation_uuid=str(operation_uuid), reason=str(error))
            return False
        except Exception:
            log.exception("operation_crashed", operation_uuid=str(operation_uuid))
            return False
        self._committed()
        self._nics.set()
        return True

    # ---- NICs ----------------------------------------------------------------------------------------------------

    async def _serve_nics(self) -> bool:
        """One round: ask IPAM about all that can be claimed; true if something was done."""
        gone: list[UUID] = []
        async with single_statements(self._pool) as connection:
            if not await nic_addresses.any_due(connection):
                return False
        async with transaction(self._pool) as connection:
            claimed = await nic_addresses.claim(connection)
            if not claimed:
                return False
            answers = await self._ask(claimed)
            for nic, answer in zip(claimed, answers, strict=True):
                if await self._record(connection, nic, answer):
                    gone.append(nic.l2_uuid)
        self._committed()
        self._operations.set()
        await self._give_up(set(gone))
        return any(not isinstance(answer, ErrorBody) or not answer.retryable for answer in answers)

    async def _ask(self, claimed: list[Claimed]) -> list[Answer]:
        """What IPAM gave, nothing for a release, or why it did not; all are asked at once."""
        # What every NIC's request hangs on is asked once for all of one L3 network.
        l3_uuids = {nic.l3_uuid for nic in claimed if nic.asks_for_versions}
        answered = await asyncio.gather(*(_within(self._ipam.versions_of(l3_uuid)) for l3_uuid in l3_uuids))
        versions_by_l3 = dict(zip(l3_uuids, answered, strict=True))

        async def ask(nic: Claimed) -> Answer:
            versions = versions_by_l3.get(nic.l3_uuid, [])
            if isinstance(versions, ErrorBody):
                return versions
            if nic.todo == "allocate":
                return await _within(self._ipam.allocate(nic, versions))
            return await _within(self._ipam.release(nic, versions))

        return list(await asyncio.gather(*map(ask, claimed)))

    async def _record(self, connection: Connection, nic: Claimed, answer: Answer) -> bool:
        """Keep what came of it; true if the NIC is gone."""
        if isinstance(answer, ErrorBody):
            log.info("ipam_refused", nic_uuid=str(nic.uuid), todo=nic.todo, code=answer.code, reason=answer.message)
            if nic.todo == "allocate" and not answer.retryable:
                await nic_addresses.refuse(connection, nic.uuid, answer)
            else:
                await nic_addresses.postpone(connection, nic.uuid, AGAIN_SECONDS)
            return False
        if nic.todo == "allocate":
            await nic_addresses.record(connection, nic.uuid, answer or [])
            return False
        await nic_addresses.remove(connection, nic.uuid)
        return True

    async def _give_up(self, l2_uuids: set[UUID]) -> None:
        """What an account had for the sake of NICs that are gone. Who dies before this leaves it to the caretaker."""
        for l2_uuid in l2_uuids:
            async with transaction(self._pool) as connection:
                await account_networks.give_up(connection, l2_uuid)


async def _within(asking: Coroutine[Any, Any, V]) -> V | ErrorBody:
    """What IPAM answers, or why it does not; in time, for NICs are claimed meanwhile."""
    try:
        async with asyncio.timeout(IPAM_SECONDS):
            return await asking
    except TimeoutError:
        return DeadlineExceeded("IPAM does not answer").to_body()
    except ViaductError as error:
        return error.to_body()


async def _repeat(do: Callable[[], Awaitable[bool]], woken: asyncio.Event) -> None:
    """Again and again while there is something to do; then when woken, or when others may have left something."""
    while True:
        woken.clear()
        try:
            if await do():
                continue
        except StoreUnavailable as error:
            log.warning("vm_worker_store_unavailable", reason=str(error))
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await woken.wait()
        except TimeoutError:
            continue
