"""By which leg a packet leaves: a routing table for each outside leg, and the rules that choose one. Pure.

Each table has what is on the leg's own link, and its default route. A NIC with a public address goes by the table of
the leg that has the address; an answer by that of the leg that was asked (its mark); all else by the main table.
"""

import zlib
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_interface

from viaduct_agent.services.space import MAIN, MAIN_RULES, Route, Rule, Version, WantedLeg
from viaduct_common.errors import InvalidRequest
from viaduct_common.messages.services.specs import EipRule, Leg

Address = IPv4Address | IPv6Address
_TO_INSIDE, _BY_MARK, _BY_SOURCE = 1000, 1100, 1200
_OWN_TABLES = 0x10000  # above those that have names


def table_of(mac: str) -> int:
    """The leg's routing table, which is its mark as well: the same whatever other legs there are."""
    return _OWN_TABLES | (zlib.crc32(mac.encode()) & 0x7FFFFFFF)


def leg_with(address: Address, legs: Iterable[Leg], field: str) -> Leg:
    """Raises InvalidRequest if no leg has the address."""
    for leg in legs:
        if any(own.ip == address for own in leg.addresses):
            return leg
    raise InvalidRequest.of_field(field, f"{address} is an address of no outside leg")


def leg_routes(leg: Leg, device: str) -> list[Route]:
    """Those in the leg's own table."""
    table = table_of(leg.mac)
    return [*_links(leg, device, table), *_defaults(leg, device, table)]


def main_routes(legs: Sequence[tuple[Leg, str]], preferred: Sequence[Address]) -> list[Route]:
    """Those of the main table: every link, and by version the default route of the leg that has a preferred address,
    or of the first that has one at all."""
    routes = [route for leg, device in legs for route in _links(leg, device, MAIN)]
    first = sorted(legs, key=lambda pair: not any(own.ip in preferred for own in pair[0].addresses))
    taken: set[Version] = set()
    for leg, device in first:
        for route in _defaults(leg, device, MAIN):
            if route.version not in taken:
                taken.add(route.version)
                routes.append(route)
    return routes


def rules(inside: WantedLeg, legs: Sequence[Leg], eips: Sequence[EipRule], *, marked: bool) -> list[Rule]:
    """Which table when."""
    found = [*MAIN_RULES]
    for address in inside.addresses:
        network = ip_interface(address).network
        found.append(Rule(_version(network), _TO_INSIDE, MAIN, target=str(network)))
    for leg in legs:
        table = table_of(leg.mac)
        versions = {_version(own) for own in leg.addresses}
        if marked:
            found += [Rule(version, _BY_MARK, table, mark=table) for version in versions]
        found += [Rule(_version(own), _BY_SOURCE, table, source=str(own.ip)) for own in leg.addresses]
    for eip in eips:
        leg = leg_with(eip.public_ip, legs, "eips")
        found.append(Rule(_version(eip.private_ip), _BY_SOURCE, table_of(leg.mac), source=str(eip.private_ip)))
    return found


def _links(leg: Leg, device: str, table: int) -> list[Route]:
    networks = {own.network for own in leg.addresses if own.network.prefixlen < own.max_prefixlen}
    return [Route(_version(network), str(network), device, table=table) for network in networks]


def _defaults(leg: Leg, device: str, table: int) -> list[Route]:
    return [Route(_version(gateway), "default", device, str(gateway), table) for gateway in leg.gateways]


def _version(thing: object) -> Version:
    return 6 if ":" in str(thing) else 4
