"""Which forwarding entries and neighbours of a dump are told, and of which devices."""

import struct

from viaduct_agent.links import encode
from viaduct_agent.links.entries import Entry, Forwarding, Member, Neighbour
from viaduct_agent.links.parse_entries import Wanted, forwardings, neighbours, parse_vlans

MAC, IP = bytes.fromhex("020000000001"), bytes([10, 0, 0, 1])
LEARNED, NOARP, PERMANENT = 0x02, 0x40, 0x80
SELF = 0x02
CACHE = encode.attribute(3, bytes(16))


def body(index: int, state: int, *parts: bytes, ntf: int = 0) -> bytes:
    return struct.pack("=BxHiHBB", 7, 0, index, state, ntf, 0) + b"".join(parts)


def mac() -> bytes:
    return encode.attribute(2, MAC)


def ip() -> bytes:
    return encode.attribute(1, IP)


def told(*bodies: bytes) -> list[tuple[int, Entry]]:
    return list(forwardings(bodies, Wanted([5])))


def test_a_tunnels_entry_has_its_far_end() -> None:
    expected = [(5, Forwarding("02:00:00:00:00:01", "10.0.0.1"))]
    assert told(body(5, PERMANENT | NOARP, mac(), ip(), CACHE, ntf=SELF)) == expected
    assert told(body(5, PERMANENT, CACHE, ip(), mac(), ntf=SELF)) == expected


def test_a_bridges_entry_for_its_port_has_none() -> None:
    assert told(body(5, NOARP, mac(), CACHE)) == [(5, Forwarding("02:00:00:00:00:01"))]


def test_what_was_learned_is_the_ports_own_or_another_devices_is_not_told() -> None:
    assert told(body(5, LEARNED, mac(), ip()), body(5, PERMANENT, mac()), body(5, NOARP, mac(), ntf=SELF)) == []
    assert told(body(6, NOARP, mac()), body(5, NOARP, CACHE)) == []


def test_permanent_neighbours_are_told() -> None:
    good = body(5, PERMANENT, ip(), mac(), CACHE)
    bad = [body(5, NOARP, ip(), mac()), body(6, PERMANENT, ip(), mac()), body(5, PERMANENT, mac())]
    assert list(neighbours([*bad, good], Wanted([5]))) == [(5, Neighbour("10.0.0.1", "02:00:00:00:00:01"))]


def test_a_range_of_vlans_is_each_of_them() -> None:
    def item(vlan: int, *parts: bytes) -> bytes:
        return encode.nested(1, encode.attribute(1, struct.pack("=HH", 0, vlan)), *parts)

    message = struct.pack("=BBHI", 7, 0, 0, 9) + item(3) + item(4000, encode.attribute(2, struct.pack("=H", 4002)))
    assert parse_vlans(message) == (9, [Member(3), Member(4000), Member(4001), Member(4002)])
