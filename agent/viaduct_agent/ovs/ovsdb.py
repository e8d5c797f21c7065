"""Open vSwitch's database for asyncio: the worker thread behind it is started by the first who needs it."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from viaduct_agent.links.watch import Changed
from viaduct_agent.ovs.model import Bridges, Step
from viaduct_agent.ovs.operations import operations
from viaduct_agent.ovs.worker import Change, Look, Worker
from viaduct_common.errors import BackendFailed, PreconditionFailed, ViaductError

ANSWER_SECONDS = 20.0  # a thousand networks at once take some five
_COALESCE_SECONDS = 0.08  # one `ovs-vsctl` command makes several events
_DEFAULT_RUNDIR = "/run/openvswitch"


def default_socket(environ: Mapping[str, str] = os.environ) -> Path:
    """Where ovsdb-server listens, found as Open vSwitch's own tools do."""
    return Path(environ.get("OVS_RUNDIR") or _DEFAULT_RUNDIR) / "db.sock"


@dataclass(slots=True)
class _Listener:
    """Changes since the listener last looked."""

    names: set[str] = field(default_factory=set)
    owners: set[UUID] = field(default_factory=set)
    overflow: bool = False
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, changed: Changed) -> None:
        self.names |= changed.names
        self.owners |= changed.owners
        self.overflow = self.overflow or changed.overflow
        self.news.set()

    def take(self) -> Changed:
        taken = Changed(frozenset(self.names), frozenset(self.owners), self.overflow)
        self.names.clear()
        self.owners.clear()
        self.overflow = False
        self.news.clear()
        return taken


class Ovsdb:
    """The database behind one socket. Methods raise `PreconditionFailed` when nobody answers there; its
    `details.absent` is true if, as far as this process knows, there never was an Open vSwitch.

    A lost connection is made anew by the next who needs it.
    """

    def __init__(self, path: Path, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._path = path
        self._answer_seconds = answer_seconds
        self._worker: Worker | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listeners: list[_Listener] = []

    async def aclose(self) -> None:
        """End the thread; what is running is given up."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()
            await asyncio.to_thread(worker.join)

    async def unavailable(self, kind: str) -> ViaductError | None:
        """Why no port of this type can be had here; None if it can."""
        try:
            supported = await self._look(lambda replica: replica.supports(kind))
        except ViaductError as exc:
            return exc
        return None if supported else PreconditionFailed(f"this Open vSwitch has no ports of type {kind}", kind=kind)

    async def observe(self, owner: UUID, names: Iterable[str] = ()) -> Bridges:
        """The bridges that have the owner's mark or a wanted name, or a port of which this is true."""
        wanted = frozenset(names)
        found: Bridges = await self._look(lambda replica: replica.observe(owner, wanted))
        return found

    async def marked(self) -> Mapping[UUID, int]:
        """The networks by their marks, each with its newest generation."""
        found: Mapping[UUID, int] = await self._look(lambda replica: replica.marked())
        return found

    async def transact(self, steps: Iterable[Step], *, settle: bool = True) -> None:
        """Do the steps, all or none, and wait until ovs-vswitchd has taken them over.

        Raises:
            Stale: the rows are no more as they were when the steps were planned; nothing was changed.
            Conflict: a name was taken meanwhile; nothing was changed.
            BackendFailed: refused, or ovs-vswitchd does not answer.
        """
        future: Future[None] = Future()
        self._running().submit(Change(operations(steps), settle, future))
        text = f"neither done nor refused in {self._answer_seconds:g} s: ovs-vswitchd does not answer"
        await self._answer(future, BackendFailed(text, socket=str(self._path)))

    async def changes(self) -> AsyncIterator[Changed]:
        """Yield what changed, events of 80 ms together, and an overflow after each reconnect; for ever."""
        worker = self._running()
        listener = _Listener()
        self._listeners.append(listener)
        worker.listening = True
        worker.wake()
        try:
            while True:
                await listener.news.wait()
                await asyncio.sleep(_COALESCE_SECONDS)
                yield listener.take()
        finally:
            self._listeners.remove(listener)
            worker.listening = bool(self._listeners)

    async def _look(self, read: Callable[[Any], Any]) -> Any:
        future: Future[Any] = Future()
        self._running().submit(Look(read, future))
        text = f"Open vSwitch is not there: {self._path}: it does not answer"
        return await self._answer(future, PreconditionFailed(text, socket=str(self._path)))

    async def _answer(self, future: Future[Any], silence: ViaductError) -> Any:
        try:
            async with asyncio.timeout(self._answer_seconds):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise silence from None

    def _running(self) -> Worker:
        if self._worker is None:
            self._loop = asyncio.get_running_loop()
            self._worker = Worker(self._path, self._told, answer_seconds=self._answer_seconds)
            self._worker.start()
        return self._worker

    def _told(self, changed: Changed) -> None:
        """Called in the worker's thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._hear, changed)

    def _hear(self, changed: Changed) -> None:
        for listener in self._listeners:
            listener.hear(changed)
