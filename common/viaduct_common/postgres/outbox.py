"""The transactional outbox: a message is written in the transaction of the change that it tells of.

The process that committed it publishes it at once, and deletes the row a moment later. The row itself is for the case
that it cannot: when its head start is over, or where there were many, a relay claims it with SKIP LOCKED, publishes
all that it claimed in flight together, and deletes the confirmed ones in the same transaction. A crash in between
publishes again: consumers are idempotent.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import structlog

from viaduct_common import topology
from viaduct_common.bus import Bus, BusError, Outgoing, StoreUnavailable, Unroutable
from viaduct_common.bus.trace import current_traceparent
from viaduct_common.postgres.pool import Connection, Letter, Pool, Post, transaction

log = structlog.get_logger()

BATCH = 256
POLL_SECONDS = 1.0
# Who commits more in one go leaves it to the relay, which reads it a batch at a time.
MOST_AT_ONCE = 64
# So long a row is left to the process that wrote it; that process gives up a second earlier.
HEAD_START_SECONDS = 4.0
# Rows of what was sent are deleted together.
GATHER_SECONDS = 0.05

_INSERT = """
    INSERT INTO outbox (exchange, routing_key, type, message_id, correlation_id, body, mandatory, expires_at,
                        traceparent, due_at)
    SELECT exchange, routing_key, type, message_id, correlation_id, body, mandatory,
           now() + make_interval(secs => seconds), $9, now() + make_interval(secs => $10)
    FROM unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::text[], $6::bytea[], $7::bool[], $8::float8[])
      AS t(exchange, routing_key, type, message_id, correlation_id, body, mandatory, seconds)
    RETURNING id, message_id
"""
_CLAIM = """
    SELECT id, exchange, routing_key, type, message_id, correlation_id, body, mandatory, traceparent,
           extract(epoch FROM expires_at - now())::float8 AS seconds_left
    FROM outbox WHERE due_at <= now()
    ORDER BY id LIMIT $1
    FOR UPDATE SKIP LOCKED
"""
_DELETE = "DELETE FROM outbox WHERE id = ANY($1::bigint[])"
_HAND_OVER = "UPDATE outbox SET due_at = now() WHERE id = ANY($1::bigint[])"
# Exponential, from half a second to half a minute: a queue that is away must not make the relay spin.
_POSTPONE = """
    UPDATE outbox SET attempts = attempts + 1, due_at = now() + make_interval(secs => least(30, 0.5 * 2 ^ attempts))
    WHERE id = ANY($1::bigint[])
"""

OnUnroutable = Callable[[Outgoing], Awaitable[None]]


async def enqueue(connection: Connection, messages: Sequence[Outgoing]) -> None:
    """Write messages to the outbox, in the caller's transaction; see `transaction` for when they are sent."""
    if not messages:
        return
    at_once = connection.post.deliver is not None and len(connection.letters) + len(messages) <= MOST_AT_ONCE
    rows = await connection.fetch(
        _INSERT,
        [message.exchange for message in messages],
        [message.routing_key for message in messages],
        [message.type for message in messages],
        [message.message_id for message in messages],
        [message.correlation_id for message in messages],
        [message.body for message in messages],
        [message.mandatory for message in messages],
        [message.expiration_seconds for message in messages],
        current_traceparent.get(),
        HEAD_START_SECONDS if at_once else 0.0,
    )
    sent_by_us = {message.message_id: message for message in messages} if at_once else {}
    connection.letters.extend(Letter(row["id"], sent_by_us.get(row["message_id"])) for row in rows)


