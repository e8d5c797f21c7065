"""Announcements, octet by octet."""

import struct
from ipaddress import IPv4Address, IPv6Address

from hypothesis import given
from hypothesis import strategies as st

from viaduct_agent.services.announce import announcement

macs = st.binary(min_size=6, max_size=6)


def written(mac: bytes) -> str:
    return ":".join(f"{octet:02x}" for octet in mac)


@given(mac=macs, ip=st.ip_addresses(v=4))
def test_gratuitous_arp_is_a_request_for_ones_own_address(mac: bytes, ip: IPv4Address) -> None:
    """RFC 826's fields; sender and target are the same address."""
    frame = announcement(written(mac), str(ip))
    assert frame[:14] == b"\xff" * 6 + mac + b"\x08\x06"
    assert frame[14:22] == bytes.fromhex("0001080006040001")
    assert (frame[22:28], frame[28:32], frame[38:42]) == (mac, ip.packed, ip.packed)


@given(mac=macs, ip=st.ip_addresses(v=6))
def test_advertisement_overrides_what_neighbours_know_and_its_checksum_is_right(mac: bytes, ip: IPv6Address) -> None:
    """RFC 4861 §4.4, hop limit 255; with its checksum the sum is all ones (RFC 1071)."""
    frame = announcement(written(mac), str(ip))
    header, body = frame[14:54], frame[54:]
    assert (header[6], header[7], header[8:24]) == (58, 255, ip.packed)
    assert body[0] == 136
    assert body[4:8] == b"\x20\0\0\0"
    assert (body[8:24], body[24:26], body[26:32]) == (ip.packed, b"\x02\x01", mac)
    total = sum(
        word for (word,) in struct.iter_unpack("!H", header[8:40] + struct.pack("!IHBB", len(body), 0, 0, 58) + body)
    )
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert total == 0xFFFF
