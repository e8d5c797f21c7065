"""Telling a network where an address is now: gratuitous ARP (RFC 5227 §3) and unsolicited neighbour advertisements.

No library that we have sends either, and Debian has a program for one of them only.
"""

import asyncio
import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address

from viaduct_agent.links.netlink import Netlink

_BROADCAST = "ff:ff:ff:ff:ff:ff"
_ALL_NODES_MAC, _ALL_NODES = "33:33:00:00:00:01", IPv6Address("ff02::1")
_ARP, _IPV6, _ICMPV6 = 0x0806, 0x86DD, 58
_OVERRIDE = 0x20000000  # the answer is newer than what you know (RFC 4861 §4.4)
_TARGET_MAC = 2
TIMES = 3
BETWEEN_SECONDS = 1.0  # frames get lost, and a port that has just come up may not forward yet


def announcement(mac: str, address: str) -> bytes:
    """The Ethernet frame that says: `address` is at `mac`.

    >>> len(announcement("02:00:00:00:00:01", "10.0.0.1")), len(announcement("02:00:00:00:00:01", "fd00::1"))
    (42, 86)
    """
    ip = ip_address(address)
    return _gratuitous_arp(mac, ip) if isinstance(ip, IPv4Address) else _unsolicited_advertisement(mac, ip)


async def announce(netns: str, macs: dict[str, str], addresses: Iterable[tuple[str, str]]) -> None:
    """Send an announcement of each (device, address) in a namespace, a few times; `macs` are the devices'.

    Raises:
        OSError: the namespace or a device is not there any more.
    """
    frames = [(device, announcement(macs[device], address)) for device, address in addresses]
    async with Netlink(netns) as there:
        for round_ in range(TIMES):
            if round_:
                await asyncio.sleep(BETWEEN_SECONDS)
            await there.run(_send, frames)


def _send(frames: list[tuple[str, bytes]]) -> None:
    for device, frame in frames:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
            sock.bind((device, 0))
            sock.send(frame)


def _gratuitous_arp(mac: str, ip: IPv4Address) -> bytes:
    """A request for one's own address, which every neighbour that knows the address learns from."""
    own = _octets(mac)
    body = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, own, ip.packed, bytes(6), ip.packed)
    return _octets(_BROADCAST) + own + struct.pack("!H", _ARP) + body


def _unsolicited_advertisement(mac: str, ip: IPv6Address) -> bytes:
    own = _octets(mac)
    option = struct.pack("!BB6s", _TARGET_MAC, 1, own)
    body = struct.pack("!BBHI16s", 136, 0, 0, _OVERRIDE, ip.packed) + option
    pseudo = struct.pack("!16s16sIHBB", ip.packed, _ALL_NODES.packed, len(body), 0, 0, _ICMPV6)
    checked = body[:2] + struct.pack("!H", _checksum(pseudo + body)) + body[4:]
    header = struct.pack("!IHBB16s16s", 6 << 28, len(body), _ICMPV6, 255, ip.packed, _ALL_NODES.packed)
    return _octets(_ALL_NODES_MAC) + own + struct.pack("!H", _IPV6) + header + checked


def _checksum(data: bytes) -> int:
    """RFC 1071; of an even number of octets."""
    total: int = sum(word for (word,) in struct.iter_unpack("!H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))
