"""Whether a flow is admitted: the semantics of the rules, once more beside nftables' own, for connections that exist.

The groups of a NIC are asked in its order, their rules in theirs; the first that matches decides, and else the NIC's
policy. A flow between two NICs of this host needs the word of both. What every NIC needs to have an address at all is
admitted without being asked: DHCP as its client, and neighbour discovery.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address

from viaduct_agent.services.security.model import Address, Direction, Nic, Rule, World

ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
_PROTOCOLS = {"TCP": {4: TCP, 6: TCP}, "UDP": {4: UDP, 6: UDP}, "ICMP": {4: ICMP, 6: ICMPV6}}
# Source and target ports of a client's questions; the answers have them the other way round.
DHCP_PORTS = {4: (68, 67), 6: (546, 547)}
# RFC 4861, RFC 3810: solicitations, advertisements, and who listens to which multicast address.
ND_TYPES: dict[Direction, tuple[int, ...]] = {
    "egress": (131, 132, 133, 135, 136, 143),
    "ingress": (130, 134, 135, 136),
}


@dataclass(frozen=True, slots=True)
class Flow:
    """A connection as its first packet was; for ICMP `ports` are its type and code. `bridge`: None if not known."""

    protocol: int
    source: Address
    target: Address
    ports: tuple[int, int] = (0, 0)
    bridge: str | None = None


def admitted(flow: Flow, world: World) -> bool:
    """Whether all NICs of this host that the flow has to do with would let its first packet pass now."""
    ends: tuple[tuple[Direction, Address], ...] = (("egress", flow.source), ("ingress", flow.target))
    return all(
        passes(nic, direction, flow, world)
        for direction, address in ends
        for nic in world.by_address.get(address, ())
        if flow.bridge in {None, nic.bridge}
    )


def passes(nic: Nic, direction: Direction, flow: Flow, world: World) -> bool:
    """What one NIC says to a flow that it sends (egress) or receives (ingress)."""
    if not nic.groups or _always(direction, flow):
        return True
    for uuid in nic.groups:
        group = world.groups.get(uuid)
        for rule in group.rules if group else ():
            if rule.direction == direction and _matches(rule, flow, world):
                return rule.allow
    return direction in nic.allowed


def _always(direction: Direction, flow: Flow) -> bool:
    if flow.protocol == ICMPV6:
        return flow.ports[0] in ND_TYPES[direction]
    asked = DHCP_PORTS[flow.source.version]
    return flow.protocol == UDP and flow.ports == (asked if direction == "egress" else asked[::-1])


def _matches(rule: Rule, flow: Flow, world: World) -> bool:
    if rule.version != flow.source.version:
        return False
    if rule.protocol != "ALL" and flow.protocol != _PROTOCOLS[rule.protocol][rule.version]:
        return False
    if rule.protocol == "ICMP":
        wanted = (rule.icmp_type, rule.icmp_code if rule.icmp_type is not None else None)
        if any(want is not None and want != has for want, has in zip(wanted, flow.ports, strict=True)):
            return False
    elif rule.protocol != "ALL" and not _has_port(rule, flow.ports[1]):
        return False
    return _is_peer(rule, flow.source if rule.direction == "ingress" else flow.target, world)


def _has_port(rule: Rule, port: int) -> bool:
    return not rule.ports or any(first <= port <= last for first, last in rule.ports)


def _is_peer(rule: Rule, peer: Address, world: World) -> bool:
    if not rule.networks and rule.group is None:
        return True
    if rule.group is not None and peer in world.members.get(rule.group, ()):
        return True
    if isinstance(peer, IPv4Address):
        return any(network.version == 4 and peer in network for network in rule.networks)
    return any(network.version == 6 and peer in network for network in rule.networks)
