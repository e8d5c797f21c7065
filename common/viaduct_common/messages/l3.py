"""L3 networks: subnets on an L2 network; their ranges and addresses are IPAM's."""

from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

from viaduct_common.messages.base import Page, QueryBody, Request, Role, StrictModel, WireModel
from viaduct_common.messages.fields import (
    Description,
    FilterText,
    IpAddress,
    IpNetwork,
    IpVersion,
    Name,
    OneOrMany,
    Revision,
    ServiceType,
)
from viaduct_common.messages.ipam import Strategy

Category = Literal["private", "public", "system"]
DnsServers = Annotated[list[IpAddress], Field(max_length=16)]
DnsDomain = Annotated[str, Field(max_length=253, pattern=r"^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?$")]


# What DHCP's option 26 and IPv6 can tell, and the model's API takes.
L3Mtu = Annotated[int, Field(strict=True, ge=68, le=9216)]


class L3HostRoute(StrictModel):
    """A route that VMs get by DHCP (options 121 and 249), or by the router's advertisements; both of one IP version."""

    prefix: IpNetwork
    next_hop: IpAddress


HostRoutes = Annotated[list[L3HostRoute], Field(max_length=64)]


class AttachedService(WireModel):
    """Which provider serves a type on an L3 network, and what it was told for it."""

    service_type: ServiceType
    provider_uuid: UUID
    provider: str
    config: dict[str, Any] = Field(default_factory=dict)


class L3NetworkInventory(WireModel):
    """`mtu` is what VMs are told, never more than the L2 network's. A network that is not `enabled` gets no new NIC."""

    uuid: UUID
    l2_network_uuid: UUID
    zone_uuid: UUID
    name: str
    description: str | None = None
    category: str
    dns_domain: str | None = None
    dns: list[IpAddress] = Field(default_factory=list)
    ip_version: int | None = None
    mtu: int | None = None
    host_routes: list[L3HostRoute] = Field(default_factory=list)
    enabled: bool = True
    services: list[AttachedService] = Field(default_factory=list)
    strategy: str
    revision: int
    created_at: AwareDatetime
    updated_at: AwareDatetime


class L3Filters(StrictModel):
    uuid: OneOrMany[UUID] | None = None
    name: OneOrMany[Name] | None = None
    l2_network_uuid: OneOrMany[UUID] | None = None
    zone_uuid: OneOrMany[UUID] | None = None
    category: OneOrMany[FilterText] | None = None


class CreateL3(Request[L3NetworkInventory]):
    """Create an L3 network on an L2 network; IPAM knows it when this is answered."""

    message_type: ClassVar[str] = "l3.create"

    l2_network_uuid: UUID
    name: Name
    description: Description | None = None
    category: Category = "private"
    dns_domain: DnsDomain | None = None
    dns: DnsServers = Field(default_factory=list)
    ip_version: IpVersion | None = None
    mtu: L3Mtu | None = None
    host_routes: HostRoutes = Field(default_factory=list)
    enabled: bool = True
    strategy: Strategy = "firstAvailable"
    uuid: UUID | None = None


class GetL3(Request[L3NetworkInventory]):
    """Get one L3 network."""

    message_type: ClassVar[str] = "l3.get"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    uuid: UUID


class QueryL3(Request[Page[L3NetworkInventory]], QueryBody):
    """L3 networks by filters."""

    message_type: ClassVar[str] = "l3.query"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    filters: L3Filters = L3Filters()


class UpdateL3(Request[L3NetworkInventory]):
    """Change what describes it; with `revision`, only if nobody changed it since.

    IPAM knows a new `strategy` when this is answered."""

    message_type: ClassVar[str] = "l3.update"

    uuid: UUID
    name: Name | None = None
    description: Description | None = None
    dns_domain: DnsDomain | None = None
    dns: DnsServers | None = None
    mtu: L3Mtu | None = None
    host_routes: HostRoutes | None = None
    enabled: bool | None = None
    category: Category | None = None
    strategy: Strategy | None = None
    revision: Revision | None = None


class DeleteL3(Request[L3NetworkInventory | None]):
    """Delete an L3 network; refused while one of its addresses is in use."""

    message_type: ClassVar[str] = "l3.delete"

    uuid: UUID
