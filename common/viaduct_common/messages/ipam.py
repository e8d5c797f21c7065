"""IPAM: scopes, ranges, reservations, addresses."""

from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

from viaduct_common.messages.base import Page, QueryBody, Request, Role, Service, StrictModel, WireModel
from viaduct_common.messages.fields import Description, FilterText, IpAddress, IpVersion, Name, OneOrMany, OwnerName

Strategy = Literal["firstAvailable", "random", "nextFit"]
UnavailableReason = Literal["USED", "GATEWAY", "RESERVED", "NOT_IN_RANGE", "NETWORK", "BROADCAST"]
UuidList = Annotated[list[UUID], Field(min_length=1, max_length=1000)]
IpList = Annotated[list[IpAddress], Field(max_length=1000)]


class ScopeInventory(WireModel):
    """What IPAM knows of an L3 network."""

    l3_network_uuid: UUID
    l2_network_uuid: UUID
    zone_uuid: UUID
    strategy: Strategy
    created_at: AwareDatetime


class RangeInventory(WireModel):
    """An IP range, both ends inclusive; `gateway` is null for an address pool without one."""

    uuid: UUID
    name: str | None = None
    type: str
    l3_network_uuid: UUID
    start_ip: IpAddress
    end_ip: IpAddress
    netmask: IpAddress
    prefix_length: int
    gateway: IpAddress | None = None
    network_cidr: str
    ip_version: int
    created_at: AwareDatetime


class ReservationInventory(WireModel):
    uuid: UUID
    l3_network_uuid: UUID
    start_ip: IpAddress
    end_ip: IpAddress
    reason: str | None = None
    created_at: AwareDatetime


class UsedIpInventory(WireModel):
    uuid: UUID
    ip: IpAddress
    ip_version: int
    l3_network_uuid: UUID
    range_uuid: UUID
    netmask: IpAddress
    prefix_length: int
    gateway: IpAddress | None = None
    owner: str | None = None
    allocated_at: AwareDatetime


class IpamRequestMixin:
    service: ClassVar[Service] = "ipam"


class RegisterScope(IpamRequestMixin, Request[ScopeInventory]):
    """Make an L3 network known; the same registration again is no error. The manager calls it inside `l3.create`."""

    message_type: ClassVar[str] = "scope.register"

    l3_network_uuid: UUID
    l2_network_uuid: UUID
    zone_uuid: UUID
    strategy: Strategy = "firstAvailable"


class DeleteScope(IpamRequestMixin, Request[ScopeInventory | None]):
    """Forget an L3 network with its ranges and reservations; `IN_USE` while an address is allocated."""

    message_type: ClassVar[str] = "scope.delete"

    l3_network_uuid: UUID


class CreateRange(IpamRequestMixin, Request[list[RangeInventory]]):
    """Add one range by its bounds or by a CIDR; a gateway inside a CIDR splits it in two around the gateway."""

    message_type: ClassVar[str] = "range.create"

    l3_network_uuid: UUID
    name: Name | None = None
    type: Literal["normal", "addressPool"] = "normal"
    start_ip: IpAddress | None = None
    end_ip: IpAddress | None = None
    netmask: IpAddress | None = None
    prefix_length: Annotated[int, Field(strict=True, ge=0, le=128)] | None = None
    gateway: IpAddress | None = None
    network_cidr: Annotated[str, Field(max_length=64)] | None = None


class GetRange(IpamRequestMixin, Request[RangeInventory]):
    """Get one range."""

    message_type: ClassVar[str] = "range.get"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    uuid: UUID


class RangeFilters(StrictModel):
    uuid: OneOrMany[UUID] | None = None
    l3_network_uuid: OneOrMany[UUID] | None = None
    type: OneOrMany[FilterText] | None = None
    ip_version: OneOrMany[IpVersion] | None = None


class QueryRanges(IpamRequestMixin, Request[Page[RangeInventory]], QueryBody):
    """Ranges by filters."""

    message_type: ClassVar[str] = "range.query"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    filters: RangeFilters = RangeFilters()


