"""Events as the kernel sends them, without one."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from typing import cast
from uuid import UUID, uuid4

import pytest

from viaduct_agent.links import watch
from viaduct_agent.links.events import Event, parse_event
from viaduct_agent.links.filter import leave_out_learned
from viaduct_agent.links.marks import format_service_mark
from viaduct_agent.links.model import Link
from viaduct_agent.links.netlink import Netlink
from viaduct_agent.links.parse import Message
from viaduct_agent.links.table import LinkTable

NEWLINK, DELLINK, NEWADDR, DELADDR, NEWNEIGH, DELNEIGH, NEWVLAN, DELVLAN = 16, 17, 20, 21, 28, 29, 112, 113
PERMANENT, NOARP, REACHABLE, FAILED = 0x80, 0x40, 0x02, 0x20


def neighbour(family: int, state: int, index: int = 7) -> bytes:
    return struct.pack("=BxHiHBB", family, 0, index, state, 0, 0)


def link(name: str, family: int = socket.AF_UNSPEC, index: int = 7) -> bytes:
    raw = name.encode() + b"\0"
    attribute = struct.pack("=HH", 4 + len(raw), 3) + raw
    return struct.pack("=BxHiII", family, 0, index, 0, 0) + attribute + b"\0" * (-len(raw) % 4)


def datagram(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


@pytest.mark.parametrize(
    ("kind", "body", "event"),
    [
        (NEWLINK, link("br"), Event(7, "br")),
        (DELLINK, link("br"), Event(7, "br", gone=True)),
        (DELLINK, link("br", socket.AF_BRIDGE), Event(7, "br")),  # it left its bridge
        (NEWNEIGH, neighbour(socket.AF_BRIDGE, PERMANENT), Event(7)),
        (DELNEIGH, neighbour(socket.AF_BRIDGE, NOARP), Event(7)),
        (NEWNEIGH, neighbour(socket.AF_BRIDGE, REACHABLE), None),
        (DELNEIGH, neighbour(socket.AF_BRIDGE, REACHABLE), None),
        (NEWNEIGH, neighbour(socket.AF_INET, PERMANENT), Event(7)),
        (DELNEIGH, neighbour(socket.AF_INET6, FAILED), Event(7)),
        (NEWNEIGH, neighbour(socket.AF_INET, REACHABLE), None),
        (NEWNEIGH, neighbour(socket.AF_INET6, NOARP), None),  # a multicast group
        (NEWADDR, struct.pack("=BBBBI", socket.AF_INET, 24, 0, 0, 7), Event(7)),
        (DELADDR, struct.pack("=BBBBI", socket.AF_INET6, 64, 0, 0, 7), Event(7)),
        (NEWVLAN, struct.pack("=BBHI", socket.AF_BRIDGE, 0, 0, 7), Event(7)),
        (DELVLAN, struct.pack("=BBHI", socket.AF_BRIDGE, 0, 0, 7), Event(7)),
        (24, b"", None),  # a route
    ],
)
def test_an_event_tells_its_device_and_what_was_learned_tells_nothing(
    kind: int, body: bytes, event: Event | None
) -> None:
    """Of each kind that is listened to."""
    assert parse_event(Message(kind, 0, 0, body)) == event


class Scripted:
    """A `Netlink` whose event socket is one end of a pair; the other is ours."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.theirs.setblocking(False)

    async def event_socket(self, groups: int) -> socket.socket:
        return self.theirs

    async def observe(self) -> LinkTable:
        return LinkTable([Link("br", "bridge", index=7)])


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    one = Scripted()
    yield one
    one.ours.close()


@pytest.fixture
async def changes(scripted: Scripted) -> AsyncIterator[AsyncIterator[watch.Changed]]:
    iterator = watch.link_changes(cast("Netlink", scripted))
    yield iterator
    await iterator.aclose()  # type: ignore[attr-defined]


async def test_events_that_have_only_an_index_are_told_by_the_name_that_the_device_has_now(
    scripted: Scripted, changes: AsyncIterator[watch.Changed]
) -> None:
    """After a rename by both; after its end by none. A kernel that takes neither membership nor filter is endured."""
    vlan = datagram(NEWVLAN, struct.pack("=BBHI", socket.AF_BRIDGE, 0, 0, 7))
    told = []
    for datagrams in (
        [vlan],
        [datagram(NEWLINK, link("other"))],
        [vlan],
        [datagram(DELLINK, link("other")), vlan],
        [datagram(NEWLINK, link("next"))],
    ):
        for one in datagrams:
            scripted.ours.send(one)
        told.append((await asyncio.wait_for(anext(changes), 5)).names)
    assert told == [{"br"}, {"br", "other"}, {"other"}, {"other"}, {"next"}]


async def test_a_flood_is_told_in_pieces(
    scripted: Scripted, changes: AsyncIterator[watch.Changed], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the loop turns between them."""
    monkeypatch.setattr(watch, "_MOST_AT_ONCE", 3)
    for number in range(7):
        scripted.ours.send(datagram(NEWLINK, link(f"d{number}", index=10 + number)))
    sizes = [len((await asyncio.wait_for(anext(changes), 5)).names) for _ in range(3)]
    assert sizes == [3, 3, 1]


def test_the_filter_lets_through_what_counts() -> None:
    """The same rule as that of the parser, in the kernel; every kind of socket takes such a program."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        theirs.setblocking(False)
        leave_out_learned(theirs)
        kinds = [NEWLINK, NEWADDR, NEWVLAN, NEWNEIGH, DELNEIGH]
        families = [socket.AF_BRIDGE, socket.AF_INET, socket.AF_INET6]
        sent = [
            (kind, neighbour(family, state))
            for kind in kinds for family in families for state in (PERMANENT, NOARP, REACHABLE, FAILED, 0x04, 0)
        ]  # fmt: skip
        passed = []
        for kind, body in sent:
            ours.send(datagram(kind, body))
            try:
                passed.append(theirs.recv(1000))
            except BlockingIOError:
                continue
        wanted = [
            datagram(kind, body) for kind, body in sent
            if kind not in {NEWNEIGH, DELNEIGH} or parse_event(Message(kind, 0, 0, body)) is not None
        ]  # fmt: skip
        assert passed == wanted


def marked(name: str, service: UUID, generation: int) -> bytes:
    raw = format_service_mark(service, generation).encode() + b"\0"
    return link(name) + struct.pack("=HH", 4 + len(raw), 20) + raw + b"\0" * (-len(raw) % 4)


async def test_devices_of_services_are_told_by_their_mark_until_they_are_gone(
    scripted: Scripted, changes: AsyncIterator[watch.Changed]
) -> None:
    """Also when only an index is told, or when the mark was taken off; it is nobody's L2 network."""
    service = uuid4()
    told = []
    for one in (
        datagram(NEWLINK, marked("leg", service, 3)),
        datagram(NEWADDR, struct.pack("=BBBBI", socket.AF_INET, 24, 0, 0, 7)),
        datagram(NEWLINK, link("leg")),
        datagram(DELLINK, link("leg")),
        datagram(NEWLINK, link("next")),
    ):
        scripted.ours.send(one)
        told.append(await asyncio.wait_for(anext(changes), 5))
    assert [change.services for change in told] == [{service}] * 4 + [set()]
    assert all(not change.owners for change in told)
