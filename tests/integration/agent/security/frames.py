"""Frames as bytes, true and untrue ones."""

import socket
import struct
from ipaddress import IPv4Address, IPv6Address

IPV4, IPV6, ARP, RARP, VLAN, LOCAL = 0x0800, 0x86DD, 0x0806, 0x8035, 0x8100, 0x88B5
BROADCAST = "ff:ff:ff:ff:ff:ff"
PORTS = (4000, 4001)
_DATA = b"0123456789"


def packed(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def ethernet(source: str, target: str, kind: int, payload: bytes) -> bytes:
    return packed(target) + packed(source) + struct.pack("!H", kind) + payload


def arp(sender: str, mac: str, ip: IPv4Address, wanted: IPv4Address, *, answer: bool = False) -> bytes:
    """`sender` is the frame's source, `mac` and `ip` what it says of itself."""
    head = struct.pack("!HHBBH", 1, IPV4, 6, 4, 2 if answer else 1)
    return ethernet(sender, BROADCAST, ARP, head + packed(mac) + ip.packed + bytes(6) + wanted.packed)


def udp4(mac: str, to: str, source: IPv4Address, target: IPv4Address, *, ports: tuple[int, int] = PORTS) -> bytes:
    udp = struct.pack("!HHHH", *ports, 8 + len(_DATA), 0) + _DATA
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, socket.IPPROTO_UDP, 0)
    head += source.packed + target.packed
    return ethernet(mac, to, IPV4, head[:10] + _checksum(head) + head[12:] + udp)


def udp6(mac: str, to: str, source: IPv6Address, target: IPv6Address, *, ports: tuple[int, int] = PORTS) -> bytes:
    body = struct.pack("!HH", *ports) + struct.pack("!H", 8 + len(_DATA))
    return _ipv6(mac, to, source, target, kind=socket.IPPROTO_UDP, before=body, after=_DATA)


def icmpv6(mac: str, to: str, source: IPv6Address, target: IPv6Address, *, kind: int, body: bytes) -> bytes:
    return _ipv6(mac, to, source, target, kind=socket.IPPROTO_ICMPV6, before=struct.pack("!BB", kind, 0), after=body)


def nd(kind: int, mac: str, source: IPv6Address, to: IPv6Address, *, of: IPv6Address, said: str | None) -> bytes:
    """A solicitation (135) or an advertisement (136) `of` an address; `said` is the MAC in its option."""
    option = b"" if said is None else bytes([1 if kind == 135 else 2, 1]) + packed(said)
    return icmpv6(mac, "33:33:00:00:00:01", source, to, kind=kind, body=bytes(4) + of.packed + option)


def dhcp_question(mac: str) -> bytes:
    return udp4(mac, BROADCAST, IPv4Address(0), IPv4Address("255.255.255.255"), ports=(68, 67))


def dhcp_answer(mac: str, to: str, source: IPv4Address, target: IPv4Address) -> bytes:
    return udp4(mac, to, source, target, ports=(67, 68))


def _ipv6(
    mac: str, to: str, source: IPv6Address, target: IPv6Address, *, kind: int, before: bytes, after: bytes
) -> bytes:
    """The checksum is between the two parts of the payload."""
    length = len(before) + 2 + len(after)
    pseudo = source.packed + target.packed + struct.pack("!II", length, kind)
    payload = before + _checksum(pseudo + before + after) + after
    head = struct.pack("!IHBB", 6 << 28, length, kind, 255) + source.packed + target.packed
    return ethernet(mac, to, IPV6, head + payload)


def _checksum(data: bytes) -> bytes:
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)
