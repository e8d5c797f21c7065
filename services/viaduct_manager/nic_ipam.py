"""NICs' addresses at IPAM: asked for and given back so that any of it may be done again after a crash.

Every request for addresses has a message id that follows from the NIC's uuid. So who repeats one gets the answer of the
first, and who wants to be rid of addresses that may or may not have been given asks once more, and gives back what he
hears of: nothing that comes late can take one after that.
"""

from collections.abc import Sequence
from typing import TypeVar
from uuid import UUID, uuid5

from viaduct_common.bus import Bus
from viaduct_common.errors import ViaductError
from viaduct_common.messages.base import Request
from viaduct_common.messages.ipam import AllocateIp, QueryIps, QueryRanges, RangeFilters, ReleaseIp, UsedIpFilters
from viaduct_common.messages.ipam import UsedIpInventory as UsedIp
from viaduct_manager.store.nic_addresses import Claimed

V = TypeVar("V")

# Two of these are shorter than a session may be idle in a transaction, and no longer than a lock is waited for.
IPAM_SECONDS = 2.5


class NicIpam:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def versions_of(self, l3_uuid: UUID) -> list[int]:
        """The IP versions that an L3 network has ranges of, ascending.

        Raises:
            ViaductError: IPAM does not answer.
        """
        found: set[int] = set()
        after = None
        while True:
            filters = RangeFilters(l3_network_uuid=l3_uuid, type="normal")
            page = await self._ask(QueryRanges(filters=filters, limit=1000, after=after))
            found |= {one.ip_version for one in page.items}
            after = page.after
            if after is None:
                return sorted(found)

    async def allocate(self, nic: Claimed, versions: Sequence[int]) -> list[UsedIp]:
        """All that the NIC should have: what it must have, or one address of each of these IP versions.

        Raises:
            ViaductError: IPAM refuses, or does not answer; some may have been given.
        """
        given: list[UsedIp] = []
        for request, message_id in requests_for(nic, versions):
            answer: list[UsedIp] = await self._ask(request, message_id)
            given += answer
        return given

    async def release(self, nic: Claimed, versions: Sequence[int]) -> None:
        """Give back whatever the NIC has, or may have. `versions` are those that were, or would be, asked for.

        Raises:
            ViaductError: IPAM does not answer.
        """
        uuids = set(nic.allocations)
        if nic.addresses == "asked":
            uuids |= await self._settle(nic, versions)
        if uuids:
            await self._ask(ReleaseIp(uuids=sorted(uuids)))

    async def _settle(self, nic: Claimed, versions: Sequence[int]) -> set[UUID]:
        """What became of the NIC's requests, each of which is answered for good after this."""
        uuids: set[UUID] = set()
        for request, message_id in requests_for(nic, versions):
            try:
                uuids |= {one.uuid for one in await self._ask(request, message_id)}
            except ViaductError as error:
                if error.retryable:
                    raise
        # And what was given when the answers were not remembered any more.
        page = await self._ask(QueryIps(filters=UsedIpFilters(owner=str(nic.uuid)), limit=1000))
        return uuids | {one.uuid for one in page.items}

    async def _ask(self, request: Request[V], message_id: UUID | None = None) -> V:
        return await self._bus.call(request, timeout_seconds=IPAM_SECONDS, message_id=message_id)


def requests_for(nic: Claimed, versions: Sequence[int]) -> list[tuple[AllocateIp, UUID]]:
    """What to ask for, and by which message id: the same for a NIC at any time, whatever `versions` have become."""
    common = {"l3_network_uuid": nic.l3_uuid, "owner": str(nic.uuid), "mac": nic.mac}
    if nic.required_ips:
        return [
            (AllocateIp.model_validate({**common, "required_ip": ip}), uuid5(nic.uuid, f"ip.allocate {ip}"))
            for ip in nic.required_ips
        ]
    if not versions:
        return []
    return [(AllocateIp.model_validate({**common, "ip_versions": list(versions)}), uuid5(nic.uuid, "ip.allocate"))]