class DeleteRange(IpamRequestMixin, Request[RangeInventory | None]):
    """Delete a range; `IN_USE` while one of its addresses is allocated."""

    message_type: ClassVar[str] = "range.delete"

    uuid: UUID


class CreateReservation(IpamRequestMixin, Request[ReservationInventory]):
    """Keep addresses from being handed out unasked, both ends inclusive; those in use become reserved when released."""

    message_type: ClassVar[str] = "reservation.create"

    l3_network_uuid: UUID
    start_ip: IpAddress
    end_ip: IpAddress
    reason: Description | None = None


class ReservationFilters(StrictModel):
    uuid: OneOrMany[UUID] | None = None
    l3_network_uuid: OneOrMany[UUID] | None = None


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


class AllocateIp(IpamRequestMixin, Request[list[UsedIpInventory]]):
    """Allocate `count` addresses, all or none. A `required_ip` that is reserved needs `allow_reserved`."""

    message_type: ClassVar[str] = "ip.allocate"

    l3_network_uuid: UUID
    ip_version: IpVersion | None = None
    range_uuid: UUID | None = None
    required_ip: IpAddress | None = None
    strategy: Strategy | None = None
    excluded_ips: IpList = Field(default_factory=list)
    count: Annotated[int, Field(strict=True, ge=1, le=1000)] = 1
    owner: OwnerName | None = None
    allow_reserved: bool = False


class ReleaseIp(IpamRequestMixin, Request[list[UsedIpInventory]]):
    """Release by allocation uuids, or by addresses of one L3; one already released is no error."""

    message_type: ClassVar[str] = "ip.release"

    uuids: UuidList | None = None
    l3_network_uuid: UUID | None = None
    ips: Annotated[list[IpAddress], Field(min_length=1, max_length=1000)] | None = None


class GetIp(IpamRequestMixin, Request[UsedIpInventory]):
    """Get one used address by its allocation uuid."""

    message_type: ClassVar[str] = "ip.get"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    uuid: UUID


class UsedIpFilters(StrictModel):
    uuid: OneOrMany[UUID] | None = None
    l3_network_uuid: OneOrMany[UUID] | None = None
    range_uuid: OneOrMany[UUID] | None = None
    ip: OneOrMany[IpAddress] | None = None
    owner: OneOrMany[OwnerName] | None = None


class QueryIps(IpamRequestMixin, Request[Page[UsedIpInventory]], QueryBody):
    """Used addresses by filters."""

    message_type: ClassVar[str] = "ip.query"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    filters: UsedIpFilters = UsedIpFilters()


class IpAvailability(WireModel):
    available: bool
    reason: UnavailableReason | None = None


class CheckIp(IpamRequestMixin, Request[IpAvailability]):
    """Could this address be handed out now, and if not, why."""

    message_type: ClassVar[str] = "ip.check"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    l3_network_uuid: UUID
    ip: IpAddress


class IpCapacity(WireModel):
    """`total` counts what can ever be handed out; `reserved` those of it that are reserved and not in use."""

    total: int
    used: int
    reserved: int
    available: int


class GetIpCapacity(IpamRequestMixin, Request[IpCapacity]):
    """The sum over the named L3 networks, ranges or zones (exactly one of the three lists)."""

    message_type: ClassVar[str] = "ip.capacity"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    l3_network_uuids: UuidList | None = None
    range_uuids: UuidList | None = None
    zone_uuids: UuidList | None = None


class GetFreeIps(IpamRequestMixin, Request[list[IpAddress]]):
    """The next free addresses in order, from `start` on (inclusive); nothing is allocated."""

    message_type: ClassVar[str] = "ip.free"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    l3_network_uuid: UUID | None = None
    range_uuid: UUID | None = None
    start: IpAddress | None = None
    limit: Annotated[int, Field(strict=True, ge=1, le=1000)] = 100


class IpamEvent(WireModel):
    """The body of `range.created`, `range.deleted` and `scope.deleted`."""

    subject: dict[str, Any]
