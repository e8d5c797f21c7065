"""A connection tracking zone for each bridge, so that equal addresses in different networks are different."""

import hashlib
from collections.abc import Iterable, Mapping

_ZONES = 0xFFFF  # 16 bits; 0 is everybody's


def assign(bridges: Iterable[str], known: Mapping[str, int]) -> dict[str, int]:
    """A bridge keeps its zone while it has one, for its connections are in it; a new one's follows from its name.

    >>> assign(["br1"], {"br1": 7, "br0": 8})
    {'br1': 7}
    """
    wanted = sorted(bridges)
    zones = {name: known[name] for name in wanted if name in known}
    taken = set(zones.values())
    for name in wanted:
        if name in zones:
            continue
        start = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
        zone = next(zone for offset in range(_ZONES) if (zone := 1 + (start + offset) % _ZONES) not in taken)
        zones[name] = zone
        taken.add(zone)
    return zones
