"""What there is compared with what there should be, and the commands between: pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_interface
from typing import Any, Literal
from uuid import UUID

from viaduct_agent.links.marks import parse_service_mark
from viaduct_agent.services.space import Route, Rule, Space, WantedLeg
from viaduct_common.errors import Conflict, PreconditionFailed
from viaduct_common.messages.l2 import Difference

Place = Literal["host", "host ip", "sysctl", "space ip -4", "space ip -6"]


@dataclass(frozen=True, slots=True)
class Outer:
    """The host's end. `bridge` is Open vSwitch's or the kernel's, `vlan` the one that its frames get there;
    `strays` are others that a bridge of the kernel lets pass, each as `bridge vlan` writes it."""

    index: int
    mtu: int
    up: bool
    alias: str | None = None
    bridge: str | None = None
    vlan: int | None = None
    strays: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Inner:
    """A device in the namespace; `peer` is the index of the other end of a veth."""

    peer: int | None
    mac: str
    mtu: int
    up: bool
    addresses: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Have:
    """What was seen; devices by name. `bridges` are those of the wanted ones that are there."""

    namespace: bool = False
    outers: Mapping[str, Outer] = field(default_factory=dict)
    inners: Mapping[str, Inner] = field(default_factory=dict)
    routes: frozenset[Route] = frozenset()
    rules: frozenset[Rule] = frozenset()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    bridges: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Step:
    """One command, and the difference that it takes away. Those of `... ip` places are lines of `ip -batch`.

    `announce` is a device and an address that it has from now on.
    """

    place: Place
    words: str
    difference: Difference
    announce: tuple[str, str] | None = None

    def command(self, netns: str) -> str:
        """As an operator would type it."""
        match self.place:
            case "host":
                return self.words
            case "host ip":
                return f"ip {self.words}"
            case "sysctl":
                return f"ip netns exec {netns} sysctl -w {self.words}"
            case "space ip -4":
                return f"ip -n {netns} {self.words}"
            case "space ip -6":
                return f"ip -6 -n {netns} {self.words}"


def require_bridges(want: Space, have: Have) -> None:
    """Raises PreconditionFailed if a leg has nowhere to be plugged in: the L2 network is not realized here (yet)."""
    missing = sorted({leg.bridge for leg in want.legs} - have.bridges)
    if missing:
        raise PreconditionFailed(f"there is no bridge {', '.join(missing)} on this host", device=missing[0])


def plan_namespace(want: Space, have: Have) -> tuple[Step, ...]:
    """The namespace itself with its settings: before anything is in it."""
    steps = []
    if not have.namespace:
        steps.append(Step("host", f"ip netns add {want.name}", _differs(want.name, "namespace", "present", None)))
    for key, value in want.sysctls:
        actual = have.sysctls.get(key)
        if actual != value:
            steps.append(Step("sysctl", f"{key}={value}", _differs(want.name, key, value, actual)))
    lo = have.inners.get("lo")
    if lo is None or not lo.up:
        steps.append(Step("space ip -4", "link set dev lo up", _differs("lo", "up", True, False)))
    return tuple(steps)


def plan_space(want: Space, have: Have) -> tuple[Step, ...]:
    """What it is made of. What is right already is left alone, so that traffic goes on.

    Raises:
        Conflict: a device of a wanted name is not ours.
    """
    steps: list[Step] = []
    kept = _kept(want, have)
    gone_devices = {name for name, inner in have.inners.items() if inner.peer is not None} - kept
    steps += _removals(want, have, gone_devices)
    for leg in want.legs:
        steps += _leg(want, leg, have, made=leg.inner not in kept)
    for route in sorted(want.routes - have.routes, key=repr):
        steps.append(Step(_ip(route), f"route replace {route.words}", _route(route, missing=True)))
    for rule in sorted(want.rules - have.rules, key=repr):
        steps.append(Step(_ip(rule), f"rule add {rule.words}", _rule(rule, missing=True)))
    return tuple(steps)


def _kept(want: Space, have: Have) -> set[str]:
    """The inner ends of those pairs that are whole."""
    kept = set()
    for leg in want.legs:
        outer, inner = have.outers.get(leg.outer), have.inners.get(leg.inner)
        if outer is not None and inner is not None and inner.peer == outer.index:
            kept.add(leg.inner)
        elif outer is not None and not _ours(outer, want.uuid):
            raise Conflict(f"{leg.outer} is there, and is not ours", device=leg.outer)
    return kept


def _ours(outer: Outer, service: UUID) -> bool:
    mark = parse_service_mark(outer.alias)
    return mark is not None and mark[0] == service


def _removals(want: Space, have: Have, gone_devices: set[str]) -> Iterator[Step]:
    for rule in sorted(have.rules - want.rules, key=repr):
        yield Step(_ip(rule), f"rule del {rule.words}", _rule(rule, missing=False))
    for route in sorted(have.routes - want.routes, key=repr):
        if route.device not in gone_devices and not _replaced(route, want):
            yield Step(_ip(route), f"route del {route.words}", _route(route, missing=False))
    for name in sorted(gone_devices):
        yield Step("space ip -4", f"link del dev {name}", _differs(name, "device", None, "present"))


def _replaced(route: Route, want: Space) -> bool:
    """`ip route replace` puts another next hop in its place, without a moment between."""
    key = (route.version, route.destination, route.table)
    return any(key == (new.version, new.destination, new.table) for new in want.routes)


def _leg(want: Space, leg: WantedLeg, have: Have, *, made: bool) -> Iterator[Step]:
    outer, inner = have.outers.get(leg.outer), have.inners.get(leg.inner)
    if made:
        if outer is not None:
            yield Step("host ip", f"link del dev {leg.outer}", _differs(leg.outer, "peer", leg.inner, None))
        pair = f"link add name {leg.outer} mtu {leg.mtu} type veth peer name {leg.inner} mtu {leg.mtu}"
        words = f"{pair} index {leg.index} address {leg.mac} netns {want.name}"
        yield Step("host ip", words, _differs(leg.outer, "device", "present", None))
        outer, inner = None, None
    yield from _outer(want, leg, outer)
    yield from _inner(leg, inner)


def _outer(want: Space, leg: WantedLeg, have: Outer | None) -> Iterator[Step]:
    """The mark first: what has it can be taken away whatever happens next."""
    have = have or Outer(0, leg.mtu, up=False)
    name = leg.outer
    if have.alias != want.mark:
        words = f"link set dev {name} alias {want.mark}"
        if have.alias is None:  # it is new: no address of the host's own on a port of a bridge
            words += " addrgenmode none"
        yield Step("host ip", words, _differs(name, "alias", want.mark, have.alias))
    if have.mtu != leg.mtu:
        yield Step("host ip", f"link set dev {name} mtu {leg.mtu}", _differs(name, "mtu", leg.mtu, have.mtu))
    if have.bridge != leg.bridge or (leg.openvswitch and have.vlan != leg.vlan):
        difference = _differs(name, "bridge", leg.bridge, have.bridge)
        if leg.openvswitch:
            tag = f"tag={leg.vlan}" if leg.vlan else "tag=[]"
            owner = f"external_ids:viaduct-service={want.uuid}"
            words = f"--if-exists del-port {name} -- add-port {leg.bridge} {name} -- set port {name} {tag} {owner}"
            yield Step("host", f"ovs-vsctl {words}", difference)
        else:
            yield Step("host ip", f"link set dev {name} master {leg.bridge}", difference)
    for stray in sorted(have.strays):
        yield Step("host", f"bridge vlan del dev {name} vid {stray}", _differs(name, "vlan", None, stray))
    if not leg.openvswitch and leg.vlan is not None and (have.bridge, have.vlan) != (leg.bridge, leg.vlan):
        words = f"bridge vlan add dev {name} vid {leg.vlan} pvid untagged"
        yield Step("host", words, _differs(name, "vlan", leg.vlan, have.vlan))
    if not have.up:
        yield Step("host ip", f"link set dev {name} up", _differs(name, "up", True, False))


def _inner(leg: WantedLeg, have: Inner | None) -> Iterator[Step]:
    have = have or Inner(0, leg.mac, leg.mtu, up=False)
    name = leg.inner
    if have.mac != leg.mac:
        yield Step("space ip -4", f"link set dev {name} address {leg.mac}", _differs(name, "mac", leg.mac, have.mac))
    if have.mtu != leg.mtu:
        yield Step("space ip -4", f"link set dev {name} mtu {leg.mtu}", _differs(name, "mtu", leg.mtu, have.mtu))
    if not have.up:
        yield Step("space ip -4", f"link set dev {name} up", _differs(name, "up", True, False))
    for address in sorted(leg.addresses - have.addresses):
        words = f"address add {address} dev {name}"
        if ip_interface(address).version == 6:
            words += " nodad"  # the address is ours alone by IPAM, and is wanted now
        if not leg.prefix_routes:
            words += " noprefixroute"
        difference = _differs(name, "address", address, None)
        yield Step("space ip -4", words, difference, announce=(name, address.partition("/")[0]))
    for address in sorted(have.addresses - leg.addresses):
        yield Step("space ip -4", f"address del {address} dev {name}", _differs(name, "address", None, address))


def _ip(thing: Route | Rule) -> Place:
    return "space ip -4" if thing.version == 4 else "space ip -6"


def _route(route: Route, *, missing: bool) -> Difference:
    return _differs(route.device, "route", route.words if missing else None, None if missing else route.words)


def _rule(rule: Rule, *, missing: bool) -> Difference:
    return _differs("rule", "rule", rule.words if missing else None, None if missing else rule.words)


def _differs(device: str, attribute: str, desired: Any, actual: Any) -> Difference:
    return Difference(device=device, attribute=attribute, desired=desired, actual=actual)
