"""What an agent is told of security groups: the `spec` of three kinds, each small when one thing changes.

securityNic      one for each NIC, on its host: who it is, and its groups in order
securityRules    one for each group, on every host that has a NIC of it
securityMembers  one for each slice of a group's members, on every host with a rule that names the group
"""

from typing import Literal
from uuid import UUID

from pydantic import Field

from viaduct_common.messages.base import WireModel
from viaduct_common.messages.fields import IpAddress, IpNetwork, L4Port, MacAddress

SECURITY_NIC = "securityNic"
SECURITY_RULES = "securityRules"
SECURITY_MEMBERS = "securityMembers"
# Members are spread over so many slices by their NICs' uuids: with a thousand of them a change is told with sixteen.
MEMBER_SLICES = 64


class SecurityNicSpec(WireModel):
    """`device_name` is the tap; it need not exist yet. `anti_spoofing`: only these addresses, no DHCP or RA server."""

    nic_uuid: UUID
    device_name: str
    bridge: str
    mac: MacAddress
    ips: list[IpAddress]
    groups: list[UUID] = Field(default_factory=list)
    ingress_policy: Literal["allow", "drop"] = "drop"
    egress_policy: Literal["allow", "drop"] = "allow"
    anti_spoofing: bool = True


class PortSpan(WireModel):
    start: L4Port
    end: L4Port


class RuleSpec(WireModel):
    """In the order of their priority. Neither `cidrs` nor `remote_group_uuid`: anybody."""

    rule_uuid: UUID
    direction: Literal["ingress", "egress"]
    ip_version: Literal[4, 6]
    protocol: Literal["ALL", "TCP", "UDP", "ICMP"]
    ports: list[PortSpan] = Field(default_factory=list)
    icmp_type: int | None = None
    icmp_code: int | None = None
    cidrs: list[IpNetwork] = Field(default_factory=list)
    remote_group_uuid: UUID | None = None
    action: Literal["allow", "drop"]


class SecurityRulesSpec(WireModel):
    group_uuid: UUID
    rules: list[RuleSpec]


class SecurityMembersSpec(WireModel):
    """The addresses of those members that lie in this slice."""

    group_uuid: UUID
    slice: int = Field(ge=0, lt=MEMBER_SLICES)
    ips: list[IpAddress]
