"""The transactional outbox: a message is written in the transaction of the change that it tells of.

A relay in each process claims rows with SKIP LOCKED, publishes them all in flight together, and deletes the confirmed
ones in the same transaction. A crash in between publishes again: consumers are idempotent.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog

from viaduct_common import topology
from viaduct_common.bus import Bus, BusError, Outgoing, StoreUnavailable, Unroutable
from viaduct_common.bus.trace import current_traceparent
from viaduct_common.postgres.pool import Connection, Pool, transaction

log = structlog.get_logger()

BATCH = 256
POLL_SECONDS = 1.0

_INSERT = """
    INSERT INTO outbox (exchange, routing_key, type, message_id, correlation_id, body, mandatory, expires_at,
                        traceparent)
    SELECT exchange, routing_key, type, message_id, correlation_id, body, mandatory,
           now() + make_interval(secs => seconds), $9
    FROM unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::text[], $6::bytea[], $7::bool[], $8::float8[])
      AS t(exchange, routing_key, type, message_id, correlation_id, body, mandatory, seconds)
"""
_CLAIM = """
    SELECT id, exchange, routing_key, type, message_id, correlation_id, body, mandatory, traceparent,
           extract(epoch FROM expires_at - now())::float8 AS seconds_left
    FROM outbox WHERE due_at <= now()
    ORDER BY id LIMIT $1
    FOR UPDATE SKIP LOCKED
"""
_DELETE = "DELETE FROM outbox WHERE id = ANY($1::bigint[])"
# Exponential, from half a second to half a minute: a queue that is away must not make the relay spin.
_POSTPONE = """
    UPDATE outbox SET attempts = attempts + 1, due_at = now() + make_interval(secs => least(30, 0.5 * 2 ^ attempts))
    WHERE id = ANY($1::bigint[])
"""

OnUnroutable = Callable[[Outgoing], Awaitable[None]]


async def enqueue(connection: Connection, messages: Sequence[Outgoing]) -> None:
    """Write messages to the outbox, in the caller's transaction."""
    if not messages:
        return
    await connection.execute(
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
    )


class OutboxRelay:
    """Publishes what stands in the outbox, until cancelled.

    Args:
        on_unroutable: told of a message that no queue takes, before it is tried again (the manager declares the
            host's queue then).
    """

    def __init__(self, pool: Pool, bus: Bus, on_unroutable: OnUnroutable) -> None:
        self._pool = pool
        self._bus = bus
        self._on_unroutable = on_unroutable
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Something was committed: do not wait for the next poll."""
        self._wake.set()

    async def run(self) -> None:
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
