"""What a service instance has in the kernel: a network namespace, its legs, addresses, routes. Plain values, no I/O."""

import zlib
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

from viaduct_common.messages.services.specs import Leg
from viaduct_common.naming import service_device_name, service_leg_name

INSIDE = "inside"  # the leg in the L3 network that is served
MAIN = 254  # RT_TABLE_MAIN
Version = Literal[4, 6]
_FIRST_INDEX = 1 << 30  # far above those that a host counts up to


@dataclass(frozen=True, slots=True)
class WantedLeg:
    """A veth pair: `outer` on the host's bridge, `inner` in the namespace.

    With `prefix_routes` the kernel makes the routes of `addresses` (each with its prefix length); without, those are
    in a routing table of the leg's own, so that several legs can be in one network.
    """

    outer: str
    inner: str
    bridge: str
    mac: str
    mtu: int
    addresses: frozenset[str]
    vlan: int | None = None
    openvswitch: bool = False
    prefix_routes: bool = True

    @property
    def index(self) -> int:
        """The inner end's. The kernel tells a pair at once that it is connected, but for one whose ends happen to have
        the same index, in their two namespaces: that may drop what it is given for a second (net/core/link_watch.c).
        Linux 6.1 does not heed it."""
        return _FIRST_INDEX | (zlib.crc32(self.mac.encode()) & _FIRST_INDEX - 1)


@dataclass(frozen=True, slots=True)
class Route:
    """`destination` is a network or `default`; without `via` it is on the link."""

    version: Version
    destination: str
    device: str
    via: str | None = None
    table: int = MAIN

    @property
    def words(self) -> str:
        via = "" if self.via is None else f" via {self.via}"
        link = "" if self.via is None else " onlink"
        return f"{self.destination}{via} dev {self.device}{link} table {self.table} proto static"


@dataclass(frozen=True, slots=True)
class Rule:
    """Which routing table a packet goes by; `source` and `target` are networks or addresses."""

    version: Version
    priority: int
    table: int
    source: str | None = None
    target: str | None = None
    mark: int | None = None

    @property
    def words(self) -> str:
        words = [f"pref {self.priority}"]
        words += [] if self.source is None else [f"from {self.source}"]
        words += [] if self.target is None else [f"to {self.target}"]
        words += [] if self.mark is None else [f"fwmark {self.mark:#x}"]
        return " ".join([*words, f"lookup {self.table}"])


# The kernel's own rules, without which nobody looks into the main table.
MAIN_RULES = frozenset({Rule(4, 32766, MAIN), Rule(6, 32766, MAIN)})


@dataclass(frozen=True, slots=True)
class Space:
    """The whole of it. `name` is the namespace's, and holds the instance's uuid; `mark` is the legs' alias."""

    uuid: UUID
    name: str
    mark: str
    legs: tuple[WantedLeg, ...]
    routes: frozenset[Route] = frozenset()
    rules: frozenset[Rule] = MAIN_RULES
    sysctls: tuple[tuple[str, str], ...] = field(default=())


def wanted_leg(service: UUID, leg: Leg, inner: str | None = None, *, prefix_routes: bool = True) -> WantedLeg:
    """One leg of the spec; `inner` is derived from its MAC if it is not given."""
    return WantedLeg(
        outer=service_device_name(service, leg.mac),
        inner=inner or service_leg_name(leg.mac),
        bridge=leg.port.bridge,
        mac=leg.mac,
        mtu=leg.mtu,
        addresses=frozenset(map(str, leg.addresses)),
        vlan=leg.port.vlan,
        openvswitch=leg.port.virtual_port == "openvswitch",
        prefix_routes=prefix_routes,
    )
