"""Reading what makes devices the host's own way out; blocking, for the worker thread."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from viaduct_agent.links import inet, requests
from viaduct_agent.links.addresses import NOTHING, Address, Inet, Thing, by_rank, without_implied
from viaduct_agent.links.dialogue import Dialogue
from viaduct_agent.links.model import Link

_FEW = 4


def inet_of(dialogue: Dialogue, links: Iterable[Link]) -> dict[int, Inet]:
    """By index. Raises `KernelError`."""
    names = {link.index: link.name for link in links}
    if not names:
        return {}
    by_rules: set[str] = set()
    for body in dialogue.dump(inet.dump_rules()):
        by_rules |= inet.parse_rule_devices(body)
    addresses: defaultdict[int, list[Address]] = defaultdict(list)
    routes: defaultdict[int, list[inet.RawRoute]] = defaultdict(list)
    # Three dumps for each of a few devices, or three for the whole host.
    for asked in [0] if len(names) > _FEW else names:
        for body in dialogue.dump(requests.dump_addresses(asked)):
            for index, address in _address(body, names):
                addresses[index].append(address)
        for version in (4, 6):
            for body in dialogue.dump(inet.dump_routes(asked, version)):
                for raw in inet.parse_routes(body):
                    if raw.index in names:  # filters of dumps are ignored by old kernels
                        routes[raw.index].append(raw)
    some = addresses.keys() | routes.keys()
    return {
        index: _one(addresses[index], routes[index], name, by_rules) if index in some or name in by_rules else NOTHING
        for index, name in names.items()
    }


def _one(addresses: list[Address], routes: list[inet.RawRoute], name: str, by_rules: set[str]) -> Inet:
    things: list[Thing] = [*addresses, *(raw.route for raw in routes)]
    kept = without_implied(things)
    obstacles = [raw.obstacle for raw in routes if raw.obstacle is not None and raw.route in kept]
    if name in by_rules:
        obstacles.append(f"a rule of policy routing names {name} (ip-rule(8))")
    return Inet(by_rank(kept), tuple(dict.fromkeys(obstacles)))


def _address(body: bytes, names: Mapping[int, str]) -> Iterator[tuple[int, Address]]:
    index = inet.index_of_address(body)
    if index in names:
        found = inet.parse_thing(body, names[index])
        if found is not None:
            yield found
