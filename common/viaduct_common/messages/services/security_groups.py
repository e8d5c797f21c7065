"""Security groups: who may speak with a VM's NIC, statefully, on the NIC's own host."""

from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

from viaduct_common.messages.base import Page, QueryBody, Request, Role, StrictModel, WireModel
from viaduct_common.messages.fields import Description, IpNetwork, IpVersion, L4Port, Name, OneOrMany, Revision

Direction = Literal["ingress", "egress"]
RuleProtocol = Literal["ALL", "TCP", "UDP", "ICMP"]
RuleAction = Literal["allow", "drop"]
DefaultPolicy = Literal["allow", "drop"]
RulePriority = Annotated[int, Field(strict=True, ge=0, le=10000, description="lower is looked at first")]
IcmpNumber = Annotated[int, Field(strict=True, ge=0, le=255)]
NicUuids = Annotated[list[UUID], Field(min_length=1, max_length=1000)]
L3Uuids = Annotated[list[UUID], Field(min_length=1, max_length=64)]


class PortRange(StrictModel):
    start: L4Port
    end: L4Port | None = None


class SecurityGroupRuleInventory(WireModel):
    """`cidrs` and `remote_group_uuid` are the other side (source of ingress, destination of egress); neither: anybody.
    `ports` are destination ports. `default` rules came with the group."""

    uuid: UUID
    security_group_uuid: UUID
    direction: Direction
    ip_version: int
    protocol: RuleProtocol
    ports: list[PortRange] = Field(default_factory=list)
    icmp_type: int | None = None
    icmp_code: int | None = None
    cidrs: list[IpNetwork] = Field(default_factory=list)
    remote_group_uuid: UUID | None = None
    action: RuleAction
    priority: int
    enabled: bool = True
    default: bool = False
    description: str | None = None


class SecurityGroupInventory(WireModel):
    uuid: UUID
    name: str
    description: str | None = None
    l3_network_uuids: list[UUID] = Field(default_factory=list)
    rules: list[SecurityGroupRuleInventory] = Field(default_factory=list)
    revision: int
    created_at: AwareDatetime
    updated_at: AwareDatetime


class SecurityGroupFilters(StrictModel):
    uuid: OneOrMany[UUID] | None = None
    name: OneOrMany[Name] | None = None
    l3_network_uuid: OneOrMany[UUID] | None = None
    nic_uuid: OneOrMany[UUID] | None = None


class CreateSecurityGroup(Request[SecurityGroupInventory]):
    """Create a group with its default rules: ingress from members of the group, and all egress, IPv4 and IPv6."""

    message_type: ClassVar[str] = "securityGroup.create"

    name: Name
    description: Description | None = None
    uuid: UUID | None = None


class GetSecurityGroup(Request[SecurityGroupInventory]):
    """Get one group with its rules."""

    message_type: ClassVar[str] = "securityGroup.get"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    uuid: UUID


class QuerySecurityGroups(Request[Page[SecurityGroupInventory]], QueryBody):
    """Groups by filters."""

    message_type: ClassVar[str] = "securityGroup.query"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    filters: SecurityGroupFilters = SecurityGroupFilters()


class UpdateSecurityGroup(Request[SecurityGroupInventory]):
    """Change what describes it."""

    message_type: ClassVar[str] = "securityGroup.update"

    uuid: UUID
    name: Name | None = None
    description: Description | None = None
    revision: Revision | None = None


class DeleteSecurityGroup(Request[SecurityGroupInventory | None]):
    """Delete a group; refused while NICs are in it or another group's rule names it (`IN_USE`)."""

    message_type: ClassVar[str] = "securityGroup.delete"

    uuid: UUID


class NewRule(StrictModel):
    """ICMP and ALL take no ports, TCP and UDP need them; `cidrs` and `remote_group_uuid` exclude each other, and are of
    `ip_version`."""

    direction: Direction
    ip_version: IpVersion = 4
    protocol: RuleProtocol
    ports: Annotated[list[PortRange], Field(max_length=10)] = Field(default_factory=list)
    icmp_type: IcmpNumber | None = None
    icmp_code: IcmpNumber | None = None
    cidrs: Annotated[list[IpNetwork], Field(max_length=10)] = Field(default_factory=list)
    remote_group_uuid: UUID | None = None
    action: RuleAction = "allow"
    priority: RulePriority = 100
    enabled: bool = True
    description: Description | None = None


class AddSecurityGroupRules(Request[SecurityGroupInventory]):
    """Add rules, all or none. One that is there already, or twice in the request, is `ALREADY_EXISTS`."""

    message_type: ClassVar[str] = "securityGroup.addRules"

    security_group_uuid: UUID
    rules: Annotated[list[NewRule], Field(min_length=1, max_length=200)]


class UpdateSecurityGroupRule(Request[SecurityGroupInventory]):
    """Change a rule's description, switch it, or, if it is no default one, its priority or action."""

    message_type: ClassVar[str] = "securityGroup.updateRule"

    rule_uuid: UUID
    description: Description | None = None
    enabled: bool | None = None
    priority: RulePriority | None = None
    action: RuleAction | None = None


class RemoveSecurityGroupRules(Request[SecurityGroupInventory]):
    """Remove rules; one that is gone is no error. Default rules can be switched off, not removed."""

    message_type: ClassVar[str] = "securityGroup.removeRules"

    security_group_uuid: UUID
    rule_uuids: Annotated[list[UUID], Field(min_length=1, max_length=1000)]


class AttachSecurityGroup(Request[SecurityGroupInventory]):
    """Let NICs on these L3 networks be members; each must have the SecurityGroup service."""

    message_type: ClassVar[str] = "securityGroup.attachL3"

    security_group_uuid: UUID
    l3_network_uuids: L3Uuids


class DetachSecurityGroup(Request[SecurityGroupInventory]):
    """NICs on these L3 networks are to be no members; refused while one is (`IN_USE`)."""

    message_type: ClassVar[str] = "securityGroup.detachL3"

    security_group_uuid: UUID
    l3_network_uuids: L3Uuids


class AddNicsToSecurityGroup(Request[SecurityGroupInventory]):
    """Make NICs members, all or none; those that are already stay. Groups act in the order of joining."""

    message_type: ClassVar[str] = "securityGroup.addNics"

    security_group_uuid: UUID
    nic_uuids: NicUuids


class RemoveNicsFromSecurityGroup(Request[SecurityGroupInventory]):
    """NICs are members no longer; one that is none is no error."""

    message_type: ClassVar[str] = "securityGroup.removeNics"

    security_group_uuid: UUID
    nic_uuids: NicUuids


class NicSecurityPolicy(WireModel):
    """What becomes of packets that no rule of a NIC's groups decides; a NIC in no group lets everything pass but
    spoofed frames."""

    nic_uuid: UUID
    security_group_uuids: list[UUID] = Field(default_factory=list)
    ingress_policy: DefaultPolicy = "drop"
    egress_policy: DefaultPolicy = "allow"


class GetNicSecurityPolicy(Request[NicSecurityPolicy]):
    """A NIC's groups, in order, and its default policies."""

    message_type: ClassVar[str] = "nic.getSecurityPolicy"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    nic_uuid: UUID


class SetNicSecurityPolicy(Request[NicSecurityPolicy]):
    """Change a NIC's default policies."""

    message_type: ClassVar[str] = "nic.setSecurityPolicy"

    nic_uuid: UUID
    ingress_policy: DefaultPolicy | None = None
    egress_policy: DefaultPolicy | None = None
