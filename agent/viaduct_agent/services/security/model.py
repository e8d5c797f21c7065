"""What security groups are on this host, as plain values: NICs, groups with rules, slices of members."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Literal, TypeAlias
from uuid import UUID

from pydantic import ValidationError

from viaduct_common.errors import InvalidRequest
from viaduct_common.messages.services.security_specs import (
    SECURITY_MEMBERS,
    SECURITY_NIC,
    SECURITY_RULES,
    RuleSpec,
    SecurityMembersSpec,
    SecurityNicSpec,
    SecurityRulesSpec,
)

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network
Direction = Literal["ingress", "egress"]
# In nftables a `*` at the end of a device's name stands for anything, and a quote ends it.
_DEVICE_NAME = re.compile(r"[A-Za-z0-9_.:@+=-]{1,15}")


@dataclass(frozen=True, slots=True)
class Nic:
    """`allowed` holds the default policies: whether what no rule decides passes."""

    uuid: UUID
    device: str
    bridge: str
    mac: str
    ips: frozenset[Address]
    groups: tuple[UUID, ...]
    allowed: frozenset[Direction]
    anti_spoofing: bool


@dataclass(frozen=True, slots=True)
class Rule:
    """`ports` are first and last; no `networks` and no `group`: anybody."""

    direction: Direction
    version: Literal[4, 6]
    protocol: Literal["ALL", "TCP", "UDP", "ICMP"]
    ports: tuple[tuple[int, int], ...] = ()
    icmp_type: int | None = None
    icmp_code: int | None = None
    networks: frozenset[Network] = frozenset()
    group: UUID | None = None
    allow: bool = True


@dataclass(frozen=True, slots=True)
class Group:
    uuid: UUID
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Members:
    """One slice of a group's members."""

    group: UUID
    slice: int
    ips: frozenset[Address]


Body: TypeAlias = Nic | Group | Members


@dataclass(frozen=True, slots=True)
class Instance:
    kind: str
    generation: int
    body: Body


@dataclass(frozen=True)
class World:
    """All instances of this host by their uuids; of two that claim one thing, the one with the lower uuid has it."""

    instances: Mapping[UUID, Instance]

    @cached_property
    def nics(self) -> dict[str, Nic]:
        """By the name of the device."""
        return {body.device: body for body in self._bodies if isinstance(body, Nic)}

    @cached_property
    def groups(self) -> dict[UUID, Group]:
        return {body.uuid: body for body in self._bodies if isinstance(body, Group)}

    @cached_property
    def members(self) -> dict[UUID, frozenset[Address]]:
        slices: dict[UUID, list[frozenset[Address]]] = {}
        for body in self._bodies:
            if isinstance(body, Members):
                slices.setdefault(body.group, []).append(body.ips)
        return {group: frozenset[Address]().union(*parts) for group, parts in slices.items()}

    @cached_property
    def by_address(self) -> dict[Address, list[Nic]]:
        found: dict[Address, list[Nic]] = {}
        for nic in self.nics.values():
            for ip in nic.ips:
                found.setdefault(ip, []).append(nic)
        return found

    @cached_property
    def bridges(self) -> frozenset[str]:
        return frozenset(nic.bridge for nic in self.nics.values())

    @cached_property
    def _bodies(self) -> list[Body]:
        return [self.instances[uuid].body for uuid in sorted(self.instances, reverse=True)]


def parse(kind: str, spec: Mapping[str, Any]) -> Body:
    """The spec as it came over the wire.

    Raises:
        InvalidRequest: it is not one of this kind.
    """
    try:
        if kind == SECURITY_NIC:
            return _nic(SecurityNicSpec.model_validate(spec))
        if kind == SECURITY_RULES:
            rules = SecurityRulesSpec.model_validate(spec)
            return Group(rules.group_uuid, tuple(map(_rule, rules.rules)))
        if kind == SECURITY_MEMBERS:
            members = SecurityMembersSpec.model_validate(spec)
            return Members(members.group_uuid, members.slice, frozenset(members.ips))
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        raise InvalidRequest.of_field(".".join(map(str, ("spec", *first["loc"]))), first["msg"]) from exc
    raise InvalidRequest.of_field("kind", f"{kind!r} is none of security groups'")


def _nic(spec: SecurityNicSpec) -> Nic:
    for name, value in (("deviceName", spec.device_name), ("bridge", spec.bridge)):
        if not _DEVICE_NAME.fullmatch(value):
            raise InvalidRequest.of_field(f"spec.{name}", f"no rule can name the device {value!r}")
    policies: dict[Direction, str] = {"ingress": spec.ingress_policy, "egress": spec.egress_policy}
    return Nic(
        uuid=spec.nic_uuid,
        device=spec.device_name,
        bridge=spec.bridge,
        mac=spec.mac,
        ips=frozenset(spec.ips),
        groups=tuple(dict.fromkeys(spec.groups)),
        allowed=frozenset(direction for direction, policy in policies.items() if policy == "allow"),
        anti_spoofing=spec.anti_spoofing,
    )


def _rule(spec: RuleSpec) -> Rule:
    return Rule(
        direction=spec.direction,
        version=spec.ip_version,
        protocol=spec.protocol,
        ports=tuple((span.start, span.end) for span in spec.ports),
        icmp_type=spec.icmp_type,
        icmp_code=spec.icmp_code,
        networks=frozenset(spec.cidrs),
        group=spec.remote_group_uuid,
        allow=spec.action == "allow",
    )
