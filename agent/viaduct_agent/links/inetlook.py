"""Reading what makes devices the host's own way out; blocking, for the worker thread."""

import ipaddress
from collections.abc import Iterable, Iterator
from pathlib import Path

from viaduct_agent.links import inet, requests
from viaduct_agent.links.addresses import TEMPORARY, Address, Inet, Thing, by_rank, from_router, without_implied
from viaduct_agent.links.dialogue import Dialogue
from viaduct_agent.links.kinds import BRIDGE
from viaduct_agent.links.model import Link

# Of the thread's own network namespace (proc_sys(5)).
_IPV6 = Path("/proc/sys/net/ipv6/conf")
# A device that hears router advertisements other than by these takes other addresses and routes from them.
_ROUTER_SETTINGS = ("accept_ra", "forwarding", "autoconf", "accept_ra_defrtr", "accept_ra_pinfo")


def inet_of(dialogue: Dialogue, links: Iterable[Link]) -> dict[int, Inet]:
    """By index. Raises `KernelError`."""
    wanted = list(links)
    if not wanted:
        return {}
    by_rules: set[str] = set()
    for body in dialogue.dump(inet.dump_rules()):
        by_rules |= inet.parse_rule_devices(body)
    return {link.index: _one(dialogue, link, by_rules) for link in wanted}


def _one(dialogue: Dialogue, link: Link, by_rules: set[str]) -> Inet:
    addresses = list(_addresses(dialogue, link))
    routes = [
        raw
        for version in (4, 6)
        for body in dialogue.dump(inet.dump_routes(link.index, version))
        for raw in inet.parse_routes(body)
        if raw.index == link.index  # filters of dumps are ignored by old kernels
    ]
    things: list[Thing] = [*addresses, *(raw.route for raw in routes)]
    kept = without_implied(things)
    obstacles = [raw.obstacle for raw in routes if raw.obstacle is not None and raw.route in kept]
    if link.name in by_rules:
        obstacles.append(f"a rule of policy routing names {link.name} (ip-rule(8))")
    if link.kind != BRIDGE and from_router(kept):
        obstacles += _deaf_to_routers(link.name)
        obstacles += [
            f"routers configure it, and {address.local} is not made of its MAC: the bridge would take another"
            for address in from_router(addresses)
            if isinstance(address, Address) and not address.flags & TEMPORARY and not _is_of_mac(address, link.mac)
        ]
    return Inet(by_rank(kept), tuple(dict.fromkeys(obstacles)))


def _addresses(dialogue: Dialogue, link: Link) -> Iterator[Address]:
    for body in dialogue.dump(requests.dump_addresses(link.index)):
        found = inet.parse_thing(body, link.name)
        if found is not None and found[0] == link.index:
            yield found[1]


def _deaf_to_routers(name: str) -> list[str]:
    """Settings that a new bridge would not have: the agent's unit cannot write them."""
    found = []
    for setting in _ROUTER_SETTINGS:
        its, usual = _setting(name, setting), _setting("default", setting)
        if its != usual:
            its_bridges = f"while net.ipv6.conf.default.{setting}, which its bridge gets, is {usual}"
            found.append(f"routers configure it, and net.ipv6.conf.{name}.{setting} is {its}, {its_bridges}")
    return found


def _is_of_mac(address: Address, mac: str | None) -> bool:
    """RFC 4291, appendix A."""
    raw = bytes.fromhex((mac or "").replace(":", ""))
    identifier = bytes([raw[0] ^ 2, *raw[1:3], 0xFF, 0xFE, *raw[3:]]) if raw else b""
    return ipaddress.IPv6Address(address.local).packed[8:] == identifier


def _setting(name: str, setting: str) -> str | None:
    try:
        return (_IPV6 / name / setting).read_text(encoding="ascii").strip()
    except OSError:
        return None
