"""What the kernel tells about links, by and by: which devices changed, or that we missed something."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

import structlog

from viaduct_agent.links import parse
from viaduct_agent.links.netlink import Netlink

log = structlog.get_logger()
_RTMGRP_LINK = 1
_COALESCE_SECONDS = 0.08  # one `ip` command makes several events, a booting VM dozens
_DATAGRAM_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Changed:
    """Devices by name, and networks by the mark that a changed device carries (it may have been renamed).

    `overflow`: events were lost, everything must be looked at.
    """

    names: frozenset[str] = frozenset()
    owners: frozenset[UUID] = frozenset()
    overflow: bool = False


async def link_changes(netlink: Netlink) -> AsyncIterator[Changed]:
    """Yield what changed, events of 80 ms together; for ever."""
    sock = await netlink.event_socket(_RTMGRP_LINK)
    try:
        while True:
            await _readable(sock)
            await asyncio.sleep(_COALESCE_SECONDS)
            yield _drain(sock)
    finally:
        sock.close()


async def _readable(sock: socket.socket) -> None:
    """Wait until there is something to read, without reading it."""
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()

    def readable() -> None:
        if not waiter.done():
            waiter.set_result(None)

    loop.add_reader(sock, readable)
    try:
        await waiter
    finally:
        loop.remove_reader(sock)


def _drain(sock: socket.socket) -> Changed:
    names: set[str] = set()
    owners: set[UUID] = set()
    overflow = False
    while True:
        try:
            data = sock.recv(_DATAGRAM_BYTES)
        except BlockingIOError:
            return Changed(frozenset(names), frozenset(owners), overflow)
        except OSError as exc:
            if exc.errno != errno.ENOBUFS:
                raise
            log.warning("link_events_lost")
            overflow = True
            continue
        for message in parse.messages(data):
            if message.kind in {parse.RTM_NEWLINK, parse.RTM_DELLINK}:
                link = parse.parse_link(message.body).link
                names.add(link.name)
                if link.owner is not None:
                    owners.add(link.owner)
