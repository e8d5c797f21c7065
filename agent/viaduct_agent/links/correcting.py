"""Addresses of IPv6 that were added without the detection of duplicates get the flags that they should have; blocking,
for the worker thread."""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping

from viaduct_agent.links import inet, requests
from viaduct_agent.links.addresses import NODAD, Address
from viaduct_agent.links.dialogue import Dialogue
from viaduct_agent.links.model import AddEntry, Step

_ATTEMPTS = 200
_PAUSE_SECONDS = 0.005


def correct_flags(dialogue: Dialogue, done: Iterable[Step], indexes: Mapping[str, int]) -> None:
    """Only when the kernel uses them: it looks at the flag a moment after the addition, in a work of its own, and would
    find it taken away. One that it does not use in a second keeps the flag; nothing but the flag depends on it."""
    wanted: defaultdict[int, list[Address]] = defaultdict(list)
    for step in done:
        match step:
            case AddEntry(device, Address(flags=flags) as address) if address.version == 6 and not flags & NODAD:
                if device in indexes:
                    wanted[indexes[device]].append(address)
    for index, addresses in wanted.items():
        _correct(dialogue, index, addresses)


def _correct(dialogue: Dialogue, index: int, addresses: list[Address]) -> None:
    for _ in range(_ATTEMPTS):
        found = inet.in_use(dialogue.dump(requests.dump_addresses(index)))
        if all(found.get(address.local, True) for address in addresses):
            break
        time.sleep(_PAUSE_SECONDS)
    ready = [address for address in addresses if found.get(address.local)]
    dialogue.tell([inet.correction(index, address) for address in ready])
