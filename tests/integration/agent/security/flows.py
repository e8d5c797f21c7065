"""Sending the first packets of many flows at once, and seeing which arrive."""

import contextlib
import selectors
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass

from viaduct_agent.services.security.verdicts import ICMP, ICMPV6, TCP, UDP, Flow

from .machines import Machine

FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_SECONDS = 5.0  # how long what should arrive may take on a busy machine
_QUIET_SECONDS = 0.1  # nothing more has come for so long after all that was expected: the rest was dropped


@dataclass(frozen=True)
class Try:
    """`port` is the target's; for ICMP it is an echo request."""

    protocol: int
    version: int
    source: Machine
    target: Machine
    port: int = 0

    def flow(self) -> Flow:
        ports = ({ICMP: 8, ICMPV6: 128}[self.protocol], 0) if self.protocol in {ICMP, ICMPV6} else (0, self.port)
        source, target = (self.source.ipv4, self.target.ipv4) if self.version == 4 else (
            self.source.ipv6, self.target.ipv6)  # fmt: skip
        return Flow(self.protocol, source, target, ports)


class Arena:
    """Servers for all ports on all machines, as long as it is open."""

    def __init__(self, machines: Sequence[Machine], ports: Sequence[int]) -> None:
        self._stack = contextlib.ExitStack()
        self._receivers: list[socket.socket] = []
        for machine in machines:
            for family in FAMILIES.values():
                for port in ports:
                    udp = self._stack.enter_context(machine.open(family, socket.SOCK_DGRAM))
                    tcp = self._stack.enter_context(machine.open(family, socket.SOCK_STREAM))
                    for sock in (udp, tcp):
                        if family == socket.AF_INET6:
                            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                        sock.setblocking(False)
                        sock.bind(("", port))
                    tcp.listen(4096)
                    self._receivers.append(udp)

    def close(self) -> None:
        self._stack.close()

    def arriving(self, tries: Sequence[Try], expected: set[Try]) -> set[Try]:
        """Those whose first packet is let through. What is expected is waited for."""
        found: set[Try] = set()
        with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
            for sock in self._receivers:
                selector.register(sock, selectors.EVENT_READ)
            for number, one in enumerate(tries):
                _send(number, one, stack, selector)
            end = time.monotonic() + _SECONDS
            while True:
                complete = expected <= found or time.monotonic() > end
                events = selector.select(_QUIET_SECONDS if complete else 0.2)
                if complete and not events:
                    return found
                for key, _ in events:
                    found |= _arrived(key, tries, selector)


def _send(number: int, one: Try, stack: contextlib.ExitStack, selector: selectors.BaseSelector) -> None:
    flow = one.flow()
    family = FAMILIES[one.version]
    if one.protocol in {ICMP, ICMPV6}:
        sock = stack.enter_context(one.source.open(family, socket.SOCK_RAW, one.protocol))
        sock.bind((str(flow.source), 0))
        sock.setblocking(False)
        echo = struct.pack("!BBHHH", flow.ports[0], 0, 0, number, 1) + b"\0\0"
        if one.protocol == ICMP:
            echo = echo[:2] + struct.pack("!H", _checksum(echo)) + echo[4:]
        selector.register(sock, selectors.EVENT_READ, number)
        sock.sendto(echo, (str(flow.target), 0))
        return
    kind = socket.SOCK_STREAM if one.protocol == TCP else socket.SOCK_DGRAM
    sock = stack.enter_context(one.source.open(family, kind))
    sock.setblocking(False)
    sock.bind((str(flow.source), 0))
    if one.protocol == UDP:
        sock.sendto(str(number).encode(), (str(flow.target), one.port))
    else:
        sock.connect_ex((str(flow.target), one.port))
        selector.register(sock, selectors.EVENT_WRITE, number)


def _arrived(key: selectors.SelectorKey, tries: Sequence[Try], selector: selectors.BaseSelector) -> set[Try]:
    sock = key.fileobj
    assert isinstance(sock, socket.socket)
    if key.data is None:
        return {tries[int(sock.recv(100))]}
    if tries[key.data].protocol == TCP:
        selector.unregister(sock)
        return {tries[key.data]} if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0 else set()
    answer = sock.recv(1000)
    if tries[key.data].version == 4:
        answer = answer[20:]
    is_ours = answer[0] in {0, 129} and int.from_bytes(answer[4:6], "big") == key.data
    return {tries[key.data]} if is_ours else set()


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF
