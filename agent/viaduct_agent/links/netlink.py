"""The kernel over rtnetlink: one socket, one worker thread, one request at a time.

RTNL is one lock in the kernel, so a second socket or thread would bring nothing. The thread keeps the event loop free
while the kernel works (25 ms for each device deleted), and is the only one that ever enters another namespace.
pyroute2 encodes; answers are parsed by our own `parse`, for its decoder is what costs most.
"""

import asyncio
import errno
import os
import random
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypeVar, TypeVarTuple, Unpack

from pyroute2 import netns as pyroute2_netns
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from viaduct_agent.links import parse
from viaduct_agent.links.model import BRIDGE, VLAN, AddLink, DelLink, Link, Links, SetLink, Step
from viaduct_common.errors import BackendFailed
from viaduct_common.naming import MAX_NAME

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")
_NETLINK_ROUTE = 0
_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK, _RTM_GETADDR = 16, 17, 18, 22
_REQUEST, _ACK, _DUMP, _CREATE_EXCL = 0x1, 0x4, 0x300, 0x400 | 0x200
_SOL_NETLINK, _EXT_ACK, _STRICT_CHECK = 270, 11, 12
_SO_RCVBUFFORCE = 33
_RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024
_DATAGRAM_BYTES = 256 * 1024
_ANSWER_SECONDS = 30.0  # the kernel answers inside sendmsg; a socket that says nothing for so long is broken
_SKIP_STATS = 8  # RTEXT_FILTER_SKIP_STATS: half of each answer otherwise
_IFF_UP = 1
_DUMP_ATTEMPTS = 5
# Far above what the kernel gives out (it counts from 1), far below the end of its 31 bits.
_FIRST_INDEX, _LAST_INDEX = 0x4000_0000, 0x7000_0000


class KernelError(OSError):
    """The kernel's refusal: errno, and its own words (NETLINK_EXT_ACK) when it has some.

    `position` is that of the refused request among those sent together.
    """

    def __init__(self, code: int, text: str, position: int = 0) -> None:
        super().__init__(code, text)
        self.position = position


