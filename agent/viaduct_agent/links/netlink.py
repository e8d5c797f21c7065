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
from collections.abc import Callable, Iterable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import Self, TypeVar, TypeVarTuple, Unpack

from pyroute2 import netns as pyroute2_netns
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from viaduct_agent.links import parse, requests
from viaduct_agent.links.model import BRIDGE, AddLink, DelLink, Link, Links, SetLink, Step
from viaduct_agent.links.requests import KernelError, LinkRequest
from viaduct_common.errors import BackendFailed
from viaduct_common.naming import MAX_NAME

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")
_NETLINK_ROUTE = 0
_SOL_NETLINK, _EXT_ACK, _STRICT_CHECK = 270, 11, 12
_SO_RCVBUFFORCE = 33
_RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024
_DATAGRAM_BYTES = 256 * 1024
_ANSWER_SECONDS = 30.0  # the kernel answers inside sendmsg; a socket that says nothing for so long is broken
_IFF_UP = 1
_DUMP_ATTEMPTS = 5
# Far above what the kernel gives out (it counts from 1), far below the end of its 31 bits.
_FIRST_INDEX, _LAST_INDEX = 0x4000_0000, 0x7000_0000


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
        try:
            answers = self._ask(_encode(requests.get(name, index)))
        except KernelError as exc:
            if exc.errno == errno.ENODEV:
                return []
            raise
        return [parse.parse_link(answer.body) for answer in answers]

    def _dump_links(self, master: int = 0) -> list[parse.RawLink]:
        found = [parse.parse_link(body) for body in self._dump(_encode(requests.dump(master)))]
        # Filters of dumps are ignored by old kernels: filter again.
        return [item for item in found if not master or item.master_index == master]

    def _addresses(self, index: int) -> tuple[str, ...]:
        found = [parse.parse_address(body) for body in self._dump(requests.dump_addresses(index))]
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
                self._ask(*map(_encode, requests.change(step, indexes)))
            case DelLink(link):
                self._ask(_encode(requests.deletion(link.index)))
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
            self._ask(*map(_encode, requests.creation(link, indexes)))
        except KernelError as exc:
            if exc.position > 0:  # made but not marked: nobody would ever take it away
                self._ask(_encode(requests.deletion(link.index)))
            raise

    def _ask(self, *encoded: bytearray) -> list[parse.Message]:
        """Send the requests in one system call, return what answers them; raise the first refusal."""
        assert self._socket is not None
        waiting: dict[int, int] = {}  # sequence number -> position
        for position, request in enumerate(encoded):
            self._sequence = (self._sequence + 1) & 0xFFFFFFFF
            struct.pack_into("=I", request, 8, self._sequence)
            waiting[self._sequence] = position
        self._socket.send(b"".join(encoded))
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


def _encode(request: LinkRequest) -> bytearray:
    message = ifinfmsg()
    message["index"] = request.index
    message["flags"] = _IFF_UP if request.up else 0
    message["change"] = 0 if request.up is None else _IFF_UP
    message["attrs"] = list(request.attributes)
    message["header"]["type"] = request.kind
    message["header"]["flags"] = request.flags
    message.encode()
    return bytearray(message.data)


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
