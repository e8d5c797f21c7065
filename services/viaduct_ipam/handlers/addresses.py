"""`ip.*`: giving addresses out, taking them back, and looking."""

import random
from uuid import UUID

from viaduct_common.errors import Exhausted, InvalidRequest, NotFound
from viaduct_common.messages.base import Page
from viaduct_common.messages.fields import IpAddress
from viaduct_common.messages.ipam import (
    AllocateIp,
    CheckIp,
    GetFreeIps,
    GetIp,
    IpAvailability,
    QueryIps,
    ReleaseIp,
    UsedIpInventory,
)
from viaduct_ipam.handlers.inventories import used_ip_inventory
from viaduct_ipam.model.allocation import candidates, check_allocation, decide_required
from viaduct_ipam.model.availability import why_unavailable
from viaduct_ipam.model.ranges import Address, Range
from viaduct_ipam.model.reservations import reserved_set
from viaduct_ipam.model.strategies import STRATEGIES, ascending, open_space, without
from viaduct_ipam.search import find_free, lowest_free
from viaduct_ipam.store.api import LockedScope, Pick, Store, UsedIp


async def allocate_ip(request: AllocateIp, store: Store, rng: random.Random) -> list[UsedIpInventory]:
    """All or none of `count` addresses.

    Raises:
        InvalidRequest: the request contradicts itself.
        NotFound: no such L3 network, or it has no such range.
        NotInRange, IpInUse: the required address cannot be had; see `decide_required`.
        Exhausted: fewer than `count` are free.
    """
    check_allocation(request)
    scope = await store.lock_scope(request.l3_network_uuid)
    if scope is None:
        raise NotFound.of("L3 network", request.l3_network_uuid)
    ranges = candidates(request, await store.ranges_of(request.l3_network_uuid))
    if request.required_ip is not None:
        pick = await _required(request, store, ranges)
        return [used_ip_inventory(one) for one in await scope.take([pick], request.owner)]
    return [used_ip_inventory(one) for one in await _any(request, store, scope, ranges, rng)]


async def _required(request: AllocateIp, store: Store, ranges: list[Range]) -> Pick:
    ip = request.required_ip
    assert ip is not None
    reserved = reserved_set(await store.reservations_of(request.l3_network_uuid), ip.version)
    used = await store.used_among(request.l3_network_uuid, [ip])
    home = decide_required(request, ranges, is_used=ip in used, is_reserved=int(ip) in reserved)
    return Pick(home, ip)


async def _any(
    request: AllocateIp, store: Store, scope: LockedScope, ranges: list[Range], rng: random.Random
) -> list[UsedIp]:
    strategy = STRATEGIES[request.strategy or scope.scope.strategy]
    space = open_space(ranges, await store.reservations_of(request.l3_network_uuid))
    space = without(space, request.excluded_ips)
    cursor: Address | None = None
    if request.range_uuid is not None:
        cursor = ranges[0].last_given
    elif ranges:
        cursor = scope.scope.last_given.get(ranges[0].bounds.version)
    picks = await find_free(
        store, request.l3_network_uuid, space, request.count, strategy=strategy, cursor=cursor, rng=rng
    )
    if len(picks) < request.count:
        raise Exhausted(
            f"{request.count} addresses are wanted, {len(picks)} are free",
            l3NetworkUuid=str(request.l3_network_uuid),
            rangeUuid=str(request.range_uuid) if request.range_uuid else None,
            wanted=request.count,
            free=len(picks),
        )
    taken = await scope.take(picks, request.owner)
    if strategy.moves_cursor:
        await scope.remember_given(picks[-1])
    return taken


