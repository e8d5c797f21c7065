"""Reservations."""

from typing import ClassVar
from uuid import UUID

from pydantic import AwareDatetime

from viaduct_common.messages.base import Page, QueryBody, Request, Role, StrictModel, WireModel
from viaduct_common.messages.fields import (
    Description,
    IpAddress,
    MacAddress,
    OneOrMany,
    OwnerName,
)
from viaduct_common.messages.ipam.terms import (
    IpamRequestMixin,
)


class ReservationInventory(WireModel):
    uuid: UUID
    l3_network_uuid: UUID
    start_ip: IpAddress
    end_ip: IpAddress
    reason: str | None = None
    owner: str | None = None
    mac: str | None = None
    created_at: AwareDatetime


class CreateReservation(IpamRequestMixin, Request[ReservationInventory]):
    """Keep addresses from being handed out unasked, both ends inclusive; those in use become reserved when released.

    A single address may be kept for an `owner` or a `mac`: who allocates with that one gets it."""

    message_type: ClassVar[str] = "reservation.create"

    l3_network_uuid: UUID
    start_ip: IpAddress
    end_ip: IpAddress
    reason: Description | None = None
    owner: OwnerName | None = None
    mac: MacAddress | None = None


class ReservationFilters(StrictModel):
    uuid: OneOrMany[UUID] | None = None
    l3_network_uuid: OneOrMany[UUID] | None = None
    owner: OneOrMany[OwnerName] | None = None
    mac: OneOrMany[MacAddress] | None = None


class QueryReservations(IpamRequestMixin, Request[Page[ReservationInventory]], QueryBody):
    """Reservations by filters."""

    message_type: ClassVar[str] = "reservation.query"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    filters: ReservationFilters = ReservationFilters()


class DeleteReservation(IpamRequestMixin, Request[ReservationInventory | None]):
    """Remove a reservation."""

    message_type: ClassVar[str] = "reservation.delete"

    uuid: UUID
