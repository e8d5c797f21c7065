"""From what is wanted to nftables: one table in the bridge family, and a second one where that has no `ct`.

A packet meets at most two lookups of a device's name, the chains of the NIC's groups, and a set lookup for each rule
that names a group: nothing that grows with NICs or members.

    prerouting -310  zoning    its connections are those of its bridge alone: a zone for each bridge
    prerouting -300  guards    anti-spoofing, by the device that it came in by
    forward    -200  sent      established connections; egress rules, by the device that it came in by
    forward    -190  received  the same; ingress rules, by the device that it goes out by
    input, output    up, down  the same for what goes to and comes from the bridge itself

Each hook has a chain of its own for each direction, so that `accept` is the last word of one NIC, not of both. The
priorities are below 0, where br_netfilter, if it is loaded, takes frames away.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal
from uuid import UUID

from viaduct_agent.links.marks import format_mark
from viaduct_agent.services.security.guard import guard, serving
from viaduct_agent.services.security.model import Direction, Nic, World
from viaduct_agent.services.security.rules import always, members_set, named_groups, rules_of
from viaduct_agent.services.security.ruleset import Chain, Elements, Key, Line, Ruleset, line

BRIDGE, INET = "bridge", "inet"
ZONES = "zones"
REVOKED = 0x20000000  # of a connection's mark: it was admitted once, and is not any more: not a packet of it passes
_OF_ONE = re.compile(r"(guard|egress|ingress|m4|m6)_[0-9a-f]{32}|marks_.*")
_ESTABLISHED = 0x20000000  # of a packet's mark, between two hooks
_STATE = "ct state established,related"
_DEAD = f"ct mark and {REVOKED:#x} == {REVOKED:#x} drop"
_CLEAR = f"meta mark set meta mark and {0xFFFFFFFF ^ _ESTABLISHED:#010x}"


@dataclass(frozen=True, slots=True)
class Mechanism:
    """How this kernel filters bridged packets by connection.

    `bridge`: nf_conntrack_bridge, all in one table. `br_netfilter`: the connection is looked up on the detour through
    the IP hooks, at prerouting, and the packet's mark tells the bridge chains what was found. Should the detour be
    switched off, nothing counts as established, and only what the rules admit passes.
    """

    name: Literal["bridge", "br_netfilter"]
    zones: bool


@dataclass(frozen=True, slots=True)
class Bridges:
    """The connection tracking zone of each bridge, and the MACs of those that are there.

    Frames to a bridge's own MAC are in no zone: they are the host's, whose answers and whose routing know of none.
    """

    zones: Mapping[str, int]
    macs: Mapping[str, str]


def compile_world(world: World, mechanism: Mechanism, bridges: Bridges) -> Ruleset:
    """All that there has to be; nothing, when there are no instances."""
    if not world.instances:
        return Ruleset()
    chains = {Key(BRIDGE, name): chain for name, chain in _base_chains(mechanism).items()}
    chains |= {Key(BRIDGE, name): Chain(rules) for name, rules in _nic_chains(world)}
    chains |= {Key(BRIDGE, name): Chain(rules) for name, rules in _group_chains(world)}
    sets = {Key(BRIDGE, name): elements for name, elements in _maps(world)}
    sets |= {Key(BRIDGE, name): elements for name, elements in _members(world)}
    families = {BRIDGE}
    if mechanism.name == "br_netfilter":
        families.add(INET)
        chains |= {Key(INET, name): chain for name, chain in _detour().items()}
        names = dict.fromkeys(map(device_key, sorted(world.bridges)), "")
        sets[Key(INET, "bridges")] = Elements(names, "type ifname;")
    if mechanism.zones:
        family, meta = (INET, "iifname") if mechanism.name == "br_netfilter" else (BRIDGE, "meta ibrname")
        zones = {device_key(name): f": {zone}" for name, zone in bridges.zones.items() if name in world.bridges}
        macs = dict.fromkeys(sorted(mac for name, mac in bridges.macs.items() if name in world.bridges), "")
        sets[Key(family, ZONES)] = Elements(zones, "typeof meta iifname : ct zone;")
        sets[Key(family, "own_macs")] = Elements(macs, "type ether_addr;")
        lines = (line("ether daddr @own_macs return"), line(f"ct zone set {meta} map @{ZONES}"))
        chains[Key(family, "zoning")] = Chain(lines, _hook("prerouting", -310))
    return Ruleset(chains, sets, frozenset(families))


def chain_of(kind: Literal["guard", "egress", "ingress"], uuid: UUID) -> str:
    return f"{kind}_{uuid.hex}"


def is_shared(key: Key) -> bool:
    """Whether a chain, set or map is there as soon as there is any instance."""
    return not _OF_ONE.fullmatch(key.name)


def marks_set(kind: str) -> str:
    return f"marks_{kind}"


def device_key(name: str) -> str:
    """A device's name as an element: without the quotes some names are words of nft's own."""
    return f'"{name}"'


def mark_key(uuid: UUID) -> str:
    """A uuid as nftables can have it in a set: it is as long as an IPv6 address.

    >>> mark_key(UUID("00112233-4455-6677-8899-aabbccddeeff"))
    '0011:2233:4455:6677:8899:aabb:ccdd:eeff'
    """
    return ":".join(uuid.hex[at : at + 4] for at in range(0, 32, 4))


def _hook(name: str, priority: int) -> str:
    return f"type filter hook {name} priority {priority}; policy accept;"


@lru_cache
def _base_chains(mechanism: Mechanism) -> dict[str, Chain]:
    sent, received = line("iifname vmap @sent"), line("oifname vmap @received")
    first: tuple[Line, ...]
    last: tuple[Line, ...]
    if mechanism.name == "bridge":
        first = last = (line(_DEAD), line(f"{_STATE} accept"))
    else:
        test = f"meta mark and {_ESTABLISHED:#x} == {_ESTABLISHED:#x}"
        first, last = (line(f"{test} accept"),), (line(f"{test} {_CLEAR} accept"),)
    return {
        "guards": Chain((line("iifname vmap @guards"),), _hook("prerouting", -300)),
        "sent": Chain((*first, sent), _hook("forward", -200)),
        "received": Chain((*last, received), _hook("forward", -190)),
        "up": Chain((*last, sent), _hook("input", -200)),
        "down": Chain((*last, received), _hook("output", -200)),
        "serving": Chain(serving()),
        "always_egress": Chain(always("egress")),
        "always_ingress": Chain(always("ingress")),
    }


@lru_cache
def _detour() -> dict[str, Chain]:
    found = f"{_STATE} meta mark set meta mark or {_ESTABLISHED:#x}"
    return {
        name: Chain((line(f"{way} @bridges {_DEAD}"), line(f"{way} @bridges {found}")), _hook(hook, -150))
        for name, way, hook in (("arrived", "iifname", "prerouting"), ("leaving", "oifname", "output"))
    }


def _nic_chains(world: World) -> Iterator[tuple[str, tuple[Line, ...]]]:
    for nic in world.nics.values():
        if nic.anti_spoofing:
            yield chain_of("guard", nic.uuid), (line("jump serving"), *guard(nic))
        if nic.groups or nic.anti_spoofing:
            yield chain_of("egress", nic.uuid), _decisions(nic, "egress")
        if nic.groups:
            yield chain_of("ingress", nic.uuid), _decisions(nic, "ingress")


@lru_cache(maxsize=8192)
def _decisions(nic: Nic, direction: Direction) -> tuple[Line, ...]:
    # Once more behind conntrack: only there are fragments put together.
    texts = ["jump serving"] if nic.anti_spoofing and direction == "egress" else []
    if nic.groups:
        texts.append(f"jump always_{direction}")
        texts += [f"jump {chain_of(direction, group)}" for group in nic.groups]
        texts.append("accept" if direction in nic.allowed else "drop")
    return tuple(map(line, texts))


def _group_chains(world: World) -> Iterator[tuple[str, tuple[Line, ...]]]:
    """Also of groups that only a NIC names: their rules are still to come."""
    for uuid in {*world.groups, *(uuid for nic in world.nics.values() for uuid in nic.groups)}:
        group = world.groups.get(uuid)
        yield chain_of("egress", uuid), rules_of(group, "egress") if group else ()
        yield chain_of("ingress", uuid), rules_of(group, "ingress") if group else ()


def _maps(world: World) -> Iterator[tuple[str, Elements]]:
    nics = list(world.nics.values())
    wanted: tuple[tuple[str, Literal["guard", "egress", "ingress"], list[Nic]], ...] = (
        ("guards", "guard", [nic for nic in nics if nic.anti_spoofing]),
        ("sent", "egress", [nic for nic in nics if nic.groups or nic.anti_spoofing]),
        ("received", "ingress", [nic for nic in nics if nic.groups]),
    )
    for name, way, chosen in wanted:
        jumps = {device_key(nic.device): f": jump {chain_of(way, nic.uuid)}" for nic in chosen}
        yield name, Elements(jumps, "type ifname : verdict;")
    marks: dict[str, dict[str, str]] = {}
    for uuid, instance in world.instances.items():
        marks.setdefault(instance.kind, {})[mark_key(uuid)] = format_mark(uuid, instance.generation)
    for kind, elements in marks.items():
        yield marks_set(kind), Elements(elements, "type ipv6_addr;")


def _members(world: World) -> Iterator[tuple[str, Elements]]:
    named = {uuid for group in world.groups.values() for uuid in named_groups(group)}
    for uuid in {*named, *world.members}:
        ips = world.members.get(uuid, frozenset())
        for version, kind in ((4, "ipv4_addr"), (6, "ipv6_addr")):
            elements = {str(ip): "" for ip in ips if ip.version == version}
            yield members_set(uuid, version), Elements(elements, f"type {kind};")
