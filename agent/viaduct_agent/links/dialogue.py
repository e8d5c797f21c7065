"""Questions and answers on one rtnetlink socket; blocking, for the worker thread."""

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from viaduct_agent.links import encode, parse
from viaduct_agent.links.requests import KernelError

T = TypeVar("T")
_NETLINK_ROUTE = 0
_SOL_NETLINK, _CAP_ACK, _EXT_ACK, _STRICT_CHECK = 270, 10, 11, 12
_SO_RCVBUFFORCE, _SO_SNDBUFFORCE = 33, 32
_RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024
_SEND_BUFFER_BYTES = 1024 * 1024
_DATAGRAM_BYTES = 256 * 1024
_DUMP_ATTEMPTS = 5


class Dialogue:
    """Requests are numbered; every one is answered by messages of its number and an end."""

    def __init__(self, sock: socket.socket, answer_seconds: float) -> None:
        sock.settimeout(answer_seconds)
        self._socket = sock
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def tell(self, requests: Sequence[bytearray]) -> list[KernelError | None]:
        """Send them in one system call; the kernel's word on each: done, or why not. It goes on after a refusal."""
        outcomes: list[KernelError | None] = [None] * len(requests)
        waiting = self._send(requests)
        while waiting:
            for message in parse.messages(self._socket.recv(_DATAGRAM_BYTES)):
                position = waiting.get(message.sequence)
                if position is None or message.kind != parse.NLMSG_ERROR:
                    continue  # the rest of an answer that an earlier request did not wait for
                code, text = parse.error_of(message)
                if code:
                    outcomes[position] = KernelError(code, text or os.strerror(code))
                del waiting[message.sequence]
        return outcomes

    def ask(self, requests: Sequence[bytearray]) -> list[list[bytes]]:
        """The bodies that answer each of a few requests for one thing; none for a thing that is not there.

        Raises:
            KernelError: refused for another reason.
        """
        answers: list[list[bytes]] = [[] for _ in requests]
        refusal: KernelError | None = None
        waiting = self._send(requests)
        while waiting:
            for message in parse.messages(self._socket.recv(_DATAGRAM_BYTES)):
                position = waiting.get(message.sequence)
                if position is None:
                    continue
                if message.kind == parse.NLMSG_ERROR:
                    code, text = parse.error_of(message)
                    if code not in {0, errno.ENODEV}:
                        refusal = KernelError(code, text or os.strerror(code))
                else:
                    answers[position].append(message.body)
                del waiting[message.sequence]
        if refusal is not None:
            raise refusal
        return answers

    def dump(self, request: bytearray) -> list[bytes]:
        """The bodies of a dump; begun anew if what is dumped changed meanwhile.

        Raises:
            KernelError: refused, or it changes faster than it can be read.
        """
        return self.digest(request, lambda bodies: bodies)

    def digest(self, request: bytearray, work: Callable[[list[bytes]], Iterable[T]]) -> list[T]:
        """What `work` makes of the bodies of a dump. It gets them as they come, some at a time: while they are in the
        processor's cache, and before memory for all of them is needed. Raises what `dump` does."""
        for _ in range(_DUMP_ATTEMPTS):
            found, interrupted = self._digest_once(request, work)
            if not interrupted:
                return found
        raise KernelError(errno.EINTR, "the links change faster than they can be read")

    def _digest_once(self, request: bytearray, work: Callable[[list[bytes]], Iterable[T]]) -> tuple[list[T], bool]:
        found: list[T] = []
        flags = 0
        (sequence,) = self._send([request])
        end: parse.Message | None = None
        while end is None:
            bodies: list[bytes] = []
            more, end = parse.gather(self._socket.recv(_DATAGRAM_BYTES), sequence, bodies)
            flags |= more
            found += work(bodies)
        code, text = parse.error_of(end)
        if code:
            raise KernelError(code, text or os.strerror(code))
        return found, bool(flags & parse.NLM_F_DUMP_INTR)

    def _send(self, requests: Sequence[bytearray]) -> dict[int, int]:
        waiting: dict[int, int] = {}  # sequence number -> position
        for position, request in enumerate(requests):
            self._sequence = (self._sequence + 1) & 0xFFFFFFFF
            struct.pack_into("=I", request, encode.SEQUENCE_OFFSET, self._sequence)
            waiting[self._sequence] = position
        if requests:
            self._socket.send(b"".join(requests))
        return waiting


def open_socket(groups: int) -> socket.socket:
    """An rtnetlink socket; with multicast `groups` a non-blocking one that hears them."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_ROUTE)
    sock.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)
    sock.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)  # an error without the request that it is about
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER_BYTES)
        sock.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SEND_BUFFER_BYTES)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    if not groups:
        sock.setsockopt(_SOL_NETLINK, _STRICT_CHECK, 1)
    sock.bind((0, groups))
    if groups:
        sock.setblocking(False)
    return sock
