"""Addresses that service instances have for themselves, at IPAM: asked for so that it may be done again after a crash.

The id of a request follows from the instance and its epoch, which was committed before. So whoever repeats a request
gets the answer of the first; once addresses were given up the epoch is another, and so is the answer.
"""

from collections.abc import Collection
from uuid import UUID, uuid5

from viaduct_common.bus import Bus
from viaduct_common.errors import ViaductError
from viaduct_common.messages.ipam import (
    AllocateIp,
    QueryIps,
    QueryRanges,
    RangeFilters,
    ReleaseIp,
    UsedIpFilters,
    UsedIpInventory,
)
from viaduct_common.postgres.pool import Connection
from viaduct_manager.network_services.api import ServiceKey
from viaduct_manager.store import service_addresses
from viaduct_manager.store.service_addresses import ServiceAddress

# As for NICs: a few of these are shorter than a session may be idle in a transaction.
IPAM_SECONDS = 2.5


class ServiceAddresses:
    """To be used in a provider's `desired` alone, for the keys that it was asked about: nobody else looks at those
    meanwhile. What an instance has is given up by itself once it is wanted no more and no host has it."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def held(self, connection: Connection, key: ServiceKey) -> list[ServiceAddress]:
        """What the instance has, by purpose and IP version."""
        return await service_addresses.held(connection, key.uuid)

    async def versions_of(self, l3_uuid: UUID) -> list[int]:
        """The IP versions that an L3 network has ranges of, ascending.

        Raises:
            ViaductError: IPAM does not answer.
        """
        filters = RangeFilters(l3_network_uuid=l3_uuid, type="normal")
        page = await self._bus.call(QueryRanges(filters=filters, limit=1000), timeout_seconds=IPAM_SECONDS)
        return sorted({one.ip_version for one in page.items})

    async def ensure(
        self,
        connection: Connection,
        key: ServiceKey,
        *,
        purpose: str,
        l3_uuid: UUID,
        versions: Collection[int],
        mac: str | None = None,
    ) -> list[ServiceAddress]:
        """One address of each of these IP versions in the L3 network, those that it has already among them; what it has
        for this purpose of another version, or in another network, is given up.

        Raises:
            ViaductError: IPAM refuses, or does not answer.
        """
        had = [one for one in await self.held(connection, key) if one.purpose == purpose]
        kept = [one for one in had if one.l3_uuid == l3_uuid and one.ip_version in versions]
        stale = [one.ip_version for one in had if one not in kept]
        if stale:
            await service_addresses.give_up(connection, key.uuid, purpose=purpose, versions=stale)
        lacking = sorted(set(versions) - {one.ip_version for one in kept})
        if not lacking:
            return kept
        epoch = await service_addresses.epoch(connection, key.uuid)
        for version in lacking:
            request = AllocateIp(l3_network_uuid=l3_uuid, ip_version=version, owner=str(key.uuid), mac=mac)
            message_id = uuid5(key.uuid, f"{epoch}/{purpose}/{l3_uuid}/{version}")
            given = await self._ask(connection, key, request, message_id)
            await service_addresses.add(connection, key.uuid, purpose, given)
        return [one for one in await self.held(connection, key) if one.purpose == purpose]

    async def _ask(
        self, connection: Connection, key: ServiceKey, request: AllocateIp, message_id: UUID
    ) -> UsedIpInventory:
        """IPAM repeats its refusals as well: who was refused asks anew, for there may be addresses now."""
        try:
            [given] = await self._bus.call(request, timeout_seconds=IPAM_SECONDS, message_id=message_id)
        except ViaductError as error:
            if error.retryable:
                raise
            if (lost := await self._lost(connection, key, request)) is not None:
                return lost
            [given] = await self._bus.call(request, timeout_seconds=IPAM_SECONDS)
        return given

    async def _lost(self, connection: Connection, key: ServiceKey, request: AllocateIp) -> UsedIpInventory | None:
        """What was given to somebody who asked anew, and died before it was kept."""
        filters = UsedIpFilters(owner=request.owner, l3_network_uuid=request.l3_network_uuid)
        page = await self._bus.call(QueryIps(filters=filters, limit=1000), timeout_seconds=IPAM_SECONDS)
        known = await service_addresses.known(connection, key.uuid)
        fit = (one for one in page.items if one.ip_version == request.ip_version and one.uuid not in known)
        return next(fit, None)

    async def give_up(self, connection: Connection, key: ServiceKey, *, purpose: str | None = None) -> None:
        """The instance has no use for them any more; no purpose stands for all."""
        await service_addresses.give_up(connection, key.uuid, purpose=purpose)

    async def tell_ipam(self, connection: Connection) -> int:
        """Give IPAM back what was given up; return how many. What is back already is no error.

        Raises:
            ViaductError: IPAM does not answer.
        """
        gone = await service_addresses.claim_gone(connection)
        if gone:
            await self._bus.call(ReleaseIp(uuids=gone), timeout_seconds=IPAM_SECONDS)
            await service_addresses.forget_gone(connection, gone)
        return len(gone)
