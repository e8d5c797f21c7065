"""Reading what a `Look` asks for; blocking, for the worker thread."""

import socket
from collections import defaultdict
from collections.abc import Callable, Iterable

from viaduct_agent.links import parse, parse_entries, requests
from viaduct_agent.links.addresses import Inet
from viaduct_agent.links.dialogue import Dialogue
from viaduct_agent.links.entries import Entry
from viaduct_agent.links.inetlook import inet_of
from viaduct_agent.links.kernel import Look
from viaduct_agent.links.kinds import BRIDGE
from viaduct_agent.links.model import Link, with_values
from viaduct_agent.links.table import LinkTable
from viaduct_common.naming import MAX_NAME

# A dump of one device is a request, too: beyond this many it is cheaper to read all and leave the rest.
_SINGLE_DUMPS = 4


def look_at(dialogue: Dialogue, look: Look) -> LinkTable:
    """Raises `KernelError`."""
    found = {item.link.index: item for item in _dump_links(dialogue)} if look.names is None else {}
    if look.names is not None:
        _add_named(dialogue, look.names, found)
    addresses = _addresses(dialogue, look, found)
    _add_by_index(dialogue, addresses.keys(), found)
    names = {index: item.link.name for index, item in found.items()}
    links = [_named(item, names, addresses) for item in found.values()]
    if look.inet_of:
        own = inet_of(dialogue, [link for link in links if link.name in look.inet_of])
        links = [_with_inet(link, own[link.index]) if link.index in own else link for link in links]
    entries = _entries(dialogue, [link for link in links if link.name in look.entries_of])
    return LinkTable(
        with_values(link, entries=frozenset(entries[link.index])) if link.name in look.entries_of else link
        for link in links
    )


def _with_inet(link: Link, own: Inet) -> Link:
    return with_values(link, inet=own, addresses=own.texts)


def _named(item: parse.RawLink, names: dict[int, str], addresses: dict[int, tuple[str, ...]]) -> Link:
    master, parent = names.get(item.master_index), names.get(item.parent_index)
    own = addresses.get(item.link.index)
    link = item.named(master, parent)
    return link if own is None else with_values(link, addresses=own)


def _add_named(dialogue: Dialogue, names: frozenset[str], found: dict[int, parse.RawLink]) -> None:
    """The named links, then their masters and parents, then the ports of the bridges: costs nothing for links that do
    not matter, however many the host has."""
    fitting = [name for name in sorted(names) if 0 < len(name) <= MAX_NAME]  # no link has a longer one
    _add(found, dialogue.ask([requests.get(name, 0) for name in fitting]))
    missing = {item.master_index for item in found.values()} | {item.parent_index for item in found.values()}
    _add_by_index(dialogue, missing, found)
    for bridge in [item.link for item in found.values() if item.link.kind == BRIDGE and item.link.name in names]:
        found.update({item.link.index: item for item in _dump_links(dialogue, master=bridge.index)})


def _add_by_index(dialogue: Dialogue, indexes: Iterable[int], found: dict[int, parse.RawLink]) -> None:
    missing = sorted(set(indexes) - found.keys() - {0})
    _add(found, dialogue.ask([requests.get(None, index) for index in missing]))


def _add(found: dict[int, parse.RawLink], answers: list[list[bytes]]) -> None:
    for bodies in answers:
        for body in bodies:
            item = parse.parse_link(body)
            found[item.link.index] = item


def _dump_links(dialogue: Dialogue, master: int = 0) -> list[parse.RawLink]:
    found = [parse.parse_link(body) for body in dialogue.dump(requests.dump(master))]
    # Filters of dumps are ignored by old kernels: filter again.
    return [item for item in found if not master or item.master_index == master]


def _addresses(dialogue: Dialogue, look: Look, found: dict[int, parse.RawLink]) -> dict[int, tuple[str, ...]]:
    """By index: of the links that were asked about, and of those that have one of the addresses."""
    asked = [item.link.index for item in found.values() if item.link.name in look.addresses_of]
    if look.carriers_of:
        versions = {":" in address for address in look.carriers_of}
        families = [socket.AF_INET6 if is_v6 else socket.AF_INET for is_v6 in versions]
        bodies = [body for family in families for body in dialogue.dump(requests.dump_addresses(0, family))]
        carriers = {
            item[0] for item in map(parse.parse_address, bodies)
            if item is not None and item[1].partition("/")[0] in look.carriers_of
        }  # fmt: skip
        asked += sorted(carriers - set(asked))
    result: dict[int, list[str]] = {index: [] for index in asked}
    for index in [0] if len(asked) > _SINGLE_DUMPS else asked:
        for item in map(parse.parse_address, dialogue.dump(requests.dump_addresses(index))):
            if item is not None and item[0] in result:
                result[item[0]].append(item[1])
    return {index: tuple(sorted(texts)) for index, texts in result.items()}


def _entries(dialogue: Dialogue, links: list[Link]) -> defaultdict[int, set[Entry]]:
    entries: defaultdict[int, set[Entry]] = defaultdict(set)
    if not links:
        return entries
    bridges = [link.index for link in links if link.kind == BRIDGE]
    others = [link.index for link in links if link.kind != BRIDGE]
    filtering = any(link.option("vlan_filtering") for link in links if link.kind == BRIDGE)
    for index, entry in _dumped(dialogue, requests.dump_forwarding, parse_entries.parse_forwarding, others):
        entries[index].add(entry)
    for index, entry in _dumped(dialogue, requests.dump_neighbours, parse_entries.parse_neighbour, bridges):
        entries[index].add(entry)
    if filtering:
        wanted = {link.index for link in links}
        for body in dialogue.dump(requests.dump_vlans()):
            index, vlans = parse_entries.parse_vlans(body)
            if index in wanted:
                entries[index] |= vlans
    return entries


def _dumped(
    dialogue: Dialogue,
    request: Callable[[int], bytearray],
    parsed: Callable[[bytes], tuple[int, Entry] | None],
    indexes: list[int],
) -> Iterable[tuple[int, Entry]]:
    wanted = set(indexes)
    asked = [0] if len(indexes) > _SINGLE_DUMPS else indexes
    for index in asked:
        for body in dialogue.dump(request(index)):
            item = parsed(body)
            if item is not None and item[0] in wanted:
                yield item
