"""Rules of security groups: what is a good one, which are the same, in which order they are looked at. Pure.

A rule says which packets it is about, and what becomes of them. Two that do the same with the same packets are
duplicates, whatever their priorities and descriptions; rules that overlap only are not: the first one decides.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from uuid import UUID

from viaduct_common.errors import AlreadyExists, InvalidRequest
from viaduct_common.messages.services.security_groups import NewRule, PortRange, RuleAction
from viaduct_common.messages.services.security_specs import MEMBER_SLICES, PortSpan, RuleSpec

Network = IPv4Network | IPv6Network
Span = tuple[int, int]

# So many have room in one command to a host, whatever they say.
MAX_RULES = 500
MAX_GROUPS_OF_NIC = 64
# The last of all: whatever a user adds is looked at before what came with the group.
DEFAULT_PRIORITY = 10000
_WITH_PORTS = {"TCP", "UDP"}


@dataclass(frozen=True)
class StoredRule:
    """A rule of a group; `place` is when it was added, compared with others."""

    uuid: UUID
    rule: NewRule
    default: bool
    place: int


def check_rule(rule: NewRule, place: str) -> None:
    """Args:
        place: of the rule in the request, for `details.field`.

    Raises:
        InvalidRequest: it contradicts itself.
    """
    problem = _problem(rule)
    if problem is not None:
        field, text = problem
        raise InvalidRequest.of_field(f"{place}.{field}", text)


def matches(rule: NewRule) -> str:
    """Which packets a rule is about, in one form: equal for equal sets of packets of one notation."""
    ports = ",".join(f"{start}-{end}" for start, end in port_spans(rule.ports))
    icmp = "/".join("*" if one is None else str(one) for one in (rule.icmp_type, rule.icmp_code))
    other = str(rule.remote_group_uuid) if rule.remote_group_uuid else ",".join(map(str, networks(rule.cidrs)))
    return f"{rule.direction} {rule.ip_version} {rule.protocol} [{ports}] {icmp} [{other}]"


def port_spans(ports: Iterable[PortRange]) -> list[Span]:
    """Sorted; what overlaps or touches is one."""
    spans: list[Span] = []
    for start, end in sorted((one.start, one.start if one.end is None else one.end) for one in ports):
        if spans and start <= spans[-1][1] + 1:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((start, end))
    return spans


def networks(cidrs: Iterable[Network]) -> list[Network]:
    """Sorted, without what lies in another; none if that is everybody. All are of one version."""
    found: list[Network] = list(collapse_addresses(list(cidrs)))  # type: ignore[type-var]
    return [] if any(one.prefixlen == 0 for one in found) else found


def refuse_duplicates(rules: Sequence[NewRule], present: Iterable[StoredRule]) -> None:
    """Raises:
    AlreadyExists: one of the new rules is there, or twice among them; `details` name both.
    """
    there = {(matches(one.rule), one.rule.action): one.uuid for one in present}
    asked: dict[tuple[str, RuleAction], int] = {}
    for index, rule in enumerate(rules):
        key = (matches(rule), rule.action)
        if key in there:
            raise already_there(f"rules.{index}", there[key])
        if key in asked:
            raise AlreadyExists(
                f"rules.{index} is the same as rules.{asked[key]}",
                kind="security group rule",
                field=f"rules.{index}",
                sameAs=f"rules.{asked[key]}",
            )
        asked[key] = index


def already_there(place: str, rule_uuid: UUID) -> AlreadyExists:
    return AlreadyExists(
        f"{place} is the same as rule {rule_uuid}", kind="security group rule", field=place, ruleUuid=str(rule_uuid)
    )


def default_rules(group_uuid: UUID) -> list[NewRule]:
    """What a new group has: ingress from its members, and all egress."""
    return [
        NewRule(
            direction=direction,
            ip_version=version,
            protocol="ALL",
            remote_group_uuid=group_uuid if direction == "ingress" else None,
            priority=DEFAULT_PRIORITY,
        )
        for direction in ("ingress", "egress")
        for version in (4, 6)
    ]


def expand(rules: Iterable[StoredRule]) -> list[RuleSpec]:
    """What hosts are told: what is enabled, in the order in which it is looked at."""
    ordered = sorted(rules, key=lambda one: (one.rule.priority, one.default, one.place))
    return [_spec(one.uuid, one.rule) for one in ordered if one.rule.enabled]


def slice_of(nic_uuid: UUID) -> int:
    """In which slice of a group's members a NIC is; the same for all groups and for ever."""
    return nic_uuid.int % MEMBER_SLICES


def _problem(rule: NewRule) -> tuple[str, str] | None:
    """The field at fault, and what is wrong with it."""
    return _problem_of_ports(rule) or _problem_of_icmp(rule) or _problem_of_other_side(rule)


def _problem_of_ports(rule: NewRule) -> tuple[str, str] | None:
    if rule.protocol in _WITH_PORTS and not rule.ports:
        return "ports", f"{rule.protocol} needs ports"
    if rule.protocol not in _WITH_PORTS and rule.ports:
        return "ports", f"{rule.protocol} has no ports"
    for index, ports in enumerate(rule.ports):
        if ports.end is not None and ports.end < ports.start:
            return f"ports.{index}.end", f"below the start, {ports.start}"
    return None


def _problem_of_icmp(rule: NewRule) -> tuple[str, str] | None:
    for field, value in (("icmpType", rule.icmp_type), ("icmpCode", rule.icmp_code)):
        if rule.protocol != "ICMP" and value is not None:
            return field, f"{rule.protocol} has none"
    if rule.icmp_code is not None and rule.icmp_type is None:
        return "icmpCode", "only beside icmpType"
    return None


def _problem_of_other_side(rule: NewRule) -> tuple[str, str] | None:
    if rule.cidrs and rule.remote_group_uuid is not None:
        return "remoteGroupUuid", "not beside cidrs"
    for index, cidr in enumerate(rule.cidrs):
        if cidr.version != rule.ip_version:
            return f"cidrs.{index}", f"{cidr} is not of IP version {rule.ip_version}"
    return None


def _spec(uuid: UUID, rule: NewRule) -> RuleSpec:
    return RuleSpec(
        rule_uuid=uuid,
        direction=rule.direction,
        ip_version=4 if rule.ip_version == 4 else 6,
        protocol=rule.protocol,
        ports=[PortSpan(start=start, end=end) for start, end in port_spans(rule.ports)],
        icmp_type=rule.icmp_type,
        icmp_code=rule.icmp_code,
        cidrs=networks(rule.cidrs),
        remote_group_uuid=rule.remote_group_uuid,
        action=rule.action,
    )
