"""Raw rtnetlink answers about what hangs on a device: forwarding entries, neighbours, VLANs of a bridge's port.

Numbers are those of the kernel's `linux/neighbour.h` and `linux/if_bridge.h`.
"""

import ipaddress
import struct

from viaduct_agent.links.entries import Entry, Forwarding, Member, Neighbour
from viaduct_agent.links.parse import attributes, number

_NDMSG = struct.Struct("=BxHiHBB")
_BRVLAN = struct.Struct("=BBHI")
_NDA_DST, _NDA_LLADDR = 1, 2
_NTF_SELF = 0x02
_NUD_NOARP, _NUD_PERMANENT = 0x40, 0x80
_BRIDGE_VLANDB_ENTRY, _ENTRY_INFO, _ENTRY_RANGE = 1, 1, 2


def parse_forwarding(body: bytes) -> tuple[int, Entry] | None:
    """Interface index and entry of an RTM_NEWNEIGH of family AF_BRIDGE; None for what was learned, or is the port's
    own address."""
    _, _, index, state, ntf, _ = _NDMSG.unpack_from(body)
    found = dict(attributes(body, _NDMSG.size, len(body)))
    if not state & (_NUD_PERMANENT | _NUD_NOARP) or _NDA_LLADDR not in found:
        return None
    mac = found[_NDA_LLADDR].hex(":")
    if _NDA_DST in found:
        return index, Forwarding(mac, str(ipaddress.ip_address(found[_NDA_DST])))
    return None if state & _NUD_PERMANENT or ntf & _NTF_SELF else (index, Forwarding(mac))


def parse_neighbour(body: bytes) -> tuple[int, Entry] | None:
    """Interface index and entry of an RTM_NEWNEIGH; None for what was learned."""
    _, _, index, state, _, _ = _NDMSG.unpack_from(body)
    found = dict(attributes(body, _NDMSG.size, len(body)))
    if not state & _NUD_PERMANENT or not found.get(_NDA_LLADDR) or _NDA_DST not in found:
        return None
    return index, Neighbour(str(ipaddress.ip_address(found[_NDA_DST])), found[_NDA_LLADDR].hex(":"))


def parse_neighbour_state(body: bytes) -> int:
    """The `NUD_` state of an RTM_NEWNEIGH."""
    state: int = _NDMSG.unpack_from(body)[3]
    return state


def parse_vlans(body: bytes) -> tuple[int, frozenset[Entry]]:
    """Interface index and VLANs of an RTM_NEWVLAN."""
    _, _, _, index = _BRVLAN.unpack_from(body)
    found: set[Entry] = set()
    for kind, raw in attributes(body, _BRVLAN.size, len(body)):
        if kind == _BRIDGE_VLANDB_ENTRY:
            entry = dict(attributes(raw, 0, len(raw)))
            first = struct.unpack_from("=HH", entry[_ENTRY_INFO])[1]
            last = number(entry.get(_ENTRY_RANGE)) or first
            found |= {Member(vlan) for vlan in range(first, last + 1)}
    return index, frozenset(found)
