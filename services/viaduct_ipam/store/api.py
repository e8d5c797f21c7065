"""What the service needs of its store; one `Store` is one transaction that somebody else commits.

Reading verbs stand in `Store`. All that changes an L3 network stands in `LockedScope`, which only
`Store.lock_scope` gives out: so nothing of one L3 network changes between a look and the write that follows it.
Whoever locks several scopes does it in ascending order of their uuid: no deadlocks.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Literal, Protocol, TypeVar
from uuid import UUID

from viaduct_common.messages.base import WireModel
from viaduct_common.messages.ipam import (
    CreateReservation,
    IpHolding,
    QueryHistory,
    QueryIps,
    QueryRanges,
    QueryReservations,
    QueryScopes,
    RegisterScope,
)
from viaduct_ipam.model.asks import Ask
from viaduct_ipam.model.capacity import Usage
from viaduct_ipam.model.ranges import Address, Bounds, Range
from viaduct_ipam.model.reservations import Reservation
from viaduct_ipam.model.state import ScopeState

T = TypeVar("T")


@dataclass(frozen=True)
class Scope:
    """An L3 network.

    `last_given` is what next fit gave last, `fill_levels` the level (0, 80, 95 or 100 %) last announced, both by IP
    version. Every change below it raises `revision`; one of ranges, reservations or settings `layout_revision` as well.
    """

    l3_network_uuid: UUID
    l2_network_uuid: UUID
    zone_uuid: UUID
    strategy: str
    cooling_seconds: int
    last_given: Mapping[int, Address]
    fill_levels: Mapping[int, int]
    revision: int
    layout_revision: int
    created_at: datetime


@dataclass(frozen=True)
class UsedIp:
    uuid: UUID
    ip: Address
    range: Range
    owner: str | None
    mac: str | None
    allocated_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True)
class Listed(Generic[T]):
    """A page of rows, and the cursor of the next page."""

    items: Sequence[T]
    after: str | None


class LockedScope(Protocol):
    """An L3 network that nobody else changes until the transaction ends; what is read of it from now on holds."""

    scope: Scope

    async def add_ranges(self, bounds: Sequence[Bounds], name: str | None) -> list[Range]:
        """Raises:
        IpRangeConflict: one overlaps a range on the same L2 network; the transaction is lost.
        """
        ...

    async def remove_range(self, range_uuid: UUID) -> None:
        """Remove a range that has no used address; what of it is cooling is forgotten."""
        ...

    async def add_reservation(self, request: CreateReservation) -> Reservation: ...

    async def remove_reservation(self, uuid: UUID) -> Reservation | None: ...

    async def set_strategy(self, strategy: str) -> None: ...

    async def set_cooling(self, seconds: int) -> None:
        """From now on; what is cooling already does so no longer than `seconds` from now."""
        ...

    async def remove(self) -> None:
        """Remove the scope, its ranges and reservations; none of its addresses may be used."""
        ...


class Store(Protocol):
    async def add_scope(self, request: RegisterScope) -> bool:
        """False: there is one of that L3 network already, and nothing was changed."""
        ...

    async def lock_scope(self, l3_network_uuid: UUID) -> LockedScope | None:
        """Wait until nobody else changes the scope."""
        ...

    async def find_scope(self, l3_network_uuid: UUID) -> Scope | None: ...

    async def ranges_of(self, l3_network_uuid: UUID) -> Sequence[Range]: ...

    async def reservations_over(self, l3_network_uuid: UUID, first: Address, last: Address) -> Sequence[Reservation]:
        """Those that hold an address from `first` to `last`, both inclusive."""
        ...

    async def find_range(self, uuid: UUID) -> Range | None: ...

    async def find_reservation(self, uuid: UUID) -> Reservation | None: ...

    async def find_used(self, uuid: UUID) -> UsedIp | None: ...

    async def taken_as(self, l3_network_uuid: UUID, ip: Address) -> Literal["USED", "COOLING"] | None: ...

    async def release(self, uuids: Sequence[UUID]) -> list[UsedIp]:
        """Free allocations of any scopes, and return what was freed in the order in which it was named."""
        ...

    async def renew(self, uuids: Collection[UUID], ttl_seconds: int | None) -> Sequence[UsedIp]:
        """Those that last, with their new end."""
        ...

    async def state_of(self, l3_network_uuid: UUID) -> ScopeState | None:
        """The scope as plans see it."""
        ...

    async def learn(self, state: ScopeState, asks: Iterable[Ask]) -> None: ...

    async def scopes_of_used(self, uuids: Collection[UUID]) -> list[UUID]:
        """The L3 networks that these allocations are of, ascending."""
        ...

    async def overlapping(self, l2_network_uuid: UUID, bounds: Sequence[Bounds]) -> UUID | None:
        """A range on the L2 network that one of `bounds` overlaps; until the transaction ends nobody else adds one."""
        ...

    async def usages_of_l3(self, uuids: Collection[UUID]) -> Sequence[Usage]: ...

    async def usages_of_ranges(self, uuids: Collection[UUID]) -> Sequence[Usage]: ...

    async def usages_of_zones(self, uuids: Collection[UUID]) -> Sequence[Usage]: ...

    async def announce(self, event_type: str, subject: WireModel) -> None:
        """Publish an event once the transaction is committed."""
        ...

    async def announce_fill(self, l3_network_uuid: UUID) -> None:
        """Publish it as well, if by what this transaction has done an L3 network is fuller or emptier by a level."""
        ...

    async def known_scopes(self, l3_network_uuids: Collection[UUID]) -> set[UUID]: ...

    async def list_scopes(self, query: QueryScopes) -> Listed[Scope]: ...

    async def list_ranges(self, query: QueryRanges) -> Listed[Range]: ...

    async def list_reservations(self, query: QueryReservations) -> Listed[Reservation]: ...

    async def list_used(self, query: QueryIps) -> Listed[UsedIp]: ...

    async def list_holdings(self, query: QueryHistory) -> Listed[IpHolding]: ...
