"""Port forwarding: ports of a VIP that are ports of a NIC."""

from typing import ClassVar, Literal
from uuid import UUID

from pydantic import AwareDatetime

from viaduct_common.messages.base import Page, QueryBody, Request, Role, StrictModel, WireModel
from viaduct_common.messages.fields import Description, IpAddress, IpNetwork, L4Port, Name, OneOrMany, Revision

ForwardedProtocol = Literal["TCP", "UDP"]


class PortForwardingInventory(WireModel):
    """`nic_uuid` and `private_ip` are null while it is not attached."""

    uuid: UUID
    name: str
    description: str | None = None
    vip_uuid: UUID
    vip_ip: IpAddress
    protocol: ForwardedProtocol
    vip_port_start: int
    vip_port_end: int
    private_port_start: int
    private_port_end: int
    allowed_cidr: IpNetwork | None = None
    nic_uuid: UUID | None = None
    private_ip: IpAddress | None = None
    enabled: bool = True
    revision: int
    created_at: AwareDatetime
    updated_at: AwareDatetime


class PortForwardingFilters(StrictModel):
    uuid: OneOrMany[UUID] | None = None
    name: OneOrMany[Name] | None = None
    vip_uuid: OneOrMany[UUID] | None = None
    nic_uuid: OneOrMany[UUID] | None = None
    protocol: OneOrMany[ForwardedProtocol] | None = None


class CreatePortForwarding(Request[PortForwardingInventory]):
    """Forward ports of a VIP; with `nic_uuid` it is attached at once.

    An end defaults to its start, private ports to the VIP's. Refused: ranges of unequal size; ports of the VIP and
    protocol that another rule has; a VIP that another service uses, or on the NIC's own L3 network; a NIC of another IP
    version, with rules of another VIP, or whose L3 network has no PortForwarding service; `allowed_cidr` and an EIP on
    one NIC.
    """

    message_type: ClassVar[str] = "portForwarding.create"

    vip_uuid: UUID
    name: Name
    description: Description | None = None
    protocol: ForwardedProtocol
    vip_port_start: L4Port
    vip_port_end: L4Port | None = None
    private_port_start: L4Port | None = None
    private_port_end: L4Port | None = None
    allowed_cidr: IpNetwork | None = None
    nic_uuid: UUID | None = None
    private_ip: IpAddress | None = None
    uuid: UUID | None = None


class GetPortForwarding(Request[PortForwardingInventory]):
    """Get one rule."""

    message_type: ClassVar[str] = "portForwarding.get"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    uuid: UUID


class QueryPortForwardings(Request[Page[PortForwardingInventory]], QueryBody):
    """Rules by filters."""

    message_type: ClassVar[str] = "portForwarding.query"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    filters: PortForwardingFilters = PortForwardingFilters()


class UpdatePortForwarding(Request[PortForwardingInventory]):
    """Change what describes it, or switch it."""

    message_type: ClassVar[str] = "portForwarding.update"

    uuid: UUID
    name: Name | None = None
    description: Description | None = None
    enabled: bool | None = None
    revision: Revision | None = None


class AttachPortForwarding(Request[PortForwardingInventory]):
    """Let the ports be this NIC's; the rules are those of `portForwarding.create`. The same again is no error."""

    message_type: ClassVar[str] = "portForwarding.attach"

    uuid: UUID
    nic_uuid: UUID
    private_ip: IpAddress | None = None


class DetachPortForwarding(Request[PortForwardingInventory]):
    """Take the ports from their NIC; a rule that has none is no error."""

    message_type: ClassVar[str] = "portForwarding.detach"

    uuid: UUID


class DeletePortForwarding(Request[PortForwardingInventory | None]):
    """Detach it and forget it; the VIP stays, free for another use once its last rule is gone."""

    message_type: ClassVar[str] = "portForwarding.delete"

    uuid: UUID
