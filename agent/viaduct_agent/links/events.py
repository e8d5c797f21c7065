"""Which device an event of rtnetlink(7) is about, and which events are about anything of ours at all."""

import socket
import struct
from dataclasses import dataclass
from uuid import UUID

from viaduct_agent.links import parse

_RTM_NEWADDR, _RTM_DELADDR = 20, 21
_RTM_NEWNEIGH, _RTM_DELNEIGH = 28, 29
_RTM_NEWVLAN, _RTM_DELVLAN = 112, 113
_NUD_FAILED, _NUD_NOARP, _NUD_PERMANENT = 0x20, 0x40, 0x80
# For IP, a deleted entry is told in the state FAILED, whatever it was (net/core/neighbour.c, neigh_delete).
STATES_OF_IP = _NUD_PERMANENT | _NUD_FAILED
STATES_OF_BRIDGES = _NUD_PERMANENT | _NUD_NOARP
_NDMSG = struct.Struct("=BxHiHBB")
_INDEX_AT_4 = struct.Struct("=4xI")  # struct ifaddrmsg, struct br_vlan_msg


@dataclass(frozen=True, slots=True)
class Event:
    """Something about the device of this index. Only events of links tell its `name`, and the `owner` in its mark or
    the network service whose mark it has.

    `gone`: the device itself was deleted, not merely something of it.
    """

    index: int
    name: str | None = None
    owner: UUID | None = None
    gone: bool = False
    service: UUID | None = None


def parse_event(message: parse.Message) -> Event | None:
    """None for what concerns nobody: addresses that were learned come by the thousand."""
    match message.kind:
        case parse.RTM_NEWLINK | parse.RTM_DELLINK:
            raw = parse.parse_link(message.body)
            link = raw.link
            # A bridge tells of its ports in messages of its own family: DELLINK then means that a port left.
            gone = message.kind == parse.RTM_DELLINK and message.body[0] != socket.AF_BRIDGE
            return Event(link.index, link.name, link.owner, gone, raw.service)
        case kind if kind in {_RTM_NEWNEIGH, _RTM_DELNEIGH}:
            return _of_neighbour(message.body)
        case kind if kind in {_RTM_NEWADDR, _RTM_DELADDR, _RTM_NEWVLAN, _RTM_DELVLAN}:
            return Event(_INDEX_AT_4.unpack_from(message.body)[0])
    return None


def _of_neighbour(body: bytes) -> Event | None:
    """Permanent ones that come or go. One of ours that is replaced by a learned one is left to the sweep."""
    family, _, index, state, _, _ = _NDMSG.unpack_from(body)
    wanted = STATES_OF_BRIDGES if family == socket.AF_BRIDGE else STATES_OF_IP
    return Event(index) if state & wanted else None
