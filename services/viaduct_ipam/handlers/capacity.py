"""`ip.capacity`."""

from collections.abc import Iterable
from uuid import UUID

from viaduct_common.errors import InvalidRequest, NotFound
from viaduct_common.messages.ipam import GetIpCapacity, IpCapacity
from viaduct_ipam.model.capacity import capacity_of
from viaduct_ipam.store.api import Store


async def get_ip_capacity(request: GetIpCapacity, store: Store) -> IpCapacity:
    """Each range is counted once, however often it is named. A zone without L3 networks has no addresses: IPAM does
    not know zones by themselves.

    Raises:
        InvalidRequest: not exactly one of the three lists.
        NotFound: one of the L3 networks or ranges does not exist.
    """
    lists = (request.l3_network_uuids, request.range_uuids, request.zone_uuids)
    if sum(one is not None for one in lists) != 1:
        raise InvalidRequest.of_field("l3NetworkUuids", "give exactly one of l3NetworkUuids, rangeUuids and zoneUuids")
    if request.l3_network_uuids is not None:
        _check_known("L3 network", request.l3_network_uuids, await store.known_scopes(request.l3_network_uuids))
        return capacity_of(await store.usages_of_l3(request.l3_network_uuids))
    if request.range_uuids is not None:
        usages = await store.usages_of_ranges(request.range_uuids)
        _check_known("range", request.range_uuids, {one.range.uuid for one in usages})
        return capacity_of(usages)
    assert request.zone_uuids is not None
    return capacity_of(await store.usages_of_zones(request.zone_uuids))


def _check_known(kind: str, asked: Iterable[UUID], known: set[UUID]) -> None:
    for uuid in asked:
        if uuid not in known:
            raise NotFound.of(kind, uuid)
