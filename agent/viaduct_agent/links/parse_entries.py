"""Raw rtnetlink answers about what hangs on a device: forwarding entries, neighbours, VLANs of a bridge's port.

Numbers are those of the kernel's `linux/neighbour.h` and `linux/if_bridge.h`.
"""

import ipaddress
import struct
from collections.abc import Iterable, Iterator
from functools import lru_cache

from viaduct_agent.links.entries import Entry, Forwarding, Member, Neighbour
from viaduct_agent.links.parse import attributes, number

_NDMSG = struct.Struct("=BxHiHBB")
_INDEX = struct.Struct("=i")  # as it stands in the latter, from the fifth byte on
_BRVLAN = struct.Struct("=BBHI")
_ATTRIBUTE, _TYPE_MASK = struct.Struct("=HH"), 0x3FFF
_NDA_DST, _NDA_LLADDR = 1, 2
_NTF_SELF = 0x02
_NUD_NOARP, _NUD_PERMANENT = 0x40, 0x80
_BRIDGE_VLANDB_ENTRY, _ENTRY_INFO, _ENTRY_RANGE = 1, 1, 2


class Wanted:
    """Devices that are asked about, of all whose entries a dump tells."""

    def __init__(self, indexes: Iterable[int]) -> None:
        self.indexes = frozenset(indexes)
        self._raw = frozenset(_INDEX.pack(index) for index in self.indexes)

    def among(self, bodies: Iterable[bytes]) -> list[bytes]:
        """Those of the answers that are about them: most are not, and are told before anything else is read."""
        wanted = self._raw
        return [body for body in bodies if body[4:8] in wanted]


def forwardings(bodies: Iterable[bytes], wanted: Wanted) -> Iterator[tuple[int, Entry]]:
    """Interface index and entry of each RTM_NEWNEIGH of family AF_BRIDGE that is of a wanted device and was neither
    learned nor is the port's own address."""
    for body in wanted.among(bodies):
        _, _, index, state, ntf, _ = _NDMSG.unpack_from(body)
        if state & (_NUD_PERMANENT | _NUD_NOARP):
            mac, via = _ends(body)
            if mac and (via or not (state & _NUD_PERMANENT or ntf & _NTF_SELF)):
                yield index, _forwarding(mac, via)


def neighbours(bodies: Iterable[bytes], wanted: Wanted) -> Iterator[tuple[int, Entry]]:
    """Interface index and entry of each RTM_NEWNEIGH that is of a wanted device and was not learned."""
    for body in wanted.among(bodies):
        _, _, index, state, _, _ = _NDMSG.unpack_from(body)
        if state & _NUD_PERMANENT:
            mac, ip = _ends(body)
            if mac and ip:
                yield index, _neighbour(ip, mac)


def parse_neighbour_state(body: bytes) -> int:
    """The `NUD_` state of an RTM_NEWNEIGH."""
    state: int = _NDMSG.unpack_from(body)[3]
    return state


def parse_vlans(body: bytes) -> tuple[int, list[Entry]]:
    """Interface index and VLANs of an RTM_NEWVLAN."""
    _, _, _, index = _BRVLAN.unpack_from(body)
    found: list[Entry] = []
    for kind, raw in attributes(body, _BRVLAN.size, len(body)):
        if kind == _BRIDGE_VLANDB_ENTRY:
            entry = dict(attributes(raw, 0, len(raw)))
            first = struct.unpack_from("=HH", entry[_ENTRY_INFO])[1]
            last = number(entry.get(_ENTRY_RANGE)) or first
            found += _MEMBERS[first : last + 1]
    return index, found


def _ends(body: bytes) -> tuple[bytes, bytes]:
    """NDA_LLADDR and NDA_DST, empty where there is none. `parse.attributes` once more, without what that costs."""
    mac = destination = b""
    start, end = _NDMSG.size, len(body) - 3
    unpack = _ATTRIBUTE.unpack_from
    while start < end:
        length, kind = unpack(body, start)
        if length < 4:
            break
        kind &= _TYPE_MASK
        if kind == _NDA_LLADDR:
            mac = body[start + 4 : start + length]
        elif kind == _NDA_DST:
            destination = body[start + 4 : start + length]
        start += (length + 3) & ~3
    return mac, destination


@lru_cache(maxsize=65_536)
def _forwarding(mac: bytes, via: bytes) -> Forwarding:
    return Forwarding(mac.hex(":"), str(ipaddress.ip_address(via)) if via else None)


@lru_cache(maxsize=65_536)
def _neighbour(ip: bytes, mac: bytes) -> Neighbour:
    return Neighbour(str(ipaddress.ip_address(ip)), mac.hex(":"))


_MEMBERS = tuple(Member(vlan) for vlan in range(4096))  # made once: a trunk has them all
