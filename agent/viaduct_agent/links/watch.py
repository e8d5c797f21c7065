"""What the kernel tells about links and what hangs on them, by and by: which devices changed, or that we missed
something."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

import structlog

from viaduct_agent.links import parse
from viaduct_agent.links.events import parse_event
from viaduct_agent.links.filter import leave_out_learned
from viaduct_agent.links.netlink import Netlink
from viaduct_common.errors import ViaductError

log = structlog.get_logger()
# RTMGRP_LINK, _NEIGH (forwarding entries too), _IPV4_IFADDR, _IPV6_IFADDR of linux/rtnetlink.h.
_GROUPS = 0x1 | 0x4 | 0x10 | 0x100
_ADDRESS_GROUPS = 0x10 | 0x100
_ADDRESSES_COALESCE_SECONDS = 1.0
_RTNLGRP_BRVLAN = 33  # beyond the 32 that a mask has room for
_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1
_COALESCE_SECONDS = 0.08  # one `ip` command makes several events, a booting VM dozens
_DATAGRAM_BYTES = 64 * 1024
_MOST_AT_ONCE = 1000  # some 30 ms of work: the loop must not stand still however much is told


@dataclass(frozen=True, slots=True)
class Changed:
    """Devices by name, and networks by the mark that a changed device carries (it may have been renamed).

    `marked` tells which of the names carries which mark. `services` are network services that a changed device is of.
    `overflow`: events were lost, everything must be looked at.
    """

    names: frozenset[str] = frozenset()
    owners: frozenset[UUID] = frozenset()
    overflow: bool = False
    marked: frozenset[tuple[UUID, str]] = frozenset()
    services: frozenset[UUID] = frozenset()


async def link_changes(netlink: Netlink) -> AsyncIterator[Changed]:
    """Yield what changed, events of 80 ms together; for ever."""
    sock = await netlink.event_socket(_GROUPS)
    try:
        _prepare(sock)
        reader = _Reader(sock)
        await reader.learn_names(netlink)
        while True:
            if not reader.behind:
                await readable(sock)
                await asyncio.sleep(_COALESCE_SECONDS)
            changed = reader.drain()
            if changed.overflow:
                await reader.learn_names(netlink)
            if changed.overflow or changed.names or changed.owners:
                yield changed
            await asyncio.sleep(0)
    finally:
        sock.close()


async def address_changes(netlink: Netlink) -> AsyncIterator[None]:
    """Yield when the host's own addresses of global scope have changed, a second's changes together; for ever.

    A tunnel may end at one of them, so whoever decides that wants to hear of it.
    """
    sock = await netlink.event_socket(_ADDRESS_GROUPS)
    try:
        while True:
            await readable(sock)
            await asyncio.sleep(_ADDRESSES_COALESCE_SECONDS)
            if _has_global_addresses(sock):
                yield
    finally:
        sock.close()


def _has_global_addresses(sock: socket.socket) -> bool:
    """Read all that is there; events that were lost count as changes."""
    found = False
    while True:
        try:
            data = sock.recv(_DATAGRAM_BYTES)
        except BlockingIOError:
            return found
        except OSError as exc:
            if exc.errno != errno.ENOBUFS:
                raise
            found = True
            continue
        found = found or any(parse.parse_address(message.body) is not None for message in parse.messages(data))


def _prepare(sock: socket.socket) -> None:
    """What a kernel may refuse, and the sweep makes up for."""
    try:
        sock.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _RTNLGRP_BRVLAN)
    except OSError as exc:
        log.info("no_events_of_bridge_vlans", reason=str(exc))
    try:
        leave_out_learned(sock)
    except OSError as exc:
        log.info("no_filter_of_events", reason=str(exc))


async def readable(sock: socket.socket) -> None:
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


class _Reader:
    """Events of entries, addresses and VLANs name a device by its index: the names are kept beside.

    `behind`: it stopped while there was more to read.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._names: dict[int, str] = {}
        self._services: dict[int, UUID] = {}
        self.behind = False

    async def learn_names(self, netlink: Netlink) -> None:
        """Of all devices: at first, and after events were lost."""
        try:
            links = await netlink.observe()
        except ViaductError as exc:  # they change too fast: what matters will be told by events, or found by the sweep
            log.warning("events_without_names", error=exc.message)
            return
        self._names = {link.index: link.name for link in links.values()}

    def drain(self) -> Changed:
        """What was told up to now."""
        names: set[str] = set()
        marked: set[tuple[UUID, str]] = set()
        services: set[UUID] = set()
        overflow = False
        self.behind = False
        for _ in range(_MOST_AT_ONCE):
            try:
                data = self._socket.recv(_DATAGRAM_BYTES)
            except BlockingIOError:
                break
            except OSError as exc:
                if exc.errno != errno.ENOBUFS:
                    raise
                log.warning("link_events_lost")
                overflow = True
                continue
            for message in parse.messages(data):
                self._take(message, names, marked, services)
        else:
            self.behind = True
        owners = frozenset(owner for owner, _ in marked)
        return Changed(frozenset(names), owners, overflow, frozenset(marked), frozenset(services))

    def _take(
        self, message: parse.Message, names: set[str], marked: set[tuple[UUID, str]], services: set[UUID]
    ) -> None:
        event = parse_event(message)
        if event is None:
            return
        known = self._names.get(event.index)  # after a rename the old name, which somebody may be waiting for
        names |= {name for name in (known, event.name) if name is not None}
        if event.owner is not None and event.name is not None:
            marked.add((event.owner, event.name))
        services |= {uuid for uuid in (self._services.get(event.index), event.service) if uuid is not None}
        if event.service is not None:
            self._services[event.index] = event.service
        if event.gone:
            self._names.pop(event.index, None)
            self._services.pop(event.index, None)
        elif event.name is not None:
            self._names[event.index] = event.name
