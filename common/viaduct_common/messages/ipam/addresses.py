"""Addresses: given out, taken back, looked at."""

from typing import Annotated, ClassVar
from uuid import UUID

from pydantic import AwareDatetime, Field

from viaduct_common.messages.base import Page, QueryBody, Request, Role, StrictModel, WireModel
from viaduct_common.messages.fields import (
    IpAddress,
    IpVersion,
    MacAddress,
    OneOrMany,
    OwnerName,
)
from viaduct_common.messages.ipam.terms import (
    IpamRequestMixin,
    IpList,
    Strategy,
    TtlSeconds,
    UnavailableReason,
    UuidList,
)


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
    mac: str | None = None
    allocated_at: AwareDatetime
    expires_at: AwareDatetime | None = None


class AllocateIp(IpamRequestMixin, Request[list[UsedIpInventory]]):
    """Allocate `count` addresses, all or none; with `ip_versions` as many of each version (a dual-stack set).

    A `required_ip` that is reserved needs `allow_reserved`, unless it is reserved for this `owner` or `mac`. With
    `ttl_seconds` it is a lease: it ends unless it is renewed."""

    message_type: ClassVar[str] = "ip.allocate"

    l3_network_uuid: UUID
    ip_version: IpVersion | None = None
    ip_versions: Annotated[list[IpVersion], Field(min_length=1, max_length=2)] | None = None
    range_uuid: UUID | None = None
    required_ip: IpAddress | None = None
    strategy: Strategy | None = None
    excluded_ips: IpList = Field(default_factory=list)
    count: Annotated[int, Field(strict=True, ge=1, le=1000)] = 1
    owner: OwnerName | None = None
    mac: MacAddress | None = None
    ttl_seconds: TtlSeconds | None = None
    allow_reserved: bool = False


class ReleaseIp(IpamRequestMixin, Request[list[UsedIpInventory]]):
    """Release by allocation uuids, or by addresses of one L3; one already released is no error."""

    message_type: ClassVar[str] = "ip.release"

    uuids: UuidList | None = None
    l3_network_uuid: UUID | None = None
    ips: Annotated[list[IpAddress], Field(min_length=1, max_length=1000)] | None = None


class RenewIps(IpamRequestMixin, Request[list[UsedIpInventory]]):
    """Let leases end `ttl_seconds` from now, or never with null; all or none. One that has ended is `NOT_FOUND`."""

    message_type: ClassVar[str] = "ip.renew"

    uuids: UuidList
    ttl_seconds: TtlSeconds | None


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


class GetFreeIps(IpamRequestMixin, Request[list[IpAddress]]):
    """The next free addresses in order, from `start` on (inclusive); nothing is allocated."""

    message_type: ClassVar[str] = "ip.free"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    l3_network_uuid: UUID | None = None
    range_uuid: UUID | None = None
    start: IpAddress | None = None
    limit: Annotated[int, Field(strict=True, ge=1, le=1000)] = 100
