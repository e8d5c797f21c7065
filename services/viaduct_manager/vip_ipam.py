"""VIPs' addresses at IPAM: asked for inside the transaction that makes the VIP, given back after the one that ends it.

A client's request has an id, of which that of the question to IPAM follows: a request that is done again gets the same
address. Where there is no such id, what IPAM gave the last time is looked for. What it gave for a request that is never
done again is nobody's: an audit finds it.
"""

import asyncio
from uuid import UUID, uuid4, uuid5

import structlog

from viaduct_common.bus import Bus, StoreUnavailable
from viaduct_common.errors import ViaductError
from viaduct_common.messages.ipam import AllocateIp, QueryIps, ReleaseIp, UsedIpFilters
from viaduct_common.messages.ipam import UsedIpInventory as UsedIp
from viaduct_common.postgres.pool import Pool, single_statements, transaction
from viaduct_manager.model.public_addresses import Address
from viaduct_manager.store import vips

log = structlog.get_logger()

IPAM_SECONDS = 5.0
POLL_SECONDS = 1.0
OWNER_PREFIX = "vip:"


class VipIpam:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def allocate(
        self,
        vip_uuid: UUID,
        l3_uuid: UUID,
        *,
        ip: Address | None = None,
        version: int | None = None,
        asked_by: str | None = None,
    ) -> UsedIp:
        """One address; the same if it is asked for again.

        Args:
            asked_by: the identity of the request, None if it has none: then no VIP ever had this uuid.

        Raises:
            ViaductError: IPAM refuses, or does not answer.
        """
        owner = f"{OWNER_PREFIX}{vip_uuid}"
        if asked_by is None:
            lost = await self._bus.call(QueryIps(filters=UsedIpFilters(owner=owner)), timeout_seconds=IPAM_SECONDS)
            if lost.items:
                return lost.items[0]
        request = AllocateIp(l3_network_uuid=l3_uuid, required_ip=ip, ip_version=version, owner=owner)
        message_id = uuid4() if asked_by is None else uuid5(vip_uuid, f"ip.allocate {asked_by}")
        [given] = await self._bus.call(request, timeout_seconds=IPAM_SECONDS, message_id=message_id)
        return given


class VipReleaser:
    """The duty of telling IPAM of VIPs that are gone, until it knows. Any number of managers may run one each."""

    def __init__(self, pool: Pool, bus: Bus) -> None:
        self._pool = pool
        self._bus = bus
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Something was committed: do not wait for the next poll."""
        self._woken.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._woken.clear()
            try:
                while await self.tell():
                    pass
            except (StoreUnavailable, ViaductError) as error:
                log.warning("vips_not_released", reason=str(error))
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def tell(self) -> int:
        """One round: how many addresses IPAM has back. What it has already is no error.

        Raises:
            ViaductError: IPAM does not answer.
        """
        async with single_statements(self._pool) as connection:
            if not await vips.any_gone(connection):  # as nearly always, and it is asked after each commit
                return 0
        async with transaction(self._pool) as connection:
            gone = await vips.claim_gone(connection)
            if gone:
                await self._bus.call(ReleaseIp(uuids=gone), timeout_seconds=IPAM_SECONDS)
                await vips.forget_gone(connection, gone)
        return len(gone)
