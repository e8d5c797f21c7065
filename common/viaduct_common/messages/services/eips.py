"""EIPs: a VIP that is one NIC's, both ways."""

from typing import ClassVar
from uuid import UUID

from pydantic import AwareDatetime

from viaduct_common.messages.base import Page, QueryBody, Request, Role, StrictModel, WireModel
from viaduct_common.messages.fields import Description, IpAddress, Name, OneOrMany, Revision


class EipInventory(WireModel):
    """`nic_uuid` and `private_ip` are null while it is not attached."""

    uuid: UUID
    name: str
    description: str | None = None
    vip_uuid: UUID
    vip_ip: IpAddress
    nic_uuid: UUID | None = None
    private_ip: IpAddress | None = None
    enabled: bool = True
    revision: int
    created_at: AwareDatetime
    updated_at: AwareDatetime


class EipFilters(StrictModel):
    uuid: OneOrMany[UUID] | None = None
    name: OneOrMany[Name] | None = None
    vip_uuid: OneOrMany[UUID] | None = None
    nic_uuid: OneOrMany[UUID] | None = None


class CreateEip(Request[EipInventory]):
    """Make an EIP of a VIP that no service uses; with `nic_uuid` it is attached at once.

    `private_ip` chooses among several addresses of the NIC. Refused: a VIP on the NIC's own L3 network, one of another
    IP version, a NIC that has an EIP of this version, a NIC whose L3 network has no EIP service.
    """

    message_type: ClassVar[str] = "eip.create"

    vip_uuid: UUID
    name: Name
    description: Description | None = None
    nic_uuid: UUID | None = None
    private_ip: IpAddress | None = None
    uuid: UUID | None = None


class GetEip(Request[EipInventory]):
    """Get one EIP."""

    message_type: ClassVar[str] = "eip.get"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    uuid: UUID


class QueryEips(Request[Page[EipInventory]], QueryBody):
    """EIPs by filters."""

    message_type: ClassVar[str] = "eip.query"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    filters: EipFilters = EipFilters()


class UpdateEip(Request[EipInventory]):
    """Change what describes it, or switch it."""

    message_type: ClassVar[str] = "eip.update"

    uuid: UUID
    name: Name | None = None
    description: Description | None = None
    enabled: bool | None = None
    revision: Revision | None = None


class AttachEip(Request[EipInventory]):
    """Give a NIC this EIP; the rules are those of `eip.create`. The same again is no error."""

    message_type: ClassVar[str] = "eip.attach"

    uuid: UUID
    nic_uuid: UUID
    private_ip: IpAddress | None = None


class DetachEip(Request[EipInventory]):
    """Take it from its NIC; one that has none is no error."""

    message_type: ClassVar[str] = "eip.detach"

    uuid: UUID


class DeleteEip(Request[EipInventory | None]):
    """Detach it and forget it; the VIP stays, free for another use."""

    message_type: ClassVar[str] = "eip.delete"

    uuid: UUID
