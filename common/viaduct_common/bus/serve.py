"""From a message on a service queue to its reply.

    delivery -> envelope (size, version, type) -> role -> model -> deadline -> execute -> reply -> ack

Every way out is one of three: it is done and answered, it is answered with an error, or it is in the dead letters
with the reason in a header. Nothing blocks the queue and nothing is dropped.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, Self

import structlog

from viaduct_common.bus.connection import Bus
from viaduct_common.bus.envelope import Delivery
from viaduct_common.bus.failures import GiveBack, PublishFailed, StoreUnavailable, Unroutable
from viaduct_common.bus.intake import (
    MalformedMessage,
    RequestContext,
    UnknownMessageType,
    check_envelope,
    context_of,
    parse_request,
)
from viaduct_common.bus.letters import dead_letter, reply_to
from viaduct_common.bus.replyaddress import is_reply_address
from viaduct_common.errors import (
    DeadlineExceeded,
    InvalidRequest,
    UnsupportedVersion,
    ViaductError,
)
from viaduct_common.messages.base import ErrorBody, ErrorReply, Request
from viaduct_common.messages.batch import Batch
from viaduct_common.messages.registry import RequestType
from viaduct_common.roles import RolePolicy
from viaduct_common.telemetry import DEAD_LETTERS, request_seconds, requests_counted

log = structlog.get_logger()

RETRY_PAUSE_SECONDS = 0.5


class Deferred:
    """The type of `DEFERRED`: the answer is sent later, by whoever ends the operation."""


DEFERRED: Final = Deferred()


Executor = Callable[[Request[Any], RequestContext], Awaitable[bytes | Deferred]]


class RequestServer:
    """Consumes a service queue while the context is open.

    Args:
        execute: does a validated request; returns the reply's JSON, or `DEFERRED`. Raises ViaductError to refuse, and
            StoreUnavailable when the database is away: it is then repeated until the request's deadline.
    """

    def __init__(
        self,
        bus: Bus,
        queue: str,
        requests: Mapping[str, RequestType],
        execute: Executor,
        roles: RolePolicy,
        *,
        prefetch: int = 64,
    ) -> None:
        self._bus = bus
        self._queue = queue
        self._requests = requests
        self._execute = execute
        self._roles = roles
        self._prefetch = prefetch
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._bus.consume(self._queue, self.handle, prefetch=self._prefetch))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def handle(self, delivery: Delivery) -> None:
        started = time.monotonic()
        structlog.contextvars.bind_contextvars(message_id=delivery.message_id, type=delivery.type)
        if delivery.reply_to and not is_reply_address(delivery.reply_to):
            delivery = replace(delivery, reply_to=None)  # nobody can be answered there
        label = delivery.type if delivery.type in self._requests else "unknown"
        outcome = "ok"
        answer: bytes | Deferred
        try:
            answer = await self._answer(delivery)
        except ViaductError as error:
            outcome = error.code
            log.info("request_refused", code=error.code, reason=error.message, sender=delivery.user_id)
            if _belongs_to_the_dead(error, delivery):
                await self._bury(delivery, error)
            answer = ErrorReply(error=error.to_body()).to_json()
        else:
            refusal = None if isinstance(answer, Deferred) else refusal_in(answer, among_many=not delivery.reply_to)
            if refusal is not None:
                outcome = refusal.code
                if not delivery.reply_to:
                    await self._bury(delivery, ViaductError.from_body(refusal))
        if not isinstance(answer, Deferred) and delivery.reply_to:
            await self._reply(delivery, answer)
        took = time.monotonic() - started
        requests_counted(label, outcome).inc()
        request_seconds(label).observe(took)
        log.info("request_handled", outcome=outcome, deferred=answer is DEFERRED, took_ms=round(took * 1000, 1))

    async def _answer(self, delivery: Delivery) -> bytes | Deferred:
        check_envelope(delivery)
        context = context_of(delivery)
        if delivery.type == Batch.message_type:
            batch = parse_request(Batch, delivery.body)
            return await self._answer_batch(batch, context)
        return await self._answer_one(delivery.type, delivery.body, context)

    async def _answer_one(self, message_type: str, body: bytes, context: RequestContext) -> bytes | Deferred:
        request_type = self._requests.get(message_type)
        if request_type is None:
            raise UnknownMessageType(f"no request type {message_type!r} here", type=message_type)
        self._roles.authorize(context.sender or None, request_type)
        request = parse_request(request_type, body)
        if time.monotonic() >= context.deadline:
            raise DeadlineExceeded("the deadline had passed before the work was started")
        try:
            async with asyncio.timeout(context.deadline - time.monotonic()):
                return await self._execute_persistently(request, context)
        except TimeoutError as error:
            raise DeadlineExceeded("not done within the deadline; nothing was changed, or repeat to learn") from error
        except ViaductError:
            raise
        except Exception as error:
            log.exception("request_crashed")
            raise ViaductError("internal error; the service's log has more under this message id") from error

    async def _execute_persistently(self, request: Request[Any], context: RequestContext) -> bytes | Deferred:
        """While the database is away, requests wait here for it, up to their deadline."""
        while True:
            try:
                return await self._execute(request, context)
            except StoreUnavailable as error:
                log.warning("store_unavailable", reason=str(error))
                await asyncio.sleep(RETRY_PAUSE_SECONDS)

    async def _answer_batch(self, batch: Batch, context: RequestContext) -> bytes:
        answers = []
        for item in batch.requests:
            inner = replace(context, message_id=item.message_id, reply_to=None, may_defer=False)
            try:
                if item.type == Batch.message_type:
                    raise InvalidRequest.of_field("requests.type", "a batch in a batch is refused")
                answer = await self._answer_one(item.type, _dump(item.body), inner)
                assert not isinstance(answer, Deferred)
            except ViaductError as error:
                answer = ErrorReply(error=error.to_body()).to_json()
            answers.append(answer)
        return b'{"ok":true,"value":[' + b",".join(answers) + b"]}"

    async def _reply(self, delivery: Delivery, answer: bytes) -> None:
        reply = reply_to(delivery.reply_to or "", delivery.correlation_id, delivery.message_id, answer)
        try:
            await self._bus.publish_reply(reply)
        except Unroutable as error:
            log.info("nobody_there_to_answer", reason=str(error))  # the answer is kept under its message id
        except PublishFailed as error:
            # The request is delivered again, and the kept answer is sent then.
            raise GiveBack("the reply could not be published") from error

    async def _bury(self, delivery: Delivery, error: ViaductError) -> None:
        """Put a copy to the dead letters, with the reason; then the original may be acked."""
        DEAD_LETTERS.labels(error.code).inc()
        log.warning("message_buried", code=error.code, reason=error.message)
        await self._bus.insist(dead_letter(delivery, self._queue, error))


def refusal_in(answer: bytes, *, among_many: bool = False) -> ErrorBody | None:
    """The error of a reply that refuses; with `among_many` also the first in the replies to a batch."""
    if answer.startswith(b'{"ok":false'):
        return ErrorReply.from_json(answer).error
    if among_many and b'{"ok":false' in answer:
        value = json.loads(answer)["value"]
        refused = [one for one in value if one.get("ok") is False] if isinstance(value, list) else []
        return ErrorReply.model_validate(refused[0]).error if refused else None
    return None


def _belongs_to_the_dead(error: ViaductError, delivery: Delivery) -> bool:
    if not delivery.reply_to:
        return True
    return isinstance(error, MalformedMessage | UnknownMessageType | UnsupportedVersion)


def _dump(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()
