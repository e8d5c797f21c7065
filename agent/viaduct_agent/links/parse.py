"""Raw rtnetlink answers as plain values: only the dozen attributes that a plan compares.

A full decoding costs 0.4 to 0.7 ms per link in Python, this some 20 microseconds. Numbers are those of the kernel's
`linux/if_link.h`, `linux/rtnetlink.h`, `linux/netlink.h`; the format is that of netlink(7) and rtnetlink(7).
"""

import ipaddress
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeAlias
from uuid import UUID

from viaduct_agent.links import kinds
from viaduct_agent.links.marks import parse_mark, parse_service_mark
from viaduct_agent.links.model import Link, with_values

NLMSG_ERROR, NLMSG_DONE = 2, 3
RTM_NEWLINK, RTM_DELLINK = 16, 17
NLM_F_MULTI, NLM_F_DUMP_INTR, NLM_F_CAPPED, NLM_F_ACK_TLVS = 0x2, 0x10, 0x100, 0x200
_HEADER = struct.Struct("=IHHII")
_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBi")
_ATTRIBUTE = struct.Struct("=HH")
_TYPE_MASK = 0x3FFF  # the two upper bits are NLA_F_NESTED and NLA_F_NET_BYTEORDER
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER = 1, 3, 4, 5, 10
_IFLA_LINKINFO, _IFLA_IFALIAS, _IFLA_GROUP, _IFLA_LINK_NETNSID = 18, 20, 27, 37
_INFO_KIND, _INFO_DATA, _INFO_SLAVE_KIND, _INFO_SLAVE_DATA = 1, 2, 4, 5
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_EXT_ACK_TEXT = 1
_IFF_UP, _IFF_RUNNING = 0x01, 0x40
_SCOPE_UNIVERSE = 0


Information: TypeAlias = tuple[str | None, kinds.Options, kinds.Options]
"""Kind, options of the kind, options as a port of a bridge."""


@dataclass(frozen=True, slots=True)
class Message:
    """One netlink message; `body` is what follows its header."""

    kind: int
    flags: int
    sequence: int
    body: bytes


@dataclass(frozen=True, slots=True)
class RawLink:
    """A link whose master and parent are still index numbers (0: none); `service` is the network service whose mark it
    carries."""

    link: Link
    master_index: int
    parent_index: int
    service: UUID | None = None
    _named: dict[tuple[str | None, str | None], Link] = field(default_factory=dict, compare=False, repr=False)
    _informed: "dict[Information, RawLink]" = field(default_factory=dict, compare=False, repr=False)

    def named(self, master: str | None, parent: str | None) -> Link:
        """The link with these names in place of the numbers."""
        found = self._named.get((master, parent))
        if found is None:
            found = self._named[master, parent] = with_values(self.link, master=master, parent=parent)
        return found

    def informed(self, information: "Information") -> "RawLink":
        """The same with this kind, options and port options."""
        found = self._informed.get(information)
        if found is None:
            kind, options, port = information
            link = with_values(self.link, kind=kind, options=options, port=port)
            found = self._informed[information] = RawLink(link, self.master_index, self.parent_index, self.service)
        return found


