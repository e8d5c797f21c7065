"""Netlink messages as bytes: a header, a fixed part, attributes (netlink(7), rtnetlink(7)).

By hand, because pyroute2's encoder takes 150 to 250 microseconds for a message, as long as the kernel takes to do what
it says; this takes five.
"""

import struct
import sys

_HEADER = struct.Struct("=IHHII")
_IFINFO = struct.Struct("=BxHiII")
_NDMSG = struct.Struct("=BxHiHBB")
_BRVLAN = struct.Struct("=BBHI")
_ATTRIBUTE = struct.Struct("=HH")
NESTED = 0x8000
SEQUENCE_OFFSET = 8


def attribute(kind: int, payload: bytes) -> bytes:
    return _ATTRIBUTE.pack(4 + len(payload), kind) + payload + b"\0" * (-len(payload) & 3)


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def number(kind: int, value: int) -> bytes:
    """32 bits without a sign, in the host's order."""
    return _ATTRIBUTE.pack(8, kind) + value.to_bytes(4, sys.byteorder)


def nested(kind: int, *parts: bytes) -> bytes:
    return attribute(kind | NESTED, b"".join(parts))


def mac(kind: int, address: str) -> bytes:
    return attribute(kind, bytes.fromhex(address.replace(":", "")))


def link_message(
    kind: int, flags: int, index: int, *parts: bytes, up: bool | None = None, family: int = 0
) -> bytearray:
    """`struct ifinfomsg`; `up` is None when the flag is not to be touched."""
    change = 0 if up is None else 1
    return message(kind, flags, _IFINFO.pack(family, 0, index, int(bool(up)), change), parts)


def neighbour_message(
    kind: int, flags: int, index: int, *parts: bytes, family: int, state: int = 0, ntf: int = 0
) -> bytearray:
    """`struct ndmsg`: neighbours and, with family AF_BRIDGE, forwarding entries."""
    return message(kind, flags, _NDMSG.pack(family, 0, index, state, ntf, 0), parts)


def vlan_message(kind: int, flags: int, index: int, *parts: bytes, family: int) -> bytearray:
    """`struct br_vlan_msg`."""
    return message(kind, flags, _BRVLAN.pack(family, 0, 0, index), parts)


def address_message(
    kind: int, flags: int, index: int, *parts: bytes, family: int, prefix: int = 0, scope: int = 0
) -> bytearray:
    """`struct ifaddrmsg`; of a dump only family and, with a strict check, index count."""
    return message(kind, flags, struct.pack("=BBBBi", family, prefix, 0, scope, index), parts)


def message(kind: int, flags: int, fixed: bytes, parts: tuple[bytes, ...]) -> bytearray:
    body = b"".join((fixed, *parts))
    return bytearray(_HEADER.pack(_HEADER.size + len(body), kind, flags, 0, 0) + body)
