"""The kernel over rtnetlink: one socket, one worker thread.

RTNL is one lock in the kernel, so a second socket or thread would bring nothing. The thread keeps the event loop free
while the kernel works (25 ms for each device deleted), and is the only one that ever enters another namespace.
Messages are encoded and parsed by hand, see `encode` and `parse`: Python is what would take most of the time.
"""

import asyncio
import socket
from collections.abc import Callable, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar, TypeVarTuple, Unpack

from pyroute2 import netns as pyroute2_netns

from viaduct_agent.links.dialogue import Dialogue, open_socket
from viaduct_agent.links.kernel import EVERYTHING, Applied, Look
from viaduct_agent.links.looking import look_at
from viaduct_agent.links.making import apply_plans
from viaduct_agent.links.model import Step
from viaduct_agent.links.requests import as_failure
from viaduct_agent.links.table import LinkTable

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")
_ANSWER_SECONDS = 30.0  # the kernel answers inside sendmsg; a socket that says nothing for so long is broken


class Netlink:
    """`Kernel` on the real one; an async context manager. `netns` is a name under /run/netns, None for our own."""

    def __init__(self, netns: str | None = None) -> None:
        self._netns = netns
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="netlink")
        self._dialogue: Dialogue | None = None

    async def __aenter__(self) -> Self:
        await self.run(self._open)
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._dialogue is not None:
            self._dialogue.close()
        self._worker.shutdown(wait=False)

    async def observe(self, look: Look = EVERYTHING) -> LinkTable:
        try:
            return await self.run(look_at, self._speaking(), look)
        except OSError as exc:
            raise as_failure(exc, "observe", ", ".join(sorted(look.names or ()))) from exc

    async def apply(self, plans: Sequence[Sequence[Step]], indexes: MutableMapping[str, int]) -> list[Applied]:
        try:
            return await self.run(apply_plans, self._speaking(), plans, indexes)
        except OSError as exc:
            raise as_failure(exc, "apply", "") from exc

    async def event_socket(self, groups: int) -> socket.socket:
        """A socket bound to multicast `groups`, made in this namespace, non-blocking; the caller closes it."""
        return await self.run(open_socket, groups)

    async def stream_socket(self, family: int) -> socket.socket:
        """A TCP socket made in this namespace, non-blocking; the caller closes it."""
        return await self.run(_stream_socket, family)

    async def converse(self, work: Callable[[Dialogue, Unpack[Arguments]], T], *arguments: *Arguments) -> T:
        """Ask the kernel other things than `observe` and `apply` do; raises what `work` does."""
        return await self.run(work, self._speaking(), *arguments)

    async def run(self, work: Callable[[Unpack[Arguments]], T], *arguments: *Arguments) -> T:
        """Do some blocking work in the worker thread, in this namespace."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, work, *arguments)

    def _speaking(self) -> Dialogue:
        if self._dialogue is None:
            raise RuntimeError("not open: use it as a context manager")
        return self._dialogue

    def _open(self) -> None:
        """In the worker thread, as all work."""
        if self._netns is not None:
            # setns() needs a thread of its own file-system and network view; this thread serves this namespace alone.
            pyroute2_netns.setns(self._netns)
        self._dialogue = Dialogue(open_socket(0), _ANSWER_SECONDS)


def _stream_socket(family: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    sock.setblocking(False)
    return sock
