"""Who held what, and what nobody knows any more."""

from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

from viaduct_common.messages.base import Page, QueryBody, Request, Role, StrictModel, WireModel
from viaduct_common.messages.fields import (
    IpAddress,
    OneOrMany,
    OwnerName,
)
from viaduct_common.messages.ipam.addresses import UsedIpInventory
from viaduct_common.messages.ipam.terms import IpamRequestMixin, UuidList


class IpHolding(WireModel):
    """Who held an address, from when to when, and by which requests; `ended_at` is null while it is held.

    `end` says how it ended: `released`, `expired` (a lease) or `reclaimed` (by an audit). `allocated_by` and
    `ended_by` are the broker-validated users; an import names its own.
    """

    uuid: UUID
    ip: IpAddress
    l3_network_uuid: UUID
    owner: str | None = None
    mac: str | None = None
    allocated_at: AwareDatetime
    allocated_by: str
    allocated_by_message: UUID | None = None
    ended_at: AwareDatetime | None = None
    end: Literal["released", "expired", "reclaimed"] | None = None
    ended_by: str | None = None
    ended_by_message: UUID | None = None


class HoldingFilters(StrictModel):
    """`from_time` and `to_time`: what was held at any moment between them, both inclusive."""

    uuid: OneOrMany[UUID] | None = None
    l3_network_uuid: OneOrMany[UUID] | None = None
    ip: OneOrMany[IpAddress] | None = None
    owner: OneOrMany[OwnerName] | None = None
    from_time: AwareDatetime | None = None
    to_time: AwareDatetime | None = None


class QueryHistory(IpamRequestMixin, Request[Page[IpHolding]], QueryBody):
    """Who held what, when: present and past holdings, the past as far back as it is kept."""

    message_type: ClassVar[str] = "ip.history"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    filters: HoldingFilters = HoldingFilters()


class IpAudit(WireModel):
    """`unknown` are allocations whose owner nobody knows; `checked` is how many were looked at on this page."""

    unknown: list[UsedIpInventory]
    checked: int
    after: str | None = None


class AuditIps(IpamRequestMixin, Request[IpAudit]):
    """List allocations whose owner the manager does not know, a page at a time; nothing is changed.

    Addresses are read first and owners asked second, and what is younger than `grace_seconds` is left out: so an owner
    that is being made is not taken for a lost one. With `known_owners` these are asked instead of the manager. Without
    owner an allocation is listed only with `include_ownerless`."""

    message_type: ClassVar[str] = "ip.audit"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    l3_network_uuid: UUID | None = None
    grace_seconds: Annotated[int, Field(strict=True, ge=0, le=30 * 86400)] = 3600
    known_owners: Annotated[list[OwnerName], Field(max_length=10_000)] | None = None
    include_ownerless: bool = False
    limit: Annotated[int, Field(strict=True, ge=1, le=1000)] = 1000
    after: Annotated[str, Field(max_length=2048)] | None = None


class ReclaimIps(IpamRequestMixin, Request[list[UsedIpInventory]]):
    """Free allocations that an audit found, by their uuids.

    Those whose owner is known by now are kept, and not in the answer."""

    message_type: ClassVar[str] = "ip.reclaim"
    required_role: ClassVar[Role] = "admin"

    uuids: UuidList
    known_owners: Annotated[list[OwnerName], Field(max_length=10_000)] | None = None
