"""Mutating requests are done once: claim, effect and answer are one transaction. A refusal has no effect, so its claim
and answer are another one, after the first was rolled back.

Two deliveries of one message id at the same moment: the second's claim waits in the unique index until the first has
committed, then reads its answer.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import asyncpg
import structlog
from pydantic import BaseModel
from pydantic_core import to_json

from viaduct_common.bus.failures import StoreUnavailable
from viaduct_common.bus.intake import RequestContext
from viaduct_common.bus.serve import DEFERRED, Deferred
from viaduct_common.errors import Conflict, ViaductError
from viaduct_common.messages.base import ErrorReply, Request
from viaduct_common.postgres.pool import Connection, Pool, transaction

log = structlog.get_logger()

KEEP = timedelta(hours=24)

_CLAIM = """
    INSERT INTO request (sender, message_id, type) VALUES ($1, $2, $3)
    ON CONFLICT DO NOTHING
    RETURNING true
"""
_CLAIM_REFUSED = """
    INSERT INTO request (sender, message_id, type, answer) VALUES ($1, $2, $3, $4)
    ON CONFLICT DO NOTHING
    RETURNING true
"""
_FORMER = "SELECT type, answer, operation_uuid FROM request WHERE sender = $1 AND message_id = $2 FOR UPDATE"
_FORMER_MANY = """
    SELECT request.sender, request.message_id, request.type, request.answer
    FROM request JOIN unnest($1::text[], $2::uuid[]) AS asked(sender, message_id) USING (sender, message_id)
    WHERE request.answer IS NOT NULL
"""
_STORE_MANY = """
    INSERT INTO request (sender, message_id, type, answer)
    SELECT * FROM unnest($1::text[], $2::uuid[], $3::text[], $4::bytea[])
"""
_STORE = "UPDATE request SET answer = $3, operation_uuid = $4 WHERE sender = $1 AND message_id = $2"
_PURGE = """
    DELETE FROM request WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM request WHERE created_at < now() - $1::interval
        ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED))
    RETURNING true
