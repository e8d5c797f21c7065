"""Whether the host is still reached: its gateways, and the broker. Asked before and after its addresses are moved."""

import asyncio
import contextlib
import errno
import socket
from dataclasses import dataclass
from typing import Protocol

from viaduct_agent.links import requests
from viaduct_agent.links.dialogue import Dialogue
from viaduct_agent.links.netlink import Netlink
from viaduct_agent.links.parse import parse_link
from viaduct_agent.links.parse_entries import parse_neighbour_state

_POLL_SECONDS = 0.05
_CONNECT_SECONDS = 1.0
_NUD_NONE, _NUD_REACHABLE, _NUD_FAILED = 0x00, 0x02, 0x20
_KNOWN = 0x02 | 0x04 | 0x08 | 0x10  # reachable, stale, delay, probe
_FIXED = 0x40 | 0x80  # noarp, permanent: there is nobody to ask


@dataclass(frozen=True, slots=True)
class Target:
    """Somebody who may answer: a gateway (`port` 0), asked by ARP or ND, or a broker, asked for a TCP connection."""

    address: str
    port: int = 0

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address and self.port else self.address
        return f"broker {host}:{self.port}" if self.port else f"gateway {host}"


class Prober(Protocol):
    """Tells who answers; changes nothing."""

    async def targets(self, gateways: frozenset[str]) -> frozenset[Target]:
        """The gateways (IP addresses), and whatever else must not be lost."""
        ...

    async def answering(self, device: str, targets: frozenset[Target], seconds: float) -> frozenset[Target]:
        """Those that answer within `seconds`; returns as soon as all do. Gateways are neighbours on `device`."""
        ...


class NetworkProber:
    """On the real network, in the namespace of `netlink`. Needs no more than CAP_NET_ADMIN: the kernel itself is made
    to ask for neighbours (ip-neighbour(8), `use` and `nud probe`)."""

    def __init__(self, netlink: Netlink, broker: tuple[str, int] | None) -> None:
        self._netlink = netlink
        self._broker = broker

    async def targets(self, gateways: frozenset[str]) -> frozenset[Target]:
        found = {Target(gateway) for gateway in gateways}
        if self._broker is not None:
            host, port = self._broker
            with contextlib.suppress(OSError, TimeoutError):  # a name that nobody resolves now is no loss later
                async with asyncio.timeout(_CONNECT_SECONDS):
                    infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
                found |= {Target(str(info[4][0]), port) for info in infos}
        return frozenset(found)

    async def answering(self, device: str, targets: frozenset[Target], seconds: float) -> frozenset[Target]:
        answered: set[Target] = set()

        async def ask(target: Target) -> None:
            await (self._connected(target) if target.port else self._resolved(device, target.address))
            answered.add(target)

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as tasks:
                for target in targets:
                    tasks.create_task(ask(target))
        return frozenset(answered)

    async def _connected(self, target: Target) -> None:
        """Return when a connection stands; a refusal tells that nobody is there who serves."""
        family = socket.AF_INET6 if ":" in target.address else socket.AF_INET
        while True:
            sock = await self._netlink.stream_socket(family)
            try:
                async with asyncio.timeout(_CONNECT_SECONDS):
                    await asyncio.get_running_loop().sock_connect(sock, (target.address, target.port))
                return
            except (OSError, TimeoutError):
                await asyncio.sleep(_POLL_SECONDS)
            finally:
                sock.close()

    async def _resolved(self, device: str, address: str) -> None:
        """Return when the neighbour has answered a question asked from now on: what is known already is no answer."""
        asked = False
        while True:
            with contextlib.suppress(OSError):
                state = await self._netlink.converse(neighbour_state, device, address)
                if state & _FIXED or (asked and state == _NUD_REACHABLE):
                    return
                if not asked or state in {_NUD_NONE, _NUD_FAILED}:
                    await self._netlink.converse(ask_neighbour, device, address, bool(state & _KNOWN))
                    asked = True
            await asyncio.sleep(_POLL_SECONDS)


def neighbour_state(dialogue: Dialogue, device: str, address: str) -> int:
    """Its `NUD_` state; 0 for one that is not known.

    Raises:
        KernelError: the kernel refused, or the device is gone.
    """
    try:
        (bodies,) = dialogue.ask([requests.get_neighbour(_index(dialogue, device), address)])
    except requests.KernelError as exc:
        if exc.errno == errno.ENOENT:
            return _NUD_NONE
        raise
    return parse_neighbour_state(bodies[0]) if bodies else _NUD_NONE


def ask_neighbour(dialogue: Dialogue, device: str, address: str, known: bool) -> None:
    """`ip neighbour replace ADDRESS dev DEVICE use`, or of a known one `nud probe`. Raises `KernelError`."""
    (refusal,) = dialogue.tell([requests.ask_neighbour(_index(dialogue, device), address, known=known)])
    if refusal is not None:
        raise refusal


def _index(dialogue: Dialogue, device: str) -> int:
    (bodies,) = dialogue.ask([requests.get(device, 0)])
    if not bodies:
        raise requests.KernelError(errno.ENODEV, f"{device} is not there")
    return parse_link(bodies[0]).link.index
