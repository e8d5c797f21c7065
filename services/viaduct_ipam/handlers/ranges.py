"""`range.*`."""

from viaduct_common.errors import InUse, IpRangeConflict, NotFound
from viaduct_common.messages.base import Page
from viaduct_common.messages.ipam import (
    CreateRange,
    DeleteRange,
    GetRange,
    QueryIps,
    QueryRanges,
    RangeInventory,
    UsedIpFilters,
)
from viaduct_ipam.handlers.inventories import range_inventory
from viaduct_ipam.model.ranges import Range, bounds_of
from viaduct_ipam.model.siblings import beside, pools_left_alone
from viaduct_ipam.store.api import Store

# So many of the addresses in use, or of the address pools, are named where they are in the way.
NAMED = 10


async def create_range(request: CreateRange, store: Store) -> list[RangeInventory]:
    """Raises:
    InvalidRequest: a bound is bad, by itself or beside the other ranges of the L3 network.
    IpRangeConflict: it overlaps a range on the same L2 network; `details.rangeUuid` names that one.
    NotFound: no such L3 network.
    """
    wanted = bounds_of(request)
    scope = await store.lock_scope(request.l3_network_uuid)
    if scope is None:
        raise NotFound.of("L3 network", request.l3_network_uuid)
    other = await store.overlapping(scope.scope.l2_network_uuid, wanted)
    if other is not None:
        raise IpRangeConflict(f"overlaps range {other} on the same L2 network", rangeUuid=str(other))
    siblings = [one.bounds for one in await store.ranges_of(request.l3_network_uuid)]
    bounds = beside(wanted, siblings, request)
    inventories = [range_inventory(one) for one in await scope.add_ranges(bounds, request.name)]
    for inventory in inventories:
        await store.announce("range.created", inventory)
    await store.announce_fill(request.l3_network_uuid)
    return inventories


async def get_range(request: GetRange, store: Store) -> RangeInventory:
    """Raises:
    NotFound: no such range.
    """
    found = await store.find_range(request.uuid)
    if found is None:
        raise NotFound.of("range", request.uuid)
    return range_inventory(found)


async def query_ranges(request: QueryRanges, store: Store) -> Page[RangeInventory]:
    page = await store.list_ranges(request)
    return Page[RangeInventory](items=[range_inventory(one) for one in page.items], after=page.after)


async def delete_range(request: DeleteRange, store: Store) -> RangeInventory | None:
    """One that is gone already is no error.

    Raises:
        InUse: an address of it is allocated; `details.ips` names some. Or it is the last normal range of its IP
            version and there is an address pool; `details.addressPoolUuids` names some.
    """
    known = await store.find_range(request.uuid)
    if known is None:
        return None
    scope = await store.lock_scope(known.l3_network_uuid)
    found = await store.find_range(request.uuid)  # again: only now nobody else changes it
    if scope is None or found is None:
        return None
    await _check_unused(found, store)
    await scope.remove_range(found.uuid)
    inventory = range_inventory(found)
    await store.announce("range.deleted", inventory)
    await store.announce_fill(found.l3_network_uuid)
    return inventory


async def _check_unused(found: Range, store: Store) -> None:
    if found.used_count:
        filters = UsedIpFilters(range_uuid=found.uuid)
        some = await store.list_used(QueryIps(filters=filters, limit=NAMED))
        raise InUse(
            f"{found.used_count} addresses of range {found.uuid} are in use",
            rangeUuid=str(found.uuid),
            used=found.used_count,
            ips=[str(one.ip) for one in some.items],
        )
    pools = pools_left_alone(found, await store.ranges_of(found.l3_network_uuid))
    if pools:
        raise InUse(
            f"range {found.uuid} is the last normal one of the L3 network, which has address pools",
            rangeUuid=str(found.uuid),
            addressPoolUuids=[str(uuid) for uuid in pools[:NAMED]],
        )