class Netlink:
    """`Kernel` on the real one; an async context manager. `netns` is a name under /run/netns, None for our own."""

    def __init__(self, netns: str | None = None) -> None:
        self._netns = netns
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="netlink")
        self._socket: socket.socket | None = None
        self._sequence = 0

    async def __aenter__(self) -> Self:
        await self._run(self._open)
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._socket is not None:
            self._socket.close()
        self._worker.shutdown(wait=False)

    async def observe(self, names: Iterable[str] | None = None, *, addresses_of: str | None = None) -> Links:
        wanted = None if names is None else frozenset(names)
        try:
            return await self._run(self._observe, wanted, addresses_of)
        except OSError as exc:
            raise _failed(exc, "observe", addresses_of or "") from exc

    async def apply(self, step: Step, indexes: MutableMapping[str, int]) -> Step:
        device = step.after.name if isinstance(step, SetLink) else step.link.name
        try:
            return await self._run(self._apply, step, indexes)
        except OSError as exc:
            raise _failed(exc, step.command, device) from exc

    async def event_socket(self, groups: int) -> socket.socket:
        """A socket bound to multicast `groups`, made in this namespace, non-blocking; the caller closes it."""
        return await self._run(_open_socket, groups)

    async def _run(self, work: Callable[[Unpack[Arguments]], T], *arguments: *Arguments) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work, *arguments)

    # What follows runs in the worker thread.

    def _open(self) -> None:
        if self._netns is not None:
            # setns() needs a thread of its own file-system and network view; this thread serves this namespace alone.
            pyroute2_netns.setns(self._netns)
        self._socket = _open_socket(0)
        self._socket.settimeout(_ANSWER_SECONDS)

    def _observe(self, names: frozenset[str] | None, addresses_of: str | None) -> Links:
        raw = self._dump_links() if names is None else self._named_links(names)
        by_index = {item.link.index: item.link.name for item in raw}
        links: dict[str, Link] = {}
        for item in raw:
            master, parent = by_index.get(item.master_index), by_index.get(item.parent_index)
            links[item.link.name] = replace(item.link, master=master, parent=parent)
        if addresses_of in links:
            link = links[addresses_of]
            links[link.name] = replace(link, addresses=self._addresses(link.index))
        return links

    def _named_links(self, names: frozenset[str]) -> list[parse.RawLink]:
        """The named links, then their masters and parents, then the ports of the bridges: costs nothing for links
        that do not matter, however many the host has."""
        fitting = sorted(name for name in names if 0 < len(name) <= MAX_NAME)  # no link has a longer one
        found = {item.link.index: item for name in fitting for item in self._get_link(name=name)}
        missing = {item.master_index for item in found.values()} | {item.parent_index for item in found.values()}
        for index in missing - found.keys() - {0}:
            found.update({item.link.index: item for item in self._get_link(index=index)})
        for bridge in [item.link for item in found.values() if item.link.kind == BRIDGE and item.link.name in names]:
            found.update({item.link.index: item for item in self._dump_links(master=bridge.index)})
        return list(found.values())

    def _get_link(self, *, name: str | None = None, index: int = 0) -> list[parse.RawLink]:
        attributes: list[tuple[str, Any]] = [("IFLA_EXT_MASK", _SKIP_STATS)]
        if name is not None:
            attributes.append(("IFLA_IFNAME", name))
        try:
            answers = self._ask(_encode(_RTM_GETLINK, 0, index=index, attributes=attributes))
        except KernelError as exc:
            if exc.errno == errno.ENODEV:
                return []
            raise
        return [parse.parse_link(answer.body) for answer in answers]

    def _dump_links(self, master: int = 0) -> list[parse.RawLink]:
        attributes: list[tuple[str, Any]] = [("IFLA_EXT_MASK", _SKIP_STATS)]
        if master:
            attributes.append(("IFLA_MASTER", master))
        found = [parse.parse_link(body) for body in self._dump(_encode(_RTM_GETLINK, _DUMP, attributes=attributes))]
        # Filters of dumps are ignored by old kernels: filter again.
        return [item for item in found if not master or item.master_index == master]

    def _addresses(self, index: int) -> tuple[str, ...]:
        request = struct.pack("=IHHIIBBBBi", 24, _RTM_GETADDR, _REQUEST | _DUMP, 0, 0, 0, 0, 0, 0, index)
        found = [parse.parse_address(body) for body in self._dump(bytearray(request))]
        return tuple(sorted(item[1] for item in found if item is not None and item[0] == index))

    def _dump(self, request: bytearray) -> list[bytes]:
        for _ in range(_DUMP_ATTEMPTS):
            answers = self._ask(request)
            if not any(answer.flags & parse.NLM_F_DUMP_INTR for answer in answers):
                return [answer.body for answer in answers]
        raise KernelError(errno.EINTR, "the links change faster than they can be read")

    def _apply(self, step: Step, indexes: MutableMapping[str, int]) -> Step:
        match step:
            case AddLink(link):
                link = replace(link, index=self._free_index())
                self._create(link, indexes)
                indexes[link.name] = link.index
                return AddLink(link)
            case SetLink():
                self._ask(*_change(step, indexes))
            case DelLink(link):
                self._ask(_encode(_RTM_DELLINK, _ACK, index=link.index))
                indexes.pop(link.name, None)
        return step

    def _free_index(self) -> int:
        """Asked for, not trusted to chance: if it were taken, the mark would land on whoever has it."""
        index = 0
        while not index or self._get_link(index=index):
            index = random.randrange(_FIRST_INDEX, _LAST_INDEX)
        return index

    def _create(self, link: Link, indexes: MutableMapping[str, int]) -> None:
        try:
            self._ask(*_creation(link, indexes))
        except KernelError as exc:
            if exc.position > 0:  # made but not marked: nobody would ever take it away
                self._ask(_encode(_RTM_DELLINK, _ACK, index=link.index))
            raise

    def _ask(self, *requests: bytearray) -> list[parse.Message]:
        """Send the requests in one system call, return what answers them; raise the first refusal."""
        assert self._socket is not None
        waiting: dict[int, int] = {}  # sequence number -> position
        for position, request in enumerate(requests):
            self._sequence = (self._sequence + 1) & 0xFFFFFFFF
            struct.pack_into("=I", request, 8, self._sequence)
            waiting[self._sequence] = position
        self._socket.send(b"".join(requests))
        answers: list[parse.Message] = []
        refusal: KernelError | None = None
        while waiting:
            for message in parse.messages(self._socket.recv(_DATAGRAM_BYTES)):
                if message.sequence not in waiting:
                    continue  # the rest of an answer that an earlier request did not wait for
                if message.kind in {parse.NLMSG_ERROR, parse.NLMSG_DONE}:
                    code, text = parse.error_of(message)
                    position = waiting.pop(message.sequence)
                    if code and refusal is None:
                        refusal = KernelError(code, text or os.strerror(code), position)
                    continue
                answers.append(message)
                if not message.flags & parse.NLM_F_MULTI:
                    waiting.pop(message.sequence)
        if refusal is not None:
            raise refusal
        return answers


