"""Reservations: addresses that are not handed out unasked."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from viaduct_common.errors import InvalidRequest
from viaduct_common.messages.ipam import CreateReservation
from viaduct_ipam.model.intervals import IntervalSet
from viaduct_ipam.model.ranges import Address


@dataclass(frozen=True)
class Reservation:
    """Both ends inclusive. It may lie outside every range (made before the range is) and overlap another."""

    uuid: UUID
    l3_network_uuid: UUID
    first: Address
    last: Address
    reason: str | None
    created_at: datetime


def check_reservation(request: CreateReservation) -> None:
    """Raises:
    InvalidRequest: the ends are not of one IP version, or the wrong way round.
    """
    first, last = request.start_ip, request.end_ip
    if first.version != last.version:
        raise InvalidRequest.of_field("endIp", "startIp and endIp are of one IP version")
    if last < first:  # type: ignore[operator]  # one version
        raise InvalidRequest.of_field("endIp", "must not be below startIp")


def reserved_set(reservations: Iterable[Reservation], version: int) -> IntervalSet:
    """All that is reserved of one IP version."""
    return IntervalSet.of((int(one.first), int(one.last)) for one in reservations if one.first.version == version)
