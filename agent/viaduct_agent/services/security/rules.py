"""Rules of groups, and what comes before them, in the words of nftables."""

import ipaddress
from collections.abc import Iterable, Iterator
from functools import lru_cache
from uuid import UUID

from viaduct_agent.services.security.model import Direction, Group, Network, Rule
from viaduct_agent.services.security.ruleset import Line, line
from viaduct_agent.services.security.verdicts import DHCP_PORTS, ND_TYPES

_FAMILY = {4: "ip", 6: "ip6"}
_ICMP = {4: "icmp", 6: "icmpv6"}
_L4 = {4: "icmp", 6: "ipv6-icmp"}
RARP = "0x8035"  # what a hypervisor sends in a NIC's name after a migration


def members_set(group: UUID, version: int) -> str:
    return f"m{version}_{group.hex}"


@lru_cache(maxsize=4096)
def rules_of(group: Group, direction: Direction) -> tuple[Line, ...]:
    """The group's chain of one direction."""
    rules = [rule for rule in group.rules if rule.direction == direction]
    return tuple(line(text) for rule in rules for text in _texts(rule))


def named_groups(group: Group) -> frozenset[UUID]:
    """The groups whose members its rules look for."""
    return frozenset(rule.group for rule in group.rules if rule.group is not None)


def always(direction: Direction) -> tuple[Line, ...]:
    """What passes at every NIC before its groups are asked. Neither IP nor ARP: no rule can say anything about it."""
    texts = [f"meta protocol {{ arp, {RARP} }} accept", "meta protocol != { ip, ip6 } drop"]
    for version, asked in DHCP_PORTS.items():
        source, target = asked if direction == "egress" else asked[::-1]
        texts.append(f"meta protocol {_FAMILY[version]} udp sport {source} udp dport {target} accept")
    types = ", ".join(map(str, ND_TYPES[direction]))
    texts.append(f"meta protocol ip6 icmpv6 type {{ {types} }} accept")
    return tuple(map(line, texts))


def _texts(rule: Rule) -> Iterator[str]:
    action = "accept" if rule.allow else "drop"
    for peer in _peers(rule):
        yield " ".join([f"meta protocol {_FAMILY[rule.version]}", *peer, *_protocol(rule), action])


def _peers(rule: Rule) -> Iterator[list[str]]:
    """Each way in which the peer may match; one without words matches anybody."""
    side = f"{_FAMILY[rule.version]} {'saddr' if rule.direction == 'ingress' else 'daddr'}"
    if not rule.networks and rule.group is None:
        yield []
    networks = merged(network for network in rule.networks if network.version == rule.version)
    if networks:
        anybody = networks[0].endswith("/0")
        yield [] if anybody else [side, f"{{ {', '.join(networks)} }}"]
    if rule.group is not None:
        yield [side, f"@{members_set(rule.group, rule.version)}"]


def merged(networks: Iterable[Network]) -> list[str]:
    """Networks of one version, none of which lies in another: an interval set takes no others."""
    ordered = sorted(networks, key=lambda network: (int(network.network_address), network.prefixlen))
    return [str(network) for network in ipaddress.collapse_addresses(ordered)]  # type: ignore[type-var]


def _protocol(rule: Rule) -> Iterator[str]:
    if rule.protocol == "ICMP":
        yield f"meta l4proto {_L4[rule.version]}"
        if rule.icmp_type is not None:
            yield f"{_ICMP[rule.version]} type {rule.icmp_type}"
            if rule.icmp_code is not None:
                yield f"{_ICMP[rule.version]} code {rule.icmp_code}"
    elif rule.protocol != "ALL":
        name = rule.protocol.lower()
        spans = ", ".join(_span(first, last) for first, last in _joined(rule.ports))
        yield f"{name} dport {{ {spans} }}" if spans else f"meta l4proto {name}"


def _joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans that touch are one."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(span for span in spans if span[0] <= span[1]):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return joined


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"
