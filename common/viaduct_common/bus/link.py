"""One supervised connection: connect, set up, watch; at any trouble close it and begin again."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import aio_pika
import aiormq.exceptions
import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection
from yarl import URL

from viaduct_common.bus.tap import Inlet, TappedConnection
from viaduct_common.telemetry import CONNECTED

log = structlog.get_logger()

# All that aio-pika raises when a broker, a socket or a channel went away under it.
AMQP_FAILURES = aio_pika.exceptions.CONNECTION_EXCEPTIONS
REFUSALS = (
    aio_pika.exceptions.AuthenticationError,
    aio_pika.exceptions.ProbableAuthenticationError,
)
# The broker's process for our channel or connection died of something that we, or others on it, had sent.
BROKER_CRASHED = (aiormq.exceptions.ConnectionInternalError,)
# A peer counts as stuck after about three of these (aiormq): half a minute instead of its default's three.
HEARTBEAT_SECONDS = 10
CONNECT_SECONDS = 15.0
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0


@contextmanager
def broker_failures() -> Iterator[None]:
    """Give two failures of aiormq a name, so that AMQP_FAILURES has them all.

    When a channel goes away, aiormq ends what waits for it with a bare `Exception` if it knows no reason, or with a
    CancelledError. The second looks as if somebody had cancelled our own task; nobody has, if it says so itself.
    """
    try:
        yield
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise ConnectionError("the channel went away") from error
    except Exception as error:
        if type(error) is not Exception:
            raise
        raise ConnectionError("the channel went away without a reason") from error


Setup = Callable[[TappedConnection], Awaitable[None]]


class Link:
    """Keeps one connection up for as long as it is started.

    `up` is set while the connection stands and its set-up has succeeded; `trouble` is the last reason why not.
    """

    def __init__(self, address: URL, name: str, setup: Setup, *, heartbeat_seconds: int = HEARTBEAT_SECONDS) -> None:
        self.address = address.update_query(heartbeat=heartbeat_seconds)
        self._name = name
        self._setup = setup
        self._broken: asyncio.Future[str] | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._stopping = False
        self.connection: TappedConnection | None = None
        self.up = asyncio.Event()
        # The broker said no to the credentials or the vhost. It is tried again all the same: they may be made yet.
        self.refused = asyncio.Event()
        self.trouble: str | None = None

    def start(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self._supervisor = tasks.create_task(self._supervise(), name=self._name)

    async def stop(self) -> None:
        self._stopping = True
        while self._supervisor is not None and not self._supervisor.done():
            # Again and again: aiormq swallows a cancellation that comes while a login is being refused.
            self._supervisor.cancel()
            await asyncio.wait({self._supervisor}, timeout=1)
        await self._close()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a callback beside the supervisor, so that it may use the link itself."""
        assert self._tasks is not None
        self._tasks.create_task(_logged(work, self._name))

    def reset(self, reason: str) -> None:
        """Close the connection and make a new one. From this moment the link counts as down."""
        if self._broken is not None and not self._broken.done():
            self.up.clear()
            self._broken.set_result(reason)

    def watch(self, channel: AbstractChannel, inlet: Inlet) -> Callable[[], None]:
        """A channel that closes by itself breaks the link: it is easier to begin again than to mend.

        Returns what ends the watch, to be called before closing the channel on purpose.
        """

        def on_close(_channel: AbstractChannel | None, error: BaseException | None) -> None:
            inlet.on_lost(error)
            self.reset(f"a channel was closed: {error!r}")

        channel.close_callbacks.add(on_close)
        return lambda: channel.close_callbacks.discard(on_close)

    async def run_now(self, setup: Setup) -> None:
        """Run a set-up on the present connection; without one, or when it fails, the supervisor will run it."""
        if self.connection is None or not self.up.is_set():
            return
        try:
            await setup(self.connection)
        except AMQP_FAILURES as error:
            self.reset(repr(error))

    async def _supervise(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while not self._stopping:
            try:
                await self._connect()
                pause = FIRST_PAUSE_SECONDS
                assert self._broken is not None
                self.trouble = await self._broken
                log.warning("broker_connection_lost", link=self._name, reason=self.trouble)
            except (TimeoutError, *AMQP_FAILURES) as error:
                self.trouble = repr(error)
                if isinstance(error, REFUSALS):
                    self.refused.set()
                log.warning("broker_connection_failed", link=self._name, reason=self.trouble, pause_seconds=pause)
            await self._close()
            # Full jitter: ten thousand agents must not come back in the same second.
            await asyncio.sleep(random.uniform(pause / 2, pause))
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def _connect(self) -> None:
        self._broken = asyncio.get_running_loop().create_future()
        async with asyncio.timeout(CONNECT_SECONDS):
            with broker_failures():
                connection = TappedConnection(self.address, client_properties={"connection_name": self._name})
                # Before it stands, so that it is closed also if it never does: aio-pika closes what is forgotten from
                # the garbage collector, in whatever thread that runs.
                self.connection = connection
                await connection.connect(timeout=CONNECT_SECONDS)

                def on_close(_connection: AbstractConnection | None, error: BaseException | None) -> None:
                    self.reset(f"the connection was closed: {error!r}")

                connection.close_callbacks.add(on_close)
                await self._setup(connection)
        if self._broken.done():
            raise ConnectionError(self._broken.result())
        self.up.set()
        self.refused.clear()
        self.trouble = None
        CONNECTED.labels(self._name).set(1)
        log.info("broker_connected", link=self._name)

    async def _close(self) -> None:
        self.up.clear()
        CONNECTED.labels(self._name).set(0)
        connection, self.connection = self.connection, None
        if connection is not None:
            with suppress(TimeoutError, *AMQP_FAILURES):
                async with asyncio.timeout(5):
                    with broker_failures():
                        await connection.close()


async def _logged(work: Coroutine[Any, Any, None], name: str) -> None:
    """A callback that fails must not take the process down; what it wanted to say is said at the next connect."""
    try:
        await work
    except Exception:
        log.exception("connect_callback_failed", link=name)
