"""The kernel's connections over ctnetlink: read them, and mark those that are admitted no more.

They are not deleted. The kernel takes up a connection in the middle, from whichever side speaks next (nf_conntrack's
`tcp_loose`; UDP knows no sides at all): deleted, it would come back to life with the server's next word, for that is
allowed to speak. Marked, it stays known, and nothing of it passes.
"""

import socket
import struct
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from viaduct_agent.links import encode, parse
from viaduct_agent.links.dialogue import Dialogue
from viaduct_agent.services.security.compiling import REVOKED
from viaduct_agent.services.security.model import Address
from viaduct_agent.services.security.verdicts import ICMP, ICMPV6, Flow

# linux/netfilter/nfnetlink.h, nfnetlink_conntrack.h, nf_tables.h
_NETLINK_NETFILTER = 12
_CT_NEW, _CT_GET, _GET_GENERATION = 0x0100, 0x0101, 0x0A10
_REQUEST, _ACK, _DUMP = 0x001, 0x004, 0x300
_TUPLE_ORIG, _MARK, _ZONE, _MARK_MASK = 1, 8, 18, 21
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_SOURCES, _TARGETS = (1, 3), (2, 4)
_NUMBER, _SOURCE_PORT, _TARGET_PORT = 1, 2, 3
_TYPES = {ICMP: (5, 6), ICMPV6: (8, 9)}
_GENERATION_ID = 1
_NFGENMSG = struct.Struct("!BBH")
_ANSWER_SECONDS = 30.0
_BATCH = 256
_FEW = 16  # so many addresses are looked for in the bytes, before anything is parsed


@dataclass(frozen=True, slots=True)
class Connection:
    """`handle` is its first direction and zone as the kernel wrote them."""

    flow: Flow
    zone: int
    revoked: bool
    family: int
    handle: bytes


def open_dialogue() -> Dialogue:
    """In the thread, and so the namespace, of the caller, who closes it."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
    sock.bind((0, 0))
    return Dialogue(sock, _ANSWER_SECONDS)


def ruleset_generation() -> int:
    """The number of nftables' transactions in this namespace, whoever made them. Blocking."""
    dialogue = open_dialogue()
    try:
        ((body,),) = dialogue.ask([encode.message(_GET_GENERATION, _REQUEST, _NFGENMSG.pack(0, 0, 0), ())])
    finally:
        dialogue.close()
    return int.from_bytes(_attributes(body[_NFGENMSG.size :])[_GENERATION_ID], "big")


def connections(addresses: Collection[Address] | None) -> list[Connection]:
    """Those from or to one of the addresses, or all of them. Blocking."""
    wanted = None if addresses is None else frozenset(address.packed for address in addresses)
    dialogue = open_dialogue()
    try:
        bodies = dialogue.dump(encode.message(_CT_GET, _REQUEST | _DUMP, _NFGENMSG.pack(0, 0, 0), ()))
    finally:
        dialogue.close()
    return list(_parsed(bodies, wanted))


def mark(changes: Sequence[tuple[Connection, bool]]) -> None:
    """Say of each whether it is revoked; one that has ended meanwhile is no error. Blocking."""
    messages = [
        encode.message(
            _CT_NEW, _REQUEST | _ACK, _NFGENMSG.pack(connection.family, 0, 0),
            (connection.handle, encode.attribute(_MARK, (REVOKED if revoked else 0).to_bytes(4, "big")),
             encode.attribute(_MARK_MASK, REVOKED.to_bytes(4, "big"))),
        )
        for connection, revoked in changes
    ]  # fmt: skip
    dialogue = open_dialogue()
    try:
        for start in range(0, len(messages), _BATCH):
            dialogue.tell(messages[start : start + _BATCH])
    finally:
        dialogue.close()


def words(connection: Connection, *, revoked: bool) -> str:
    """What `mark` does to one, as a command; the real conntrack(8) cannot update what is in a zone."""
    flow, value = connection.flow, REVOKED if revoked else 0
    zone = f" --zone {connection.zone}" if connection.zone else ""
    ends = f"-p {flow.protocol} -s {flow.source} -d {flow.target}"
    return f"conntrack -U {ends}{zone} --mark {value:#x}/{REVOKED:#x}"


def _parsed(bodies: Sequence[bytes], wanted: frozenset[bytes] | None) -> Iterator[Connection]:
    few = wanted if wanted is not None and len(wanted) <= _FEW else None
    for body in bodies:
        if few is not None and not any(address in body for address in few):
            continue
        found = _attributes(body[_NFGENMSG.size :])
        orig = _attributes(found.get(_TUPLE_ORIG, b""))
        ends = _attributes(orig.get(_TUPLE_IP, b""))
        source = next((ends[kind] for kind in _SOURCES if kind in ends), None)
        target = next((ends[kind] for kind in _TARGETS if kind in ends), None)
        if source is None or target is None or (wanted is not None and wanted.isdisjoint((source, target))):
            continue
        proto = _attributes(orig.get(_TUPLE_PROTO, b""))
        number = proto.get(_NUMBER, b"\0")[0]
        kinds = _TYPES.get(number, (_SOURCE_PORT, _TARGET_PORT))
        first, second = (int.from_bytes(proto.get(kind, b""), "big") for kind in kinds)
        zone = found.get(_ZONE, b"")
        handle = encode.attribute(_TUPLE_ORIG | encode.NESTED, found[_TUPLE_ORIG])
        yield Connection(
            Flow(number, ip_address(source), ip_address(target), (first, second)),
            int.from_bytes(zone, "big"),
            bool(int.from_bytes(found.get(_MARK, b""), "big") & REVOKED),
            body[0],
            handle + (encode.attribute(_ZONE, zone) if zone else b""),
        )


def _attributes(data: bytes) -> dict[int, bytes]:
    return dict(parse.attributes(data, 0, len(data)))
