"""`reservation.*`."""

from viaduct_common.errors import NotFound
from viaduct_common.messages.base import Page
from viaduct_common.messages.ipam import (
    CreateReservation,
    DeleteReservation,
    QueryReservations,
    ReservationInventory,
)
from viaduct_ipam.handlers.inventories import reservation_inventory
from viaduct_ipam.model.reservations import check_holder, check_reservation
from viaduct_ipam.store.api import Store


async def create_reservation(request: CreateReservation, store: Store) -> ReservationInventory:
    """Raises:
    InvalidRequest: the ends do not go together, or several addresses are to be kept for somebody.
    NotFound: no such L3 network.
    Conflict: the address is reserved for somebody else; `details.reservationUuid` names that reservation.
    """
    check_reservation(request)
    scope = await store.lock_scope(request.l3_network_uuid)
    if scope is None:
        raise NotFound.of("L3 network", request.l3_network_uuid)
    check_holder(request, await store.reservations_over(request.l3_network_uuid, request.start_ip, request.end_ip))
    made = reservation_inventory(await scope.add_reservation(request))
    await store.announce_fill(request.l3_network_uuid)
    return made


async def query_reservations(request: QueryReservations, store: Store) -> Page[ReservationInventory]:
    page = await store.list_reservations(request)
    return Page[ReservationInventory](items=[reservation_inventory(one) for one in page.items], after=page.after)


async def delete_reservation(request: DeleteReservation, store: Store) -> ReservationInventory | None:
    """One that is gone already is no error."""
    known = await store.find_reservation(request.uuid)
    scope = await store.lock_scope(known.l3_network_uuid) if known else None
    removed = await scope.remove_reservation(request.uuid) if scope else None
    if removed is None:
        return None
    await store.announce_fill(removed.l3_network_uuid)
    return reservation_inventory(removed)