def messages(data: bytes) -> Iterator[Message]:
    """The messages of one datagram."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size:
            return
        yield Message(kind, flags, sequence, data[offset + _HEADER.size : offset + length])
        offset += (length + 3) & ~3


def error_of(message: Message) -> tuple[int, str]:
    """Errno (0: done) and the kernel's own words (NETLINK_EXT_ACK) of an NLMSG_ERROR, or of a dump's NLMSG_DONE."""
    (code,) = struct.unpack_from("=i", message.body)
    if message.kind == NLMSG_DONE or not message.flags & NLM_F_ACK_TLVS:
        return -code, ""
    (length,) = struct.unpack_from("=I", message.body, 4)
    start = 4 + (_HEADER.size if message.flags & NLM_F_CAPPED else length)
    for kind, payload in attributes(message.body, (start + 3) & ~3, len(message.body)):
        if kind == _EXT_ACK_TEXT:
            return -code, payload.rstrip(b"\0").decode(errors="replace")
    return -code, ""


def parse_link(body: bytes) -> RawLink:
    """The body of an RTM_NEWLINK or RTM_DELLINK.

    The same bytes are the same link: what was parsed before is not parsed again. Of a bridge, which tells the time left
    of its timers among its options, that holds for what stands around them.
    """
    at = body.find(_BRIDGE_INFO) - _ATTRIBUTE.size
    if at < 0:
        return _parse_once(body)
    length, number = _ATTRIBUTE.unpack_from(body, at)
    end = at + length
    if number & _TYPE_MASK != _IFLA_LINKINFO or end > len(body):
        return _parse(body)
    raw = _parse_once(body[:at] + body[(end + 3) & ~3 :])
    return raw.informed(_info(body[at + _ATTRIBUTE.size : end]))


def is_running(body: bytes) -> bool:
    """Of an RTM_NEWLINK: whether the device can send (IFF_RUNNING)."""
    flags: int = _IFINFO.unpack_from(body)[3]
    return bool(flags & _IFF_RUNNING)


@lru_cache(maxsize=8192)
def _parse_once(body: bytes) -> RawLink:
    return _parse(body)


def _parse(body: bytes) -> RawLink:
    _, _, index, flags, _ = _IFINFO.unpack_from(body)
    found = _wanted(body)
    alias = _text(found.get(_IFLA_IFALIAS))
    mark, of_service = parse_mark(alias), parse_service_mark(alias)
    kind, options, port = _info(found.get(_IFLA_LINKINFO))
    mac = found.get(_IFLA_ADDRESS)
    link = Link(
        _text(found.get(_IFLA_IFNAME)) or "",
        kind,
        mark[0] if mark else None,
        mark[1] if mark else None,
        index,
        number(found.get(_IFLA_MTU)),
        mac.hex(":") if mac else None,
        None,
        None,
        bool(flags & _IFF_UP),
        options,
        port,
        group=number(found.get(_IFLA_GROUP)),
    )
    # A parent in another namespace has an index of that namespace, which would name a stranger here.
    parent = 0 if _IFLA_LINK_NETNSID in found else number(found.get(_IFLA_LINK))
    service = of_service[0] if of_service else None
    return RawLink(link, number(found.get(_IFLA_MASTER)), 0 if parent == index else parent, service)


def parse_address(body: bytes) -> tuple[int, str] | None:
    """Interface index and `address/prefix` of an RTM_NEWADDR of global scope; None for another scope."""
    _, prefix, _, scope, index = _IFADDR.unpack_from(body)
    found = dict(attributes(body, _IFADDR.size, len(body)))
    raw = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS)  # on a point-to-point link IFA_ADDRESS is the other end
    if scope != _SCOPE_UNIVERSE or raw is None:
        return None
    return index, f"{ipaddress.ip_address(raw)}/{prefix}"


def _wanted(body: bytes) -> dict[int, bytes]:
    """The attributes of a link that are of use here, of the forty that it has. `attributes` once more, without what
    that costs: this loop is half of the price of a look at a host."""
    found: dict[int, bytes] = {}
    start, end = _IFINFO.size, len(body) - 3
    unpack, wanted = _ATTRIBUTE.unpack_from, _WANTED
    while start < end:
        length, kind = unpack(body, start)
        if length < 4:
            break
        kind &= _TYPE_MASK
        if kind in wanted:
            found[kind] = body[start + 4 : start + length]
        start += (length + 3) & ~3
    return found


@lru_cache(maxsize=16_384)
def _info(raw: bytes | None) -> Information:
    """Kind, options of the kind, options as a port of a bridge."""
    if raw is None:
        return None, (), ()
    info = dict(attributes(raw, 0, len(raw)))
    kind = _text(info.get(_INFO_KIND))
    port = _options(kinds.PORT, info.get(_INFO_SLAVE_DATA)) if info.get(_INFO_SLAVE_KIND) == _BRIDGE_PORT else ()
    return kind, _options(kinds.find(kind), info.get(_INFO_DATA)), port


def _options(kind: kinds.LinkKind | None, raw: bytes | None) -> kinds.Options:
    """Where an option of a steady kind stands is the same in all answers of one length, for the kernel writes them in
    one order: its header is looked for there. A bridge has fifty options, of which four are of use."""
    if kind is None or raw is None:
        return ()
    key = kind.name, len(raw)
    places = _PLACES.get(key)
    if places is None or not kind.steady or any(raw[at - 4 : at] != header for at, _, header, _ in places):
        places = _PLACES[key] = _places(kind, raw)
    values = []
    for at, end, _, option in places:
        value = option.form.unpack(raw[at:end])
        if value is not None:
            values.append((option.name, value))
    return tuple(values)


def _places(kind: kinds.LinkKind, raw: bytes) -> list[tuple[int, int, bytes, kinds.Option]]:
    """(begin and end of the value, header, option) of each option that is there, by name."""
    numbers = {option.number: option for option in kind.options}
    places = []
    start = 0
    while start + _ATTRIBUTE.size <= len(raw):
        length, number = _ATTRIBUTE.unpack_from(raw, start)
        if length < _ATTRIBUTE.size:
            break
        option = numbers.get(number & _TYPE_MASK)
        if option is not None:
            places.append((start + 4, start + length, raw[start : start + 4], option))
        start += (length + 3) & ~3
    return sorted(places, key=lambda place: place[3].name)


def attributes(data: bytes, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    while start + _ATTRIBUTE.size <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, start)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _TYPE_MASK, data[start + _ATTRIBUTE.size : start + length]
        start += (length + 3) & ~3


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.rstrip(b"\0").decode(errors="replace")


def number(raw: bytes | None) -> int:
    """An unsigned number of whatever width; netlink is in the host's byte order."""
    return 0 if raw is None else int.from_bytes(raw, sys.byteorder)


_BRIDGE_PORT = b"bridge\0"
_BRIDGE_INFO = _ATTRIBUTE.pack(4 + len(_BRIDGE_PORT), _INFO_KIND) + _BRIDGE_PORT
_PLACES: dict[tuple[str, int], list[tuple[int, int, bytes, kinds.Option]]] = {}
_WANTED = frozenset({
    _IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_IFALIAS, _IFLA_GROUP,
    _IFLA_LINK_NETNSID,
})  # fmt: skip