class OutboxRelay:
    """Publishes what stands in the outbox, until cancelled.

    Args:
        on_unroutable: told of a message that no queue takes, before it is tried again (the manager declares the
            host's queue then).
        post: the pool's: what is committed is sent at once, while the relay runs.
    """

    def __init__(self, pool: Pool, bus: Bus, on_unroutable: OnUnroutable, *, post: Post | None = None) -> None:
        self._pool = pool
        self._bus = bus
        self._on_unroutable = on_unroutable
        self._post = post or Post()
        self._wake = asyncio.Event()
        self._sending: set[asyncio.Task[None]] = set()
        self._sent: list[int] = []
        self._any_sent = asyncio.Event()

    def wake(self) -> None:
        """Something was committed: do not wait for the next poll."""
        self._wake.set()

    async def run(self) -> None:
        self._post.deliver = self._deliver
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._relay())
                tasks.create_task(self._tidy())
        finally:
            self._post.deliver = None
            await self._finish()

    # ---- sent at once --------------------------------------------------------------------------------------------

    def _deliver(self, letters: Sequence[Letter]) -> None:
        ours = {letter.number: letter.message for letter in letters if letter.message is not None}
        if len(ours) < len(letters):
            self.wake()
        task = asyncio.create_task(self._send(ours))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send(self, messages: Mapping[int, Outgoing]) -> None:
        """By number. What fails is the relay's from then on."""
        gone = await asyncio.gather(*map(self._send_one, messages.values()))
        left = [number for number, is_gone in zip(messages, gone, strict=True) if not is_gone]
        self._sent += messages.keys() - left
        self._any_sent.set()
        if left:
            await self._do(_HAND_OVER, left)
            self.wake()

    async def _send_one(self, message: Outgoing) -> bool:
        try:
            async with asyncio.timeout(HEAD_START_SECONDS - 1):
                return await self._publish(message) is None
        except TimeoutError:
            return False

    async def _tidy(self) -> None:
        """Delete the rows of what was sent, long before a relay would send them again."""
        while True:
            await self._any_sent.wait()
            await asyncio.sleep(GATHER_SECONDS)
            self._any_sent.clear()
            await self._forget_sent()

    async def _forget_sent(self) -> None:
        sent, self._sent = self._sent, []
        await self._do(_DELETE, sent)

    async def _do(self, statement: str, numbers: list[int]) -> None:
        """A statement that may fail: rows that stay as they are go to the relay when their head start is over."""
        try:
            async with transaction(self._pool) as connection:
                await connection.execute(statement, numbers)
        except StoreUnavailable as error:
            log.warning("outbox_store_unavailable", reason=str(error))

    async def _finish(self) -> None:
        """Let what is under way end, so that the next process need not send it again."""
        if self._sending:
            await asyncio.wait(self._sending)
        if self._sent:
            await self._forget_sent()

    # ---- relayed -------------------------------------------------------------------------------------------------

    async def _relay(self) -> None:
        while True:
            self._wake.clear()
            try:
                while await self._relay_batch() == BATCH:
                    pass
            except StoreUnavailable as error:
                log.warning("outbox_store_unavailable", reason=str(error))
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                continue  # other processes may have left something behind

    async def _relay_batch(self) -> int:
        """Publish one batch; return how many rows were claimed."""
        async with transaction(self._pool) as connection:
            rows = await connection.fetch(_CLAIM, BATCH)
            if not rows:
                return 0
            fresh = [row for row in rows if row["seconds_left"] is None or row["seconds_left"] > 0]
            results = await asyncio.gather(*(self._publish(_outgoing(row)) for row in fresh))
            failed = {row["id"]: error for row, error in zip(fresh, results, strict=True) if error is not None}
            await connection.execute(_DELETE, [row["id"] for row in rows if row["id"] not in failed])
            if failed:
                await connection.execute(_POSTPONE, list(failed))
        for row in fresh:
            error = failed.get(row["id"])
            if error is not None:
                await self._report(_outgoing(row), error)
        return len(rows) if not failed else 0

    async def _publish(self, message: Outgoing) -> BusError | None:
        is_reply = message.exchange == topology.DEFAULT_EXCHANGE
        try:
            await (self._bus.publish_reply(message) if is_reply else self._bus.publish(message))
        except Unroutable as error:
            # Nobody waits for this answer any more: it is kept under its message id, and the row has done its work.
            return None if is_reply else error
        except BusError as error:
            return error
        return None

    async def _report(self, message: Outgoing, error: BusError) -> None:
        log.warning("outbox_publish_failed", type=message.type, routing_key=message.routing_key, reason=str(error))
        if isinstance(error, Unroutable):
            await self._on_unroutable(message)


def _outgoing(row: Any) -> Outgoing:
    return Outgoing(
        exchange=row["exchange"],
        routing_key=row["routing_key"],
        type=row["type"],
        message_id=row["message_id"],
        correlation_id=row["correlation_id"],
        body=bytes(row["body"]),
        mandatory=row["mandatory"],
        expiration_seconds=row["seconds_left"],
        headers={} if row["traceparent"] is None else {topology.TRACE_HEADER: row["traceparent"]},
    )
