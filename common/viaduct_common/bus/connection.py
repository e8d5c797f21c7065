"""The bus of one process: one connection that publishes and calls, one that consumes.

    process                                      broker
      ├─ link "publish" ── channel, confirms ────► exchanges
      │                    └─ reply-to consumer ◄── answers to `call`
      └─ link "consume" ── channel per consumer ◄── queues

Two connections, because an alarm blocks a connection that publishes, and acks must get through all the same
(https://www.rabbitmq.com/docs/alarms).
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import UUID

import structlog
from aio_pika.abc import AbstractChannel
from yarl import URL

from viaduct_common.bus.alone import publish_alone
from viaduct_common.bus.calls import REPLY_TO, Calls
from viaduct_common.bus.consumer import Consumer, Handler
from viaduct_common.bus.declare import declare_shared
from viaduct_common.bus.envelope import Outgoing
from viaduct_common.bus.failures import BusError, PublishFailed, Unroutable
from viaduct_common.bus.link import AMQP_FAILURES, BROKER_CRASHED, HEARTBEAT_SECONDS, Link, broker_failures
from viaduct_common.bus.publisher import Publisher
from viaduct_common.bus.tap import TappedConnection, taken_by_the_inlet
from viaduct_common.messages.base import Request
from viaduct_common.telemetry import PUBLISHES

V = TypeVar("V")
log = structlog.get_logger()

CONFIRM_SECONDS = 10.0
_CONFIRMED, _RETURNED, _TIMED_OUT, _FAILED = (
    PUBLISHES.labels(outcome) for outcome in ("confirmed", "returned", "timeout", "failed")
)


class Bus:
    """Async context manager. Entering it does not wait for the broker: `ready` does.

    Args:
        url: `amqp://[user:password@]host:port/vhost`.
        name: shown as the connection's name in the broker's pages, and sent as `app_id`.
        username, password: instead of those in the URL, so that a secret need not stand in it.
        declares: declare the shared exchanges and queues at each connect (the services do; agents and clients have
            no right to), so that a broker rebuilt from nothing is furnished again.
        heartbeat_seconds: after about three of these a peer that says nothing counts as gone.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        username: str | None = None,
        password: str | None = None,
        declares: bool = False,
        heartbeat_seconds: int = HEARTBEAT_SECONDS,
    ) -> None:
        address = URL(url)
        if username is not None:
            address = address.with_user(username).with_password(password)
        self.name = name
        self.username = address.user
        self._publish_link = Link(
            address, f"{name} (publish)", self._open_publisher, heartbeat_seconds=heartbeat_seconds
        )
        self._consume_link = Link(
            address, f"{name} (consume)", self._open_consumers, heartbeat_seconds=heartbeat_seconds
        )
        self._declares = declares
        self._publisher: Publisher | None = None
        self._consumers: list[Consumer] = []
        self._calls = Calls(self._publish_within, self.username)
        self._on_connect: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self._tasks: asyncio.TaskGroup | None = None

    async def __aenter__(self) -> Self:
        self._tasks = asyncio.TaskGroup()
        await self._tasks.__aenter__()
        self._publish_link.start(self._tasks)
        self._consume_link.start(self._tasks)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._consume_link.stop()
        await self._publish_link.stop()
        assert self._tasks is not None
        await self._tasks.__aexit__(None, None, None)

    @property
    def connected(self) -> bool:
        return self._publish_link.up.is_set() and self._consume_link.up.is_set()

    async def ready(self, timeout_seconds: float = 30.0) -> None:
        """Wait until both connections stand and every consumer consumes.

        Raises:
            BusError: they do not within the time, or the broker refuses the login; the message says why.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                for link in (self._publish_link, self._consume_link):
                    if not await _first(link.up, link.refused):
                        raise BusError(f"the broker refuses the login of {self.username or 'nobody'}: {link.trouble}")
        except TimeoutError:
            trouble = self._publish_link.trouble or self._consume_link.trouble or "no answer"
            raise BusError(f"no connection to the broker within {timeout_seconds:g} s: {trouble}") from None

    def on_connect(self, callback: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `callback` each time that the consuming connection is up, also the first time."""
        self._on_connect.append(callback)

    # ---- publishing ------------------------------------------------------------------------------------------

    async def publish(self, message: Outgoing, *, timeout_seconds: float = CONFIRM_SECONDS) -> None:
        """Publish and wait for the broker's confirm.

        Raises:
            Unroutable: `mandatory` was set and no queue takes it.
            PublishFailed: no confirm within the time, or a nack; publish it again with the same id.
        """
        publisher: Publisher | None = None
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        try:
            if not self._publish_link.up.is_set():
                async with asyncio.timeout_at(deadline):
                    await self._publish_link.up.wait()
            publisher = self._publisher
            if publisher is None:
                raise PublishFailed("the connection went away")
            await publisher.publish(message, deadline)
        except Unroutable as error:
            _RETURNED.inc()
            raise Unroutable(f"no queue takes {message.type} for {message.routing_key}") from error
        except TimeoutError as error:
            _TIMED_OUT.inc()
            raise PublishFailed(f"no confirm for {message.type} within {timeout_seconds:g} s") from error
        except AMQP_FAILURES as error:
            _FAILED.inc()
            # The next try waits for a fresh connection: without this it would fail at once, again and again. Also after
            # a nack: a channel that was nacked while a quorum queue changed its leader goes on being nacked (seen with
            # RabbitMQ 3.10).
            if publisher is self._publisher:
                self._publish_link.reset(f"a publish failed: {error!r}")
            raise PublishFailed(f"{message.type}: {error!r}") from error
        _CONFIRMED.inc()

    async def insist(self, message: Outgoing, *, attempts: int = 3) -> None:
        """Publish; when no confirm comes, again, each time on a fresh connection.

        Raises:
            Unroutable, PublishFailed: as `publish`, after the last attempt.
        """
        for _ in range(attempts - 1):
            try:
                await self.publish(message)
            except PublishFailed as error:
                log.warning("publish_failed", type=message.type, reason=str(error))
            else:
                return
        await self.publish(message)

    async def publish_reply(self, reply: Outgoing) -> None:
        """Publish a reply to an address that somebody else has chosen.

        RabbitMQ 3.10 crashes on a direct reply-to address of a node that it does not know, and takes our connection
        along, with all that others have under way on it. So whoever fails is tried again on a connection of its own:
        there it harms nobody, and shows whose fault it was.

        Raises:
            Unroutable: nobody is there, or there never was such an address.
            PublishFailed: no confirm.
        """
        try:
            await self.publish(reply)
        except PublishFailed:
            try:
                async with asyncio.timeout(CONFIRM_SECONDS):
                    await self._publish_link.up.wait()
                    await publish_alone(self._publish_link.address, reply, self.name)
            except BROKER_CRASHED as error:
                raise Unroutable(f"the broker cannot take a reply to {reply.routing_key}") from error
            except (TimeoutError, *AMQP_FAILURES) as error:
                raise PublishFailed(f"reply: {error!r}") from error

    async def _publish_within(self, message: Outgoing, seconds: float) -> None:
        await self.publish(message, timeout_seconds=seconds)

    # ---- calling ---------------------------------------------------------------------------------------------

    async def call(self, request: Request[V], *, timeout_seconds: float = 60.0, message_id: UUID | None = None) -> V:
        """Send a request and wait for the `value` of its reply.

        A connection lost meanwhile is no error: the request is sent again with the same message id, which the service
        does once only.

        Raises:
            ViaductError: the service refused; the class tells the code.
            DeadlineExceeded: no reply within the time. Repeat it with the same `message_id` to learn what became of it.
        """
        return await self._calls.call(request, timeout_seconds, message_id)

    async def _open_publisher(self, connection: TappedConnection) -> None:
        self._publisher = None
        if self._declares:
            await declare_shared(connection)
        channel = await connection.channel(publisher_confirms=True)
        underlay = await channel.get_underlay_channel()
        frame_max = underlay.connection.connection_tune.frame_max
        publisher = Publisher(connection.tap, underlay.number, frame_max, self.name, self._calls.on_reply)
        connection.tap.open(underlay.number, publisher)
        await underlay.basic_consume(REPLY_TO, taken_by_the_inlet, no_ack=True)
        self._calls.ask_again()
        self._publish_link.watch(channel, publisher)
        self._publisher = publisher

    # ---- consuming -------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def consume(
        self, queue: str, handler: Handler, *, prefetch: int = 16, grace_seconds: float = 30.0
    ) -> AsyncIterator[Consumer]:
        """Consume a queue while the context is open, across reconnects.

        The handler returns: the message is acked. It raises `GiveBack`: requeued. Anything else: rejected, so that the
        broker dead-letters it. On leaving, no new message is taken, handlers get `grace_seconds` to end, and what has
        not ended goes back to the queue.
        """
        consumer = Consumer(queue, handler, prefetch, self._consume_link)
        self._consumers.append(consumer)
        await self._consume_link.run_now(consumer.open)
        try:
            yield consumer
        finally:
            self._consumers.remove(consumer)
            with suppress(*AMQP_FAILURES):
                await consumer.close(grace_seconds)

    async def _open_consumers(self, connection: TappedConnection) -> None:
        if self._declares:  # a queue that was deleted cancels its consumer, and no publisher notices
            await declare_shared(connection)
        for consumer in self._consumers:
            await consumer.open(connection)
        for callback in self._on_connect:
            self._consume_link.spawn(callback())

    # ---- topology --------------------------------------------------------------------------------------------

    async def declare_queue(
        self, name: str, arguments: Mapping[str, Any], exchange: str, routing_keys: Iterable[str]
    ) -> None:
        """Declare a durable queue and bind it. Repeating it changes nothing."""
        async with self._admin_channel() as channel:
            queue = await channel.declare_queue(name, durable=True, arguments=dict(arguments))
            for routing_key in routing_keys:
                await queue.bind(exchange, routing_key)

    async def delete_queue(self, name: str) -> None:
        """Delete a queue with what is in it; one that is gone already is no error."""
        async with self._admin_channel() as channel:
            await channel.queue_delete(name)

    @asynccontextmanager
    async def _admin_channel(self) -> AsyncIterator[AbstractChannel]:
        """A channel of its own, so that a refused declare closes nothing else."""
        try:
            async with asyncio.timeout(CONFIRM_SECONDS):
                await self._publish_link.up.wait()
                connection = self._publish_link.connection
                if connection is None:
                    raise BusError("the connection went away")
                with broker_failures():
                    async with connection.channel(publisher_confirms=False) as channel:
                        yield channel
        except (TimeoutError, *AMQP_FAILURES) as error:
            raise BusError(f"the broker did not change its topology: {error!r}") from error


async def _first(good: asyncio.Event, bad: asyncio.Event) -> bool:
    """Wait for either; true for the good one."""
    waits = [asyncio.create_task(event.wait()) for event in (good, bad)]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        return good.is_set()
    finally:
        for wait in waits:
            wait.cancel()