"""
# A delete holds its locks, and keeps what it deletes from being vacuumed, until it ends.
PURGE_CHUNK = 2000


class Answer(NamedTuple):
    """The reply to a mutating request, byte for byte."""

    sender: str
    message_id: UUID
    type: str
    body: bytes

    def checked(self, message_type: str) -> bytes:
        """The reply, for whoever repeats the request.

        Raises:
            Conflict: the message id was another request's.
        """
        if self.type != message_type:
            raise _other_type(self.type)
        return self.body


async def former_answers(connection: Connection, keys: Collection[tuple[str, UUID]]) -> dict[tuple[str, UUID], Answer]:
    """What was answered to these requests before, by sender and message id."""
    senders, message_ids = [sender for sender, _ in keys], [message_id for _, message_id in keys]
    rows = await connection.fetch(_FORMER_MANY, senders, message_ids)
    return {(row[0], row[1]): Answer(row[0], row[1], row[2], bytes(row[3])) for row in rows}


class AnsweredBefore(Exception):
    """One of the message ids was used before, perhaps just now; the transaction is lost."""


async def store_answers(connection: Connection, answers: Sequence[Answer]) -> None:
    """Raises:
    AnsweredBefore: see there.
    """
    try:
        await connection.execute(
            _STORE_MANY,
            [one.sender for one in answers],
            [one.message_id for one in answers],
            [one.type for one in answers],
            [one.body for one in answers],
        )
    except asyncpg.UniqueViolationError as error:
        raise AnsweredBefore from error


@dataclass(frozen=True)
class Pending:
    """What a handler returns instead of a value when the answer comes with the end of an operation."""

    operation_uuid: UUID


class _Refused(Exception):
    """By the handler, for good: the transaction is to be rolled back."""

    def __init__(self, error: ViaductError) -> None:
        super().__init__(error.message)
        self.error = error


Handler = Callable[[Any, Connection, RequestContext], Awaitable[Any]]


class Waiters(Protocol):
    """Where a service notes who waits for the end of an operation."""

    async def add(self, connection: Connection, operation_uuid: UUID, context: RequestContext) -> None: ...


class IdempotentExecutor:
    """Runs a request's handler in a transaction and makes its reply.

    Args:
        handlers: by message type; each gets the request, the transaction's connection and the context.
        waiters: needed by a service whose handlers return `Pending`.
        committed: called after each commit of a mutating request (wakes the outbox relay).
    """

    def __init__(
        self,
        pool: Pool,
        handlers: Mapping[str, Handler],
        *,
        waiters: Waiters | None = None,
        committed: Callable[[], None] = lambda: None,
    ) -> None:
        self._pool = pool
        self._handlers = handlers
        self._waiters = waiters
        self._committed = committed

    async def execute(self, request: Request[Any], context: RequestContext) -> bytes | Deferred:
        """Raises:
        ViaductError: refused, and nothing was changed.
        StoreUnavailable: the database is away; repeat it.
        """
        try:
            async with transaction(self._pool) as connection:
                answer = await self._answer(request, connection, context)
        except _Refused as refused:
            answer = await self._keep_refusal(request, context, refused.error)
        self._committed()
        return answer

    async def _answer(self, request: Request[Any], connection: Connection, context: RequestContext) -> bytes | Deferred:
        if request.mutating:
            return await self._do_once(request, connection, context)
        value = await self._handlers[request.message_type](request, connection, context)
        if isinstance(value, Pending):
            return await self._wait_too(connection, value.operation_uuid, context)
        return ok_reply(value)

    async def _do_once(
        self, request: Request[Any], connection: Connection, context: RequestContext
    ) -> bytes | Deferred:
        key = (context.sender, context.message_id)
        if not await connection.fetchval(_CLAIM, *key, request.message_type):
            return await self._former_answer(connection, request.message_type, context)
        try:
            value = await self._handlers[request.message_type](request, connection, context)
        except ViaductError as error:
            if error.retryable:
                raise
            raise _Refused(error) from error
        if isinstance(value, Pending):
            await connection.execute(_STORE, *key, None, value.operation_uuid)
            return await self._wait_too(connection, value.operation_uuid, context)
        answer = ok_reply(value)
        await connection.execute(_STORE, *key, answer, None)
        return answer

    async def _keep_refusal(
        self, request: Request[Any], context: RequestContext, error: ViaductError
    ) -> bytes | Deferred:
        """Unless the same message was done meanwhile, by who was waiting for our claim: that answer stands then."""
        answer = ErrorReply(error=error.to_body()).to_json()
        async with transaction(self._pool) as connection:
            claim = context.sender, context.message_id, request.message_type, answer
            if await connection.fetchval(_CLAIM_REFUSED, *claim):
                return answer
            return await self._former_answer(connection, request.message_type, context)

    async def _former_answer(
        self, connection: Connection, message_type: str, context: RequestContext
    ) -> bytes | Deferred:
        former = await connection.fetchrow(_FORMER, context.sender, context.message_id)
        if former is not None and former["type"] != message_type:
            raise _other_type(former["type"])
        if former is not None and former["answer"] is not None:
            return bytes(former["answer"])
        if former is not None and former["operation_uuid"] is not None:
            return await self._wait_too(connection, former["operation_uuid"], context)
        raise ViaductError("the first request of this message id left no answer")

    async def _wait_too(self, connection: Connection, operation_uuid: UUID, context: RequestContext) -> Deferred:
        if self._waiters is None:
            raise ViaductError("this service defers no answers")
        if not context.may_defer:  # a batch that repeats a request which still runs
            raise Conflict(f"operation {operation_uuid} still runs", operationUuid=str(operation_uuid))
        if context.reply_to:
            await self._waiters.add(connection, operation_uuid, context)
        return DEFERRED


def _other_type(used_for: str) -> Conflict:
    return Conflict(
        f"this message id was used for {used_for} already: every request needs one of its own", type=used_for
    )


def ok_reply(value: Any) -> bytes:
    """The JSON of `{"ok": true, "value": ...}`."""
    return b'{"ok":true,"value":' + _json(value) + b"}"


def _json(value: Any) -> bytes:
    if isinstance(value, BaseModel):
        return value.model_dump_json().encode()
    if isinstance(value, list):
        return b"[" + b",".join(map(_json, value)) + b"]"
    return to_json(value)


async def purge_answers(pool: Pool, *, every_seconds: float = 600.0) -> None:
    """Forget answers older than a day, for ever."""
    while True:
        try:
            await purge_overdue_answers(pool)
        except StoreUnavailable as error:
            log.warning("purge_postponed", reason=str(error))
        await asyncio.sleep(every_seconds)


async def purge_overdue_answers(pool: Pool, *, keep: timedelta = KEEP) -> None:
    """Forget answers older than `keep`, a chunk at a time; several processes may do so at once.

    Raises:
        StoreUnavailable: the database is away.
    """
    found = PURGE_CHUNK
    while found == PURGE_CHUNK:
        async with transaction(pool) as connection:
            found = len(await connection.fetch(_PURGE, keep, PURGE_CHUNK))
