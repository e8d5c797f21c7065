"""`scope.*`: the L3 networks that the manager, or whoever uses IPAM alone, makes known."""

from viaduct_common.errors import Conflict, InUse, NotFound
from viaduct_common.messages.base import Page
from viaduct_common.messages.ipam import DeleteScope, GetScope, QueryScopes, RegisterScope, ScopeInventory
from viaduct_ipam.handlers.inventories import scope_inventory
from viaduct_ipam.store.api import Store


async def register_scope(request: RegisterScope, store: Store) -> ScopeInventory:
    """A repeated registration changes nothing, but for a strategy and a cooling time that it names.

    Raises:
        Conflict: the L3 network is known on another L2 network or in another zone.
    """
    l3 = request.l3_network_uuid
    if not await store.add_scope(request):
        locked = await store.lock_scope(l3)
        if locked is None:
            raise Conflict("the L3 network was deleted at this moment", l3NetworkUuid=str(l3))
        there = locked.scope
        if (there.l2_network_uuid, there.zone_uuid) != (request.l2_network_uuid, request.zone_uuid):
            raise Conflict(
                f"L3 network {l3} is known on another L2 network or in another zone",
                l3NetworkUuid=str(l3),
                l2NetworkUuid=str(there.l2_network_uuid),
                zoneUuid=str(there.zone_uuid),
            )
        if request.strategy not in {None, there.strategy}:
            await locked.set_strategy(request.strategy)
        if request.cooling_seconds not in {None, there.cooling_seconds}:
            await locked.set_cooling(request.cooling_seconds)
    scope = await store.find_scope(l3)
    if scope is None:
        raise NotFound.of("L3 network", l3)
    return scope_inventory(scope)


async def get_scope(request: GetScope, store: Store) -> ScopeInventory:
    """Raises:
    NotFound: no such L3 network.
    """
    found = await store.find_scope(request.l3_network_uuid)
    if found is None:
        raise NotFound.of("L3 network", request.l3_network_uuid)
    return scope_inventory(found)


async def query_scopes(request: QueryScopes, store: Store) -> Page[ScopeInventory]:
    page = await store.list_scopes(request)
    return Page[ScopeInventory](items=[scope_inventory(one) for one in page.items], after=page.after)


async def delete_scope(request: DeleteScope, store: Store) -> ScopeInventory | None:
    """One that is gone already is no error.

    Raises:
        InUse: an address of it is allocated.
    """
    locked = await store.lock_scope(request.l3_network_uuid)
    if locked is None:
        return None
    ranges = await store.ranges_of(request.l3_network_uuid)
    used = sum(one.used_count for one in ranges)
    if used:
        raise InUse(
            f"{used} addresses of L3 network {request.l3_network_uuid} are in use",
            l3NetworkUuid=str(request.l3_network_uuid),
            used=used,
        )
    await locked.remove()
    inventory = scope_inventory(locked.scope)
    await store.announce("scope.deleted", inventory)
    return inventory