def _creation(link: Link, indexes: MutableMapping[str, int]) -> Iterator[bytearray]:
    """Two messages in one send: the creation, and the mark, which the kernel ignores at creation.

    Both name the index that we chose. If the name is taken the creation fails (EEXIST) and so does the mark (ENODEV);
    by name it would have marked the stranger.
    """
    mtu = link.mtu
    data: list[tuple[str, Any]] = []
    if link.kind == BRIDGE:
        # A bridge follows the MTU of its ports until its own was *changed* once (net/bridge/br_device.c,
        # br_change_mtu; the creation does not count, nor does setting what it is): create it with another.
        mtu += -1 if mtu > 1000 else 1
        data = [("IFLA_BR_FORWARD_DELAY", link.forward_delay or 0), ("IFLA_BR_STP_STATE", int(bool(link.stp)))]
    elif link.kind == VLAN:
        data = [("IFLA_VLAN_ID", link.vlan_id)]
    attributes: list[tuple[str, Any]] = [("IFLA_IFNAME", link.name), ("IFLA_MTU", mtu)]
    if link.mac:
        attributes.append(("IFLA_ADDRESS", link.mac))
    if link.parent:
        attributes.append(("IFLA_LINK", _index(link.parent, indexes)))
    if link.master:
        attributes.append(("IFLA_MASTER", _index(link.master, indexes)))
    attributes.append(("IFLA_LINKINFO", _info(link.kind, data)))
    yield _encode(_RTM_NEWLINK, _ACK | _CREATE_EXCL, index=link.index, up=link.up or None, attributes=attributes)
    mark: list[tuple[str, Any]] = [("IFLA_IFALIAS", link.alias or "")]
    if mtu != link.mtu:
        mark.append(("IFLA_MTU", link.mtu))
    yield _encode(_RTM_NEWLINK, _ACK, index=link.index, attributes=mark)


def _change(step: SetLink, indexes: MutableMapping[str, int]) -> Iterator[bytearray]:
    link, changed, index = step.after, step.changed, step.before.index
    if "stp" in changed:  # alone and first: while STP is on, the kernel takes no forward delay of 0
        info = _info(link.kind, [("IFLA_BR_STP_STATE", int(bool(link.stp)))])
        yield _encode(_RTM_NEWLINK, _ACK, index=index, attributes=[("IFLA_LINKINFO", info)])
    if "forward_delay" in changed:
        info = _info(link.kind, [("IFLA_BR_FORWARD_DELAY", link.forward_delay or 0)])
        yield _encode(_RTM_NEWLINK, _ACK, index=index, attributes=[("IFLA_LINKINFO", info)])
    attributes: list[tuple[str, Any]] = []
    if "mac" in changed:
        attributes.append(("IFLA_ADDRESS", link.mac))
    if "mtu" in changed:
        attributes.append(("IFLA_MTU", link.mtu))
    if "alias" in changed:
        attributes.append(("IFLA_IFALIAS", link.alias or ""))
    if "master" in changed:
        attributes.append(("IFLA_MASTER", _index(link.master, indexes) if link.master else 0))
    up = link.up if "up" in changed else None
    if attributes or up is not None:
        yield _encode(_RTM_NEWLINK, _ACK, index=index, up=up, attributes=attributes)


def _encode(
    kind: int, flags: int, *, index: int = 0, up: bool | None = None, attributes: list[tuple[str, Any]] | None = None
) -> bytearray:
    message = ifinfmsg()
    message["index"] = index
    message["flags"] = _IFF_UP if up else 0
    message["change"] = 0 if up is None else _IFF_UP
    message["attrs"] = attributes or []
    message["header"]["type"] = kind
    message["header"]["flags"] = _REQUEST | flags
    message.encode()
    return bytearray(message.data)


def _info(kind: str | None, data: list[tuple[str, Any]]) -> dict[str, Any]:
    return {"attrs": [("IFLA_INFO_KIND", kind), ("IFLA_INFO_DATA", {"attrs": data})]}


def _index(name: str, indexes: MutableMapping[str, int]) -> int:
    index = indexes.get(name, 0)
    if not index:
        raise KernelError(errno.ENODEV, f"{name} is not there")
    return index


def _open_socket(groups: int) -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_ROUTE)
    sock.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER_BYTES)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
    if not groups:
        sock.setsockopt(_SOL_NETLINK, _STRICT_CHECK, 1)
    sock.bind((0, groups))
    if groups:
        sock.setblocking(False)
    return sock


def _failed(exc: OSError, step: str, device: str) -> BackendFailed:
    name = errno.errorcode.get(exc.errno or 0, str(exc.errno))
    text = f"{step}: {exc.strerror or exc} ({name})"
    return BackendFailed(text, step=step, device=device, errno=exc.errno, error=name)
