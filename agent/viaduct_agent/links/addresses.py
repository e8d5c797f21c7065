"""What makes a device the host's own way out: its addresses and routes, and how they go from one device to another.

Plain values, as ip-address(8) and ip-route(8) show them; numbers are those of `linux/if_addr.h`, `linux/rtnetlink.h`.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

SCOPE_LINK, SCOPE_HOST = 253, 254
NODAD, NOPREFIXROUTE = 0x02, 0x200
# Flags that are somebody's choice: nodad, home, mngtmpaddr, noprefixroute, autojoin. The others tell a state.
KEPT_FLAGS = NODAD | 0x10 | 0x100 | NOPREFIXROUTE | 0x400
_FLAG_WORDS = {0x02: "nodad", 0x10: "home", 0x100: "mngtmpaddr", 0x200: "noprefixroute", 0x400: "autojoin"}
PROTO_KERNEL_RA = 2  # of an address (IFA_PROTO): made by the kernel from a router advertisement
RT_KERNEL, RT_BOOT, _RT_RA = 2, 3, 9
MAIN_TABLE, UNICAST = 254, 1
_SCOPE_WORDS = {0: "global", 200: "site", SCOPE_LINK: "link", SCOPE_HOST: "host", 255: "nowhere"}
_KIND_WORDS = {1: "unicast", 2: "local", 3: "broadcast", 4: "anycast", 5: "multicast"}
_METRIC_WORDS = {
    2: "mtu", 3: "window", 4: "rtt", 5: "rttvar", 6: "ssthresh", 7: "cwnd", 8: "advmss", 9: "reordering",
    10: "hoplimit", 11: "initcwnd", 12: "features", 13: "rto_min", 14: "initrwnd", 15: "quickack", 16: "congctl",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Address:
    """One address of a device. `label` is None where it is the device's name, `metric` that of its prefix route.

    The seconds (None: for ever) pass by themselves, so they are no part of what makes two addresses equal.
    """

    local: str
    prefix: int
    peer: str | None = None
    broadcast: str | None = None
    scope: int = 0
    label: str | None = None
    flags: int = 0
    metric: int = 0
    protocol: int = 0
    valid_seconds: int | None = field(default=None, compare=False)
    preferred_seconds: int | None = field(default=None, compare=False)

    @property
    def version(self) -> int:
        return 6 if ":" in self.local else 4

    @property
    def is_link_local(self) -> bool:
        """Of IPv6: every device has one, and keeps it."""
        return self.version == 6 and self.scope == SCOPE_LINK

    @property
    def text(self) -> str:
        return f"{self.local}/{self.prefix}"

    @property
    def subnet(self) -> str:
        """What the kernel makes a route for."""
        return str(ipaddress.ip_interface(f"{self.peer or self.local}/{self.prefix}").network)

    def words(self, device: str) -> str:
        words = [f"{self.local} peer {self.peer}/{self.prefix}" if self.peer else self.text, "dev", device]
        if self.broadcast:
            words.append(f"broadcast {self.broadcast}")
        if self.scope:
            words.append(f"scope {_SCOPE_WORDS.get(self.scope, self.scope)}")
        if self.label:
            words.append(f"label {self.label}")
        if self.metric:
            words.append(f"metric {self.metric}")
        words += [word for flag, word in _FLAG_WORDS.items() if self.flags & flag]
        if self.version == 6 and not self.flags & NODAD:
            words.append("nodad")  # set while it is added, see `inet`
        if self.valid_seconds is not None:
            words.append(f"valid_lft {self.valid_seconds}")
        if self.preferred_seconds is not None:
            words.append(f"preferred_lft {self.preferred_seconds}")
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class Route:
    """One route over a device, with one next hop at most. `to` and `origin` are subnets, `origin` that of a
    source-specific route; `metrics` are (RTAX number, value). `expires_seconds` is no part of what makes two equal."""

    to: str
    via: str | None = None
    table: int = MAIN_TABLE
    metric: int = 0
    protocol: int = RT_BOOT
    scope: int = 0
    kind: int = UNICAST
    source: str | None = None
    tos: int = 0
    onlink: bool = False
    origin: str | None = None
    preference: int | None = None
    realm: int = 0
    metrics: tuple[tuple[int, int | str], ...] = ()
    expires_seconds: int | None = field(default=None, compare=False)

    @property
    def version(self) -> int:
        return 6 if ":" in self.to else 4

    @property
    def is_default(self) -> bool:
        return self.to.endswith("/0") and self.kind == UNICAST and self.origin is None

    @property
    def is_multicast(self) -> bool:
        return ipaddress.ip_network(self.to).is_multicast

    def words(self, device: str) -> str:
        words = [self.to] if self.kind == UNICAST else [_KIND_WORDS.get(self.kind, str(self.kind)), self.to]
        if self.origin:
            words.append(f"from {self.origin}")
        if self.tos:
            words.append(f"tos {self.tos}")
        if self.via:
            family = "" if (":" in self.via) == (self.version == 6) else "inet6 " if ":" in self.via else "inet "
            words.append(f"via {family}{self.via}")
        words.append(f"dev {device}")
        if self.table != MAIN_TABLE:
            words.append(f"table {self.table}")
        if self.metric:
            words.append(f"metric {self.metric}")
        if self.protocol != RT_BOOT:
            words.append(f"proto {self.protocol}")
        if self.version == 4 and self.scope:
            words.append(f"scope {_SCOPE_WORDS.get(self.scope, self.scope)}")
        if self.source:
            words.append(f"src {self.source}")
        if self.realm:
            words.append(f"realm {self.realm}")
        if self.onlink:
            words.append("onlink")
        words += [f"{_METRIC_WORDS.get(number, number)} {value}" for number, value in self.metrics if number != 1]
        if self.expires_seconds is not None:
            words.append(f"expires {self.expires_seconds}")
        return " ".join(words)


Thing: TypeAlias = Address | Route


@dataclass(frozen=True, slots=True)
class Inet:
    """The addresses and routes of a device, in the kernel's order, routes that come and go with an address left out.
    `obstacles` say why they cannot be moved, each in one sentence."""

    things: tuple[Thing, ...] = ()
    obstacles: tuple[str, ...] = ()

    @property
    def own(self) -> tuple[Thing, ...]:
        """What the host has of its own here: all but the link-local addresses of IPv6."""
        return tuple(thing for thing in self.things if thing not in self.link_local)

    @property
    def link_local(self) -> tuple[Address, ...]:
        return tuple(thing for thing in self.things if isinstance(thing, Address) and thing.is_link_local)

    @property
    def texts(self) -> tuple[str, ...]:
        """Addresses of global scope, as `address/prefix`."""
        return tuple(sorted(thing.text for thing in self.things if isinstance(thing, Address) and not thing.scope))

    @property
    def gateways(self) -> frozenset[str]:
        """The next hop of each default route."""
        return frozenset(
            thing.via for thing in self.things if isinstance(thing, Route) and thing.is_default and thing.via
        )

    def plus(self, thing: Thing) -> "Inet":
        """As the kernel orders them: of addresses of IPv4 and routes of IPv6 the last one comes last, of the others
        first."""
        if thing in self.things:
            return self
        rank = _rank(thing)
        position = sum(_rank(other) < rank + int(rank in _LAST_COMES_LAST) for other in self.things)
        return Inet((*self.things[:position], thing, *self.things[position:]), self.obstacles)

    def minus(self, thing: Thing) -> "Inet":
        return Inet(tuple(other for other in self.things if other != thing), self.obstacles)


NOTHING = Inet()
_ADDRESS4, _ADDRESS6, _ROUTE4, _ROUTE6 = range(4)
_LAST_COMES_LAST = {_ADDRESS4, _ROUTE6}


def _rank(thing: Thing) -> int:
    if isinstance(thing, Address):
        return _ADDRESS4 if thing.version == 4 else _ADDRESS6
    return _ROUTE4 if thing.version == 4 else _ROUTE6


def by_rank(things: Iterable[Thing]) -> tuple[Thing, ...]:
    """Addresses before routes, IPv4 before IPv6, else in the order given."""
    return tuple(sorted(things, key=_rank))


def in_order(things: Iterable[Thing]) -> tuple[Thing, ...]:
    """In the order of adding that makes the kernel show them in the order given; the reverse is that of taking away.

    Addresses before routes, and next hops that are on the link before those that are found through them. Of IPv4 the
    first address of a subnet is its primary one, and takes the others with it when it goes (ip-sysctl.rst,
    promote_secondaries).
    """
    ranked = by_rank(things)
    first_to_last = [thing for thing in ranked if _rank(thing) in _LAST_COMES_LAST]
    last_to_first = [thing for thing in reversed(ranked) if _rank(thing) not in _LAST_COMES_LAST]
    return tuple(sorted([*first_to_last, *last_to_first], key=_stage))


def _stage(thing: Thing) -> tuple[bool, bool]:
    return isinstance(thing, Route), isinstance(thing, Route) and thing.via is not None


def without_implied(things: Iterable[Thing]) -> tuple[Thing, ...]:
    """Leave out what the kernel makes by itself for an address, and takes away with it."""
    found = tuple(things)
    addresses = [thing for thing in found if isinstance(thing, Address)]
    return tuple(thing for thing in found if isinstance(thing, Address) or not _is_implied(thing, addresses))


def _is_implied(route: Route, addresses: list[Address]) -> bool:
    if route.protocol != RT_KERNEL or route.via is not None:
        return False
    if route.kind != UNICAST or route.to == "fe80::/64" or route.is_multicast:
        return True
    return any(
        address.version == route.version and address.subnet == route.to and not address.flags & NOPREFIXROUTE
        and (address.valid_seconds is None or from_router(address))  # others of IPv6 outlive their address
        and route.metric == (address.metric or (256 if route.version == 6 else 0))
        for address in addresses
    )  # fmt: skip


def renewed(thing: Thing) -> bool:
    """Whether a program gave it for a time and will renew it on the device where it put it: a DHCP client."""
    return isinstance(thing, Address) and thing.valid_seconds is not None and not from_router(thing)


def from_router(thing: Thing) -> bool:
    """Whether the kernel made it from router advertisements. It cannot be moved: the kernel would take the route for
    somebody else's, and no more advertisements because of it (net/ipv6/ndisc.c, ndisc_router_discovery)."""
    return thing.protocol == (_RT_RA if isinstance(thing, Route) else PROTO_KERNEL_RA)
