"""VIPs: addresses of a public L3 network, each used by one service at most."""

from typing import ClassVar
from uuid import UUID

from pydantic import AwareDatetime

from viaduct_common.messages.base import Page, QueryBody, Request, Role, StrictModel, WireModel
from viaduct_common.messages.fields import Description, FilterText, IpAddress, IpVersion, Name, OneOrMany, Revision


class VipInventory(WireModel):
    """`used_for` is the service type that uses it, null while none does. `system` ones are a provider's own (the
    address of SNAT), and only it can delete them."""

    uuid: UUID
    name: str
    description: str | None = None
    l3_network_uuid: UUID
    ip: IpAddress
    ip_version: int
    prefix_length: int
    gateway: IpAddress | None = None
    used_ip_uuid: UUID
    used_for: str | None = None
    system: bool = False
    enabled: bool = True
    revision: int
    created_at: AwareDatetime
    updated_at: AwareDatetime


class VipFilters(StrictModel):
    uuid: OneOrMany[UUID] | None = None
    name: OneOrMany[Name] | None = None
    l3_network_uuid: OneOrMany[UUID] | None = None
    ip: OneOrMany[IpAddress] | None = None
    used_for: OneOrMany[FilterText] | None = None


class CreateVip(Request[VipInventory]):
    """Allocate an address of a public L3 network (category `public`) for services; `ip` asks for one address."""

    message_type: ClassVar[str] = "vip.create"

    l3_network_uuid: UUID
    name: Name
    description: Description | None = None
    ip: IpAddress | None = None
    ip_version: IpVersion | None = None
    uuid: UUID | None = None


class GetVip(Request[VipInventory]):
    """Get one VIP."""

    message_type: ClassVar[str] = "vip.get"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    uuid: UUID


class QueryVips(Request[Page[VipInventory]], QueryBody):
    """VIPs by filters."""

    message_type: ClassVar[str] = "vip.query"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    filters: VipFilters = VipFilters()


class UpdateVip(Request[VipInventory]):
    """Change what describes it, or switch it: what uses a VIP that is not enabled does not work."""

    message_type: ClassVar[str] = "vip.update"

    uuid: UUID
    name: Name | None = None
    description: Description | None = None
    enabled: bool | None = None
    revision: Revision | None = None


class DeleteVip(Request[VipInventory | None]):
    """Give the address back; refused while a service uses it (`IN_USE`). One that is gone is no error."""

    message_type: ClassVar[str] = "vip.delete"

    uuid: UUID
