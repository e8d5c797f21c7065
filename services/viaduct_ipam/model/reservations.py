"""Reservations: addresses that are not handed out unasked."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from viaduct_common.errors import Conflict, InvalidRequest
from viaduct_common.messages.ipam import CreateReservation
from viaduct_ipam.model.intervals import IntervalSet
from viaduct_ipam.model.ranges import Address


@dataclass(frozen=True)
class Reservation:
    """Both ends inclusive. It may lie outside every range (made before the range is) and overlap another.

    With `owner` or `mac` it keeps its one address for whoever allocates with that owner or with that MAC.
    """

    uuid: UUID
    l3_network_uuid: UUID
    first: Address
    last: Address
    reason: str | None
    created_at: datetime
    owner: str | None = None
    mac: str | None = None

    @property
    def is_held(self) -> bool:
        """Whether it is for somebody."""
        return self.owner is not None or self.mac is not None


def check_reservation(request: CreateReservation) -> None:
    """Raises:
    InvalidRequest: the ends are not of one IP version, or the wrong way round; or several addresses for somebody.
    """
    first, last = request.start_ip, request.end_ip
    if first.version != last.version:
        raise InvalidRequest.of_field("endIp", "startIp and endIp are of one IP version")
    if last < first:  # type: ignore[operator]  # one version
        raise InvalidRequest.of_field("endIp", "must not be below startIp")
    for field, holder in (("owner", request.owner), ("mac", request.mac)):
        if holder is not None and first != last:
            raise InvalidRequest.of_field(field, "a single address is kept for somebody: startIp and endIp differ")


def check_holder(request: CreateReservation, overlapping: Iterable[Reservation]) -> None:
    """One address is for one holder, named by the same owner and the same MAC each time; reservations for nobody do
    not matter.

    Args:
        overlapping: the reservations that hold an address of the request.

    Raises:
        Conflict: the address is kept for somebody else; `details.reservationUuid` names that reservation.
    """
    if request.owner is None and request.mac is None:
        return
    for one in overlapping:
        if one.is_held and (one.owner, one.mac) != (request.owner, request.mac):
            raise Conflict(f"{request.start_ip} is reserved for somebody else", reservationUuid=str(one.uuid))


def reserved_set(reservations: Iterable[Reservation], version: int) -> IntervalSet:
    """All that is reserved of one IP version."""
    return IntervalSet.of((int(one.first), int(one.last)) for one in reservations if one.first.version == version)


def reserved_by_one_alone(
    first: Address, last: Address, others: Iterable[Reservation]
) -> list[tuple[Address, Address]]:
    """What of `first` to `last` is in no other reservation: as intervals, both ends inclusive, ascending."""
    alone = IntervalSet.of([(int(first), int(last))]).minus(reserved_set(others, first.version))
    address = type(first)
    return [(address(low), address(high)) for low, high in alone.parts]
