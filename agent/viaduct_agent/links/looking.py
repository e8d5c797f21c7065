"""Reading what a `Look` asks for; blocking, for the worker thread."""

import socket
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

from viaduct_agent.links import parse, parse_entries, requests
from viaduct_agent.links.dialogue import Dialogue
from viaduct_agent.links.entries import Entry
from viaduct_agent.links.inetlook import inet_of
from viaduct_agent.links.kernel import Look
from viaduct_agent.links.kinds import BRIDGE
from viaduct_agent.links.model import Link
from viaduct_agent.links.parse_entries import Wanted
from viaduct_agent.links.rawlink import RawLink
from viaduct_agent.links.table import LinkTable
from viaduct_common.naming import MAX_NAME

Request: TypeAlias = Callable[[int], bytearray]
Parser: TypeAlias = Callable[[list[bytes], Wanted], Iterator[tuple[int, Entry]]]
# A dump of one device is a request, too: beyond this many it is cheaper to read all and leave the rest.
_SINGLE_DUMPS = 4


def look_at(dialogue: Dialogue, look: Look) -> LinkTable:
    """Raises `KernelError`."""
    found = {item.link.index: item for item in _dump_links(dialogue)} if look.names is None else {}
    if look.names is not None:
        _add_named(dialogue, look.names, found)
    addresses = _addresses(dialogue, look, found)
    _add_by_index(dialogue, addresses.keys(), found)
    inet = inet_of(dialogue, _among(found, look.inet_of))
    entries = _entries(dialogue, _among(found, look.entries_of))
    names = {index: item.link.name for index, item in found.items()}
    return LinkTable(
        item.shown(
            names.get(item.master_index),
            names.get(item.parent_index),
            addresses.get(index),
            inet.get(index),
            entries.get(index),
        )
        for index, item in found.items()
    )


def _among(found: dict[int, RawLink], names: frozenset[str]) -> list[Link]:
    return [item.link for item in found.values() if item.link.name in names] if names else []


def _add_named(dialogue: Dialogue, names: frozenset[str], found: dict[int, RawLink]) -> None:
    """The named links, then their masters and parents, then the ports of the bridges: costs nothing for links that do
    not matter, however many the host has."""
    fitting = [name for name in sorted(names) if 0 < len(name) <= MAX_NAME]  # no link has a longer one
    _add(found, dialogue.ask([requests.get(name, 0) for name in fitting]))
    missing = {item.master_index for item in found.values()} | {item.parent_index for item in found.values()}
    _add_by_index(dialogue, missing, found)
    for bridge in [item.link for item in found.values() if item.link.kind == BRIDGE and item.link.name in names]:
        found.update({item.link.index: item for item in _dump_links(dialogue, master=bridge.index)})


def _add_by_index(dialogue: Dialogue, indexes: Iterable[int], found: dict[int, RawLink]) -> None:
    missing = sorted(set(indexes) - found.keys() - {0})
    _add(found, dialogue.ask([requests.get(None, index) for index in missing]))


def _add(found: dict[int, RawLink], answers: list[list[bytes]]) -> None:
    for bodies in answers:
        for body in bodies:
            item = parse.parse_link(body)
            found[item.link.index] = item


def _dump_links(dialogue: Dialogue, master: int = 0) -> list[RawLink]:
    found = dialogue.digest(requests.dump(master), lambda bodies: map(parse.parse_link, bodies))
    # Filters of dumps are ignored by old kernels: filter again.
    return [item for item in found if not master or item.master_index == master]


def _addresses(dialogue: Dialogue, look: Look, found: dict[int, RawLink]) -> dict[int, tuple[str, ...]]:
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


def _entries(dialogue: Dialogue, links: list[Link]) -> dict[int, Sequence[Entry]]:
    """By index, of each of the links."""
    found: defaultdict[int, list[Entry]] = defaultdict(list)
    bridges = Wanted(link.index for link in links if link.kind == BRIDGE)
    others = Wanted(link.index for link in links if link.kind != BRIDGE)
    for index, entry in _dumped(dialogue, requests.dump_forwarding, parse_entries.forwardings, others):
        found[index].append(entry)
    for index, entry in _dumped(dialogue, requests.dump_neighbours, parse_entries.neighbours, bridges):
        found[index].append(entry)
    if any(link.option("vlan_filtering") for link in links if link.kind == BRIDGE):
        for body in dialogue.dump(requests.dump_vlans()):
            index, vlans = parse_entries.parse_vlans(body)
            found[index] += vlans
    return {link.index: found.get(link.index, ()) for link in links}


def _dumped(dialogue: Dialogue, request: Request, parsed: Parser, wanted: Wanted) -> Iterator[tuple[int, Entry]]:
    for index in [0] if len(wanted.indexes) > _SINGLE_DUMPS else sorted(wanted.indexes):
        yield from dialogue.digest(request(index), lambda bodies: parsed(bodies, wanted))
