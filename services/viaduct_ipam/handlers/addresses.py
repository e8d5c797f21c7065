"""`ip.*` but for what the engine does: giving out, and taking back in one scope."""

from viaduct_common.errors import InvalidRequest, NotFound
from viaduct_common.messages.base import Page
from viaduct_common.messages.fields import IpAddress
from viaduct_common.messages.ipam import (
    CheckIp,
    GetFreeIps,
    GetIp,
    IpAvailability,
    QueryIps,
    ReleaseIp,
    RenewIps,
    UsedIpInventory,
)
from viaduct_ipam.engine import metrics
from viaduct_ipam.handlers.inventories import used_ip_inventory
from viaduct_ipam.model.availability import why_unavailable
from viaduct_ipam.model.layout import Space
from viaduct_ipam.model.search import lowest_free
from viaduct_ipam.model.state import Pick, ScopeState
from viaduct_ipam.store.api import Store


async def release_ip(request: ReleaseIp, store: Store) -> list[UsedIpInventory]:
    """What was released, in the order in which it was named; what is not in use is left out, also when its L3 network
    is gone.

    Raises:
        InvalidRequest: neither or both of `uuids` and `l3NetworkUuid` with `ips`.
    """
    if request.uuids is not None:
        if request.l3_network_uuid is not None or request.ips is not None:
            raise InvalidRequest.of_field("uuids", "give either uuids, or l3NetworkUuid and ips")
        released = await store.release(request.uuids)
        metrics.released.inc(len(released))
        return [used_ip_inventory(one) for one in released]
    if request.l3_network_uuid is None:
        raise InvalidRequest.of_field(
            "l3NetworkUuid" if request.ips else "uuids", "give uuids, or l3NetworkUuid and ips"
        )
    if request.ips is None:
        raise InvalidRequest.of_field("ips", "give the addresses to release")
    return []


async def renew_ips(request: RenewIps, store: Store) -> list[UsedIpInventory]:
    """All or none, in the order in which they were named.

    Raises:
        NotFound: one is not in use (any more), or its lease has ended.
    """
    uuids = list(dict.fromkeys(request.uuids))
    renewed = {one.uuid: one for one in await store.renew(uuids, request.ttl_seconds)}
    for uuid in uuids:
        if uuid not in renewed:
            raise NotFound.of("used IP", uuid)
    return [used_ip_inventory(renewed[uuid]) for uuid in uuids]


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
    l3, ip = request.l3_network_uuid, request.ip
    reason = why_unavailable(
        ip,
        await store.ranges_of(l3),
        taken_as=await store.taken_as(l3, ip),
        is_reserved=bool(await store.reservations_over(l3, ip, ip)),
    )
    return IpAvailability(available=reason is None, reason=reason)


async def get_free_ips(request: GetFreeIps, store: Store) -> list[IpAddress]:
    """Ascending, IPv4 before IPv6; with `start` only addresses of its version.

    Raises:
        InvalidRequest: neither or both of `l3NetworkUuid` and `rangeUuid`.
        NotFound: no such L3 network or range.
    """
    state, space = await _space_to_look_at(request, store)
    found: list[Pick] = []
    for asks in lowest_free(state, space, request.start, request.limit, found):
        await store.learn(state, asks)
    return [pick.range.range.bounds.address(pick.ip) for pick in found]


async def _space_to_look_at(request: GetFreeIps, store: Store) -> tuple[ScopeState, Space]:
    if (request.l3_network_uuid is None) == (request.range_uuid is None):
        raise InvalidRequest.of_field("l3NetworkUuid", "give exactly one of l3NetworkUuid and rangeUuid")
    if request.l3_network_uuid is not None:
        state = await store.state_of(request.l3_network_uuid)
        if state is None:
            raise NotFound.of("L3 network", request.l3_network_uuid)
        return state, Space(state.layout.ranges)
    assert request.range_uuid is not None
    found = await store.find_range(request.range_uuid)
    state = await store.state_of(found.l3_network_uuid) if found else None
    if state is None or request.range_uuid not in state.layout.by_uuid:
        raise NotFound.of("range", request.range_uuid)
    return state, state.layout.space_of_range(request.range_uuid)