async def release_ip(request: ReleaseIp, store: Store) -> list[UsedIpInventory]:
    """What was released, in the order in which it was named; what is not in use is left out, also when its L3 network
    is gone.

    Raises:
        InvalidRequest: neither or both of `uuids` and `l3NetworkUuid` with `ips`.
    """
    if request.uuids is not None:
        if request.l3_network_uuid is not None or request.ips is not None:
            raise InvalidRequest.of_field("uuids", "give either uuids, or l3NetworkUuid and ips")
        return await _release_uuids(request.uuids, store)
    if request.l3_network_uuid is None:
        raise InvalidRequest.of_field(
            "l3NetworkUuid" if request.ips else "uuids", "give uuids, or l3NetworkUuid and ips"
        )
    if request.ips is None:
        raise InvalidRequest.of_field("ips", "give the addresses to release")
    scope = await store.lock_scope(request.l3_network_uuid)
    if scope is None:
        return []
    released = {one.ip: one for one in await scope.give_back(ips=request.ips)}
    return [used_ip_inventory(released[ip]) for ip in dict.fromkeys(request.ips) if ip in released]


async def _release_uuids(uuids: list[UUID], store: Store) -> list[UsedIpInventory]:
    released: dict[UUID, UsedIp] = {}
    for l3_network_uuid in await store.scopes_of_used(uuids):
        scope = await store.lock_scope(l3_network_uuid)
        if scope is not None:
            released |= {one.uuid: one for one in await scope.give_back(uuids=uuids)}
    return [used_ip_inventory(released[uuid]) for uuid in dict.fromkeys(uuids) if uuid in released]


async def get_ip(request: GetIp, store: Store) -> UsedIpInventory:
    """Raises:
    NotFound: no such allocation; it may have been released.
    """
    found = await store.find_used(request.uuid)
    if found is None:
        raise NotFound.of("used IP", request.uuid)
    return used_ip_inventory(found)


async def query_ips(request: QueryIps, store: Store) -> Page[UsedIpInventory]:
    page = await store.list_used(request)
    return Page[UsedIpInventory](items=[used_ip_inventory(one) for one in page.items], after=page.after)


async def check_ip(request: CheckIp, store: Store) -> IpAvailability:
    """Raises:
    NotFound: no such L3 network.
    """
    if await store.find_scope(request.l3_network_uuid) is None:
        raise NotFound.of("L3 network", request.l3_network_uuid)
    ranges = await store.ranges_of(request.l3_network_uuid)
    reserved = reserved_set(await store.reservations_of(request.l3_network_uuid), request.ip.version)
    used = await store.used_among(request.l3_network_uuid, [request.ip])
    reason = why_unavailable(request.ip, ranges, is_used=request.ip in used, is_reserved=int(request.ip) in reserved)
    return IpAvailability(available=reason is None, reason=reason)


async def get_free_ips(request: GetFreeIps, store: Store) -> list[IpAddress]:
    """Ascending, IPv4 before IPv6; with `start` only addresses of its version.

    Raises:
        InvalidRequest: neither or both of `l3NetworkUuid` and `rangeUuid`.
        NotFound: no such L3 network or range.
    """
    ranges, l3 = await _ranges_to_look_at(request, store)
    space = open_space(ranges, await store.reservations_of(l3))
    picks = await lowest_free(store, ascending(space, request.start), request.limit)
    return [pick.ip for pick in picks]


async def _ranges_to_look_at(request: GetFreeIps, store: Store) -> tuple[list[Range], UUID]:
    if (request.l3_network_uuid is None) == (request.range_uuid is None):
        raise InvalidRequest.of_field("l3NetworkUuid", "give exactly one of l3NetworkUuid and rangeUuid")
    if request.l3_network_uuid is not None:
        if await store.find_scope(request.l3_network_uuid) is None:
            raise NotFound.of("L3 network", request.l3_network_uuid)
        return list(await store.ranges_of(request.l3_network_uuid)), request.l3_network_uuid
    assert request.range_uuid is not None
    found = await store.find_range(request.range_uuid)
    if found is None:
        raise NotFound.of("range", request.range_uuid)
    return [found], found.l3_network_uuid
