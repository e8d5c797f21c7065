"""One consumer of one queue: the ack comes last, and nothing is swallowed."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import aiormq.abc
import structlog
from aio_pika.abc import AbstractChannel

from viaduct_common.bus.envelope import Delivery
from viaduct_common.bus.failures import GiveBack
from viaduct_common.bus.link import AMQP_FAILURES, Link, broker_failures
from viaduct_common.bus.settling import Settlement
from viaduct_common.bus.tap import TappedConnection, taken_by_the_inlet
from viaduct_common.bus.trace import current_traceparent, traceparent_of

log = structlog.get_logger()

Handler = Callable[[Delivery], Awaitable[None]]


class Consumer:
    """Opened anew on each connection; messages taken from a lost one are worked to their end all the same (the
    broker delivers them again, and every handler is safe to run twice)."""

    def __init__(self, queue: str, handler: Handler, prefetch: int, link: Link) -> None:
        self._queue_name = queue
        self._handler = handler
        self._prefetch = prefetch
        self._link = link
        self._channel: AbstractChannel | None = None
        self._underlay: aiormq.abc.AbstractChannel | None = None
        self._settlement: Settlement | None = None
        self._tag: str | None = None
        self._unwatch: Callable[[], None] = lambda: None
        self._running: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def open(self, connection: TappedConnection) -> None:
        self._channel = await connection.channel(publisher_confirms=False)
        await self._channel.set_qos(prefetch_count=self._prefetch)
        # Passive: a missing queue is an error here, and only its owner may declare it.
        await self._channel.declare_queue(self._queue_name, passive=True)
        self._underlay = await self._channel.get_underlay_channel()
        self._underlay.on_consumer_cancel_callbacks.add(self._on_cancelled_by_broker)
        self._settlement = settlement = Settlement(connection.tap, self._underlay.number, self._on_delivery)
        connection.tap.open(self._underlay.number, settlement)
        consuming = await self._underlay.basic_consume(self._queue_name, taken_by_the_inlet)
        self._tag = consuming.consumer_tag
        self._unwatch = self._link.watch(self._channel, settlement)

    async def close(self, grace_seconds: float) -> None:
        """Take no more, let what runs end, then close the channel: what is not acked goes back to the queue."""
        self._stopping = True
        if self._underlay is not None and self._tag is not None:
            with suppress(TimeoutError, *AMQP_FAILURES), broker_failures():
                await self._underlay.basic_cancel(self._tag, timeout=5)
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=grace_seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        self._unwatch()
        if self._channel is not None:
            await self._channel.close()  # what is acked goes out before: see Tap
        if self._settlement is not None:
            self._settlement.close()

    def _on_cancelled_by_broker(self, *_: object) -> None:
        self._link.reset(f"the broker cancelled the consumer of {self._queue_name}")

    def _on_delivery(self, settlement: Settlement, tag: int, delivery: Delivery) -> None:
        if self._stopping:
            return  # not acked: it goes back when the channel closes
        task = asyncio.create_task(self._handle(settlement, tag, delivery))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _handle(self, settlement: Settlement, tag: int, delivery: Delivery) -> None:
        current_traceparent.set(traceparent_of(delivery.headers))  # this task's own: it ends with the message
        outcome = settlement.ack
        try:
            await self._handler(delivery)
        except GiveBack as reason:
            log.info("message_given_back", queue=self._queue_name, type=delivery.type, reason=str(reason))
            outcome = settlement.give_back
        except Exception:
            log.exception("handler_failed", queue=self._queue_name, type=delivery.type, message_id=delivery.message_id)
            outcome = settlement.refuse  # the broker dead-letters it
        try:
            outcome(tag)
        except ConnectionError as error:
            # The broker delivers it again.
            log.info("settle_failed", queue=self._queue_name, message_id=delivery.message_id, reason=repr(error))
