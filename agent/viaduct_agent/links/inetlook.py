"""Reading what makes devices the host's own way out; blocking, for the worker thread."""

from collections.abc import Iterable, Iterator

from viaduct_agent.links import inet, requests
from viaduct_agent.links.addresses import Address, Inet, Thing, by_rank, without_implied
from viaduct_agent.links.dialogue import Dialogue
from viaduct_agent.links.model import Link


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
    return Inet(by_rank(kept), tuple(dict.fromkeys(obstacles)))


def _addresses(dialogue: Dialogue, link: Link) -> Iterator[Address]:
    for body in dialogue.dump(requests.dump_addresses(link.index)):
        found = inet.parse_thing(body, link.name)
        if found is not None and found[0] == link.index:
            yield found[1]
