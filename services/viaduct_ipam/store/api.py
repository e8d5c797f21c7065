"""What the service needs of its store; one `Store` is one transaction that somebody else commits.

Reading verbs stand in `Store`. All that changes an L3 network stands in `LockedScope`, which only
`Store.lock_scope` gives out: so nothing of one L3 network changes between a look and the write that follows it.
Whoever locks several scopes does it in ascending order of their uuid: no deadlocks.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Protocol, TypeVar
from uuid import UUID

from viaduct_common.messages.base import WireModel
from viaduct_common.messages.ipam import QueryIps, QueryRanges, QueryReservations
from viaduct_ipam.model.capacity import Usage
from viaduct_ipam.model.ranges import Address, Bounds, Range
from viaduct_ipam.model.reservations import Reservation

T = TypeVar("T")


@dataclass(frozen=True)
class Scope:
    """An L3 network; `last_given` is what next fit gave last, by IP version."""

    l3_network_uuid: UUID
    l2_network_uuid: UUID
    zone_uuid: UUID
    strategy: str
    last_given: Mapping[int, Address]
    created_at: datetime


@dataclass(frozen=True)
class UsedIp:
    uuid: UUID
    ip: Address
    range: Range
    owner: str | None
    allocated_at: datetime


@dataclass(frozen=True)
class Pick:
    """An address chosen to be given out, and the range that it is of."""

    range: Range
    ip: Address


@dataclass(frozen=True)
class Room:
    """A window of a range, from its first block that has room (`first`, both ends inclusive).

    `used_by_block` has the used addresses as masks (see `model.blocks`); a block that it has not is unused.
    """

    first: int
    last: int
    used_by_block: Mapping[int, int]


@dataclass(frozen=True)
class Listed(Generic[T]):
    """A page of rows, and the cursor of the next page."""

    items: Sequence[T]
    after: str | None


class LockedScope(Protocol):
    """An L3 network that nobody else changes until the transaction ends; what is read of it from now on holds."""

    scope: Scope

    async def take(self, picks: Sequence[Pick], owner: str | None) -> list[UsedIp]:
        """Mark addresses, which must be free, as used; the answer is in the same order.

        Raises:
            IpInUse: one is not free after all; the transaction is lost.
        """
        ...

    async def remember_given(self, last: Pick) -> None:
        """Note what next fit gave last."""
        ...

    async def give_back(self, *, uuids: Collection[UUID] = (), ips: Collection[Address] = ()) -> list[UsedIp]:
        """Free what is used of these, and return it."""
        ...

    async def add_ranges(self, bounds: Sequence[Bounds], name: str | None) -> list[Range]:
        """Raises:
        IpRangeConflict: one overlaps a range on the same L2 network; the transaction is lost.
        """
        ...

    async def remove_range(self, range_uuid: UUID) -> None:
        """Remove a range that has no used address."""
        ...

    async def add_reservation(self, first: Address, last: Address, reason: str | None) -> Reservation: ...

    async def remove_reservation(self, uuid: UUID) -> Reservation | None: ...

    async def set_strategy(self, strategy: str) -> None: ...

    async def remove(self) -> None:
        """Remove the scope, its ranges and reservations; none of its addresses may be used."""
        ...


class Store(Protocol):
    async def add_scope(self, l3_network_uuid: UUID, l2_network_uuid: UUID, zone_uuid: UUID, strategy: str) -> bool:
        """False: there is one of that L3 network already, and nothing was changed."""
        ...

    async def lock_scope(self, l3_network_uuid: UUID) -> LockedScope | None:
        """Wait until nobody else changes the scope."""
        ...

    async def find_scope(self, l3_network_uuid: UUID) -> Scope | None: ...

    async def ranges_of(self, l3_network_uuid: UUID) -> Sequence[Range]: ...

    async def reservations_of(self, l3_network_uuid: UUID) -> Sequence[Reservation]: ...

    async def find_range(self, uuid: UUID) -> Range | None: ...

    async def find_reservation(self, uuid: UUID) -> Reservation | None: ...

    async def find_used(self, uuid: UUID) -> UsedIp | None: ...

    async def used_among(self, l3_network_uuid: UUID, ips: Collection[Address]) -> set[Address]: ...

    async def scopes_of_used(self, uuids: Collection[UUID]) -> list[UUID]:
        """The L3 networks that these allocations are of, ascending."""
        ...

    async def overlapping(self, l2_network_uuid: UUID, bounds: Sequence[Bounds]) -> UUID | None:
        """A range on the L2 network that one of `bounds` overlaps; until the transaction ends nobody else adds one."""
        ...

    async def room(self, searched: Range, first: int, last: int, blocks: int) -> Room | None:
        """A window of up to `blocks` blocks from the first one that has room and holds an address >= `first`.

        None if there is no room from `first` to `last`.
        """
        ...

    async def usages_of_l3(self, uuids: Collection[UUID]) -> Sequence[Usage]: ...

    async def usages_of_ranges(self, uuids: Collection[UUID]) -> Sequence[Usage]: ...

    async def usages_of_zones(self, uuids: Collection[UUID]) -> Sequence[Usage]: ...

    async def announce(self, event_type: str, subject: WireModel) -> None:
        """Publish an event once the transaction is committed."""
        ...

    async def known_scopes(self, l3_network_uuids: Collection[UUID]) -> set[UUID]: ...

    async def list_ranges(self, query: QueryRanges) -> Listed[Range]: ...

    async def list_reservations(self, query: QueryReservations) -> Listed[Reservation]: ...

    async def list_used(self, query: QueryIps) -> Listed[UsedIp]: ...
