"""IP ranges."""

from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

from viaduct_common.messages.base import Page, QueryBody, Request, Role, StrictModel, WireModel
from viaduct_common.messages.fields import (
    FilterText,
    IpAddress,
    IpVersion,
    Name,
    OneOrMany,
)
from viaduct_common.messages.ipam.terms import (
    AddressMode,
    IpamRequestMixin,
)


class RangeInventory(WireModel):
    """An IP range, both ends inclusive; `gateway` is null where there is none, `address_mode` for IPv4."""

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
    address_mode: AddressMode | None = None
    created_at: AwareDatetime


class CreateRange(IpamRequestMixin, Request[list[RangeInventory]]):
    """Add one range by its bounds or by a CIDR; a gateway inside a CIDR splits it in two around the gateway.

    `address_mode` is for IPv6: `stateful` (the default: any free address, as for IPv4), or `slaac` or `statelessDhcp`
    for a /64 whose addresses the guests make from their MAC."""

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
    address_mode: AddressMode | None = None


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
