"""The thread that speaks with ovsdb-server: the library is made for a poll loop of its own and may block a little.

    submit ──► queue ──► one round: read, answer looks, send transactions, see who is done ──► futures
                  ▲                                                                 │
               wake pipe                                              told(Changed) ┘

It connects when there is something to do, and keeps connected while somebody listens for changes.
"""

import os
import queue
import select
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import structlog

from viaduct_agent.links.watch import Changed
from viaduct_agent.ovs.operations import Operation
from viaduct_common.errors import BackendFailed, PreconditionFailed, ViaductError

if TYPE_CHECKING:  # at run time it is imported when it is needed: a host without Open vSwitch has no such library
    from viaduct_agent.ovs.replica import Replica

log = structlog.get_logger()
_RETRY_SECONDS = 1.0
_FIRST_RETRY_SECONDS = 10.0  # most hosts that have none never will
_PATIENCE_MS = 200  # to look whether the server still keeps us waiting


@dataclass(frozen=True, slots=True)
class Look:
    """Read something; `future` gets what `read` returns."""

    read: Callable[["Replica"], Any]
    future: Future[Any]


@dataclass(frozen=True, slots=True)
class Change:
    """Send one transaction; `future` is done when ovs-vswitchd has taken it over, or with `settle` unset when the
    database has it."""

    operations: list[Operation]
    settle: bool
    future: Future[None]


Job: TypeAlias = Look | Change


@dataclass(slots=True)
class _Sent:
    change: Change
    transaction: Any
    awaited_cfg: int | None = None


class Worker(threading.Thread):
    """`told` is called in this thread, with what changed; `listening` tells whether anybody wants to know."""

    def __init__(self, path: Path, told: Callable[[Changed], None], *, answer_seconds: float) -> None:
        super().__init__(name="ovsdb", daemon=True)
        self._path = path
        self._told = told
        self._answer_seconds = answer_seconds
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._closing = False
        self._replica: Replica | None = None
        self._opened_at = 0.0
        self._greeted = False  # of this connection its readiness was told
        self._connected_once = False
        self._sent: list[_Sent] = []
        self.listening = False

    def submit(self, job: Job) -> None:
        self._jobs.put(job)
        self.wake()

    def wake(self) -> None:
        try:
            self._wake_write.send(b"x")
        except BlockingIOError:
            return  # it has plenty to wake up for

    def close(self) -> None:
        """Make it end; jobs that are not done never will be."""
        self._closing = True
        self.wake()

    def run(self) -> None:
        try:
            while not self._closing:
                try:
                    self._round()
                except Exception:  # a new connection starts from nothing: whatever it was, it is left behind
                    log.exception("ovsdb_crashed")
                    self._drop("the client crashed")
                self._block()
        finally:
            self._drop("the agent is stopping")
            self._wake_read.close()
            self._wake_write.close()

    # ---- one round -------------------------------------------------------------------------------------------

    def _round(self) -> None:
        if self._replica is None and (self.listening or not self._jobs.empty()):
            self._connect()
        replica = self._replica
        if replica is None:
            return
        replica.run()
        if replica.lost:
            self._drop("the connection was lost")
        elif replica.ready:
            self._serve(replica)
        elif time.monotonic() > self._opened_at + self._answer_seconds:
            self._drop("it does not answer")

    def _connect(self) -> None:
        self._opened_at = time.monotonic()
        self._greeted = False
        try:
            from viaduct_agent.ovs.replica import Replica  # noqa: PLC0415 # see the top

            self._replica = Replica(self._path, self._answer_seconds)
        except ImportError as exc:
            self._refuse(f"this host has no library to speak with Open vSwitch (`viaduct[ovs]`): {exc}", absent=True)
        except (OSError, ValueError) as exc:
            reason = os.strerror(exc.errno) if isinstance(exc, OSError) and exc.errno else str(exc)
            absent = isinstance(exc, FileNotFoundError) and not self._connected_once
            self._refuse(f"Open vSwitch is not there: {self._path}: {reason}", absent=absent)
        except ViaductError as exc:
            self._refuse(exc.message, **exc.details)

    def _serve(self, replica: "Replica") -> None:
        if not self._greeted:
            self._greeted = True
            log.info("ovsdb_connected", socket=str(self._path))
            if self._connected_once:  # this is a reconnect: whatever was missed meanwhile
                self._told(Changed(overflow=True))
            self._connected_once = True
        elif replica.changed_names or replica.changed_owners:
            self._told(Changed(frozenset(replica.changed_names), frozenset(replica.changed_owners)))
        replica.changed_names.clear()
        replica.changed_owners.clear()
        while not self._jobs.empty():
            job = self._jobs.get()
            if job.future.set_running_or_notify_cancel():
                self._start(replica, job)
        # Last: what could not even be sent has ended already, and nothing would wake us for it.
        self._sent = [sent for sent in self._sent if not self._is_done(replica, sent)]

    def _start(self, replica: "Replica", job: Job) -> None:
        try:
            match job:
                case Look(read, future):
                    future.set_result(read(replica))
                case Change():
                    self._sent.append(_Sent(job, replica.transaction(job.operations)))
        except Exception as exc:  # whoever asked gets it; the thread serves others, too
            job.future.set_exception(exc)

    def _is_done(self, replica: "Replica", sent: _Sent) -> bool:
        from viaduct_agent.ovs.replica import outcome  # noqa: PLC0415 # see the top

        try:
            if sent.awaited_cfg is None:
                sent.awaited_cfg = outcome(sent.transaction)
            if sent.awaited_cfg is None or (sent.change.settle and replica.cur_cfg < sent.awaited_cfg):
                return False
        except Exception as exc:
            sent.change.future.set_exception(exc)
        else:
            sent.change.future.set_result(None)
        return True

    # ---- the end of a connection -----------------------------------------------------------------------------

    def _drop(self, reason: str) -> None:
        if self._replica is not None:
            self._replica.close()
            self._replica = None
            log.warning("ovsdb_disconnected", socket=str(self._path), reason=reason)
        for sent in self._sent:
            text = f"Open vSwitch went away before it was done: {self._path}: {reason}"
            sent.change.future.set_exception(BackendFailed(text, socket=str(self._path)))
        self._sent.clear()
        self._refuse(f"Open vSwitch is not there: {self._path}: {reason}")

    def _refuse(self, text: str, **details: Any) -> None:
        """Answer all who wait for a connection."""
        while not self._jobs.empty():
            job = self._jobs.get()
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(PreconditionFailed(text, socket=str(self._path), **details))

    def _block(self) -> None:
        """Until the server says something, somebody wants something, or it is time to connect again."""
        if self._replica is not None:
            from ovs.poller import Poller  # noqa: PLC0415 # see the top

            poller = Poller()
            self._replica.wait(poller)
            poller.fd_wait(self._wake_read.fileno(), select.POLLIN)
            if not self._replica.ready:
                poller.timer_wait(_PATIENCE_MS)
            poller.block()
        else:
            pause = _RETRY_SECONDS if self._connected_once else _FIRST_RETRY_SECONDS
            select.select([self._wake_read], [], [], pause if self.listening else None)
        try:
            while self._wake_read.recv(4096):
                continue
        except BlockingIOError:
            return
