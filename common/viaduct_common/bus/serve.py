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
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Final, Self
from uuid import UUID, uuid4

import structlog
from pydantic import ValidationError

from viaduct_common import topology
from viaduct_common.bus.connection import Bus
from viaduct_common.bus.envelope import Delivery, Outgoing
from viaduct_common.bus.failures import GiveBack, PublishFailed, StoreUnavailable, Unroutable
from viaduct_common.bus.replyaddress import is_reply_address
from viaduct_common.errors import (
    DeadlineExceeded,
    InvalidRequest,
    UnsupportedType,
    UnsupportedVersion,
    ViaductError,
)
from viaduct_common.messages.base import ErrorReply, Request
from viaduct_common.messages.batch import Batch
from viaduct_common.messages.registry import RequestType
from viaduct_common.roles import RolePolicy
from viaduct_common.telemetry import DEAD_LETTERS, REQUEST_SECONDS, REQUESTS

log = structlog.get_logger()

DEFAULT_DEADLINE_SECONDS = 60.0
RETRY_PAUSE_SECONDS = 0.5


class Deferred:
    """The type of `DEFERRED`: the answer is sent later, by whoever ends the operation."""


DEFERRED: Final = Deferred()


@dataclass(frozen=True)
class RequestContext:
    """Who asks, and where the answer goes. `sender` is broker-validated; empty for an anonymous one.

    `may_defer` is false inside a batch: a long request is then answered at once with its operation.
    """

    sender: str
    message_id: UUID
    correlation_id: str | None
    reply_to: str | None
    deadline: float
    may_defer: bool = True


Executor = Callable[[Request[Any], RequestContext], Awaitable[bytes | Deferred]]


class MalformedMessage(InvalidRequest):
    """It is no JSON object of a size and depth that we read: for the dead letters, also when it is answered."""


class UnknownMessageType(UnsupportedType):
    """Nobody here knows the AMQP property `type`: for the dead letters as well."""


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
        structlog.contextvars.clear_contextvars()
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
        if not isinstance(answer, Deferred) and delivery.reply_to:
            await self._reply(delivery, answer)
        took = time.monotonic() - started
        REQUESTS.labels(label, outcome).inc()
        REQUEST_SECONDS.labels(label).observe(took)
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
        for _ in range(3):
            try:
                return await self._bus.publish(reply)
            except Unroutable:
                return None  # the caller is gone; the answer is kept under its message id
            except PublishFailed as error:
                log.warning("reply_failed", reason=str(error))
        # The request is delivered again, and the kept answer is sent then.
        raise GiveBack("the reply could not be published")

    async def _bury(self, delivery: Delivery, error: ViaductError) -> None:
        """Put a copy to the dead letters, with the reason; then the original may be acked."""
        DEAD_LETTERS.labels(error.code).inc()
        log.warning("message_buried", code=error.code, reason=error.message)
        await self._bus.publish(dead_letter(delivery, self._queue, error))


def check_envelope(delivery: Delivery, *, max_body_bytes: int = topology.MAX_BODY_BYTES) -> None:
    """Raises:
    UnsupportedVersion: another major version of the contract.
    MalformedMessage: the body is too large.
    """
    version = delivery.headers.get(topology.VERSION_HEADER, topology.CONTRACT_VERSION)
    if str(version) != str(topology.CONTRACT_VERSION):
        raise UnsupportedVersion(
            f"version {version!r} of the contract is not spoken here", supported=[topology.CONTRACT_VERSION]
        )
    if len(delivery.body) > max_body_bytes:
        raise MalformedMessage.of_field("body", f"larger than {max_body_bytes} bytes")


def context_of(delivery: Delivery) -> RequestContext:
    """Raises:
    InvalidRequest: the message id is no UUID.
    """
    try:
        # Without an id of its own a request has no idempotency, and nobody can ask for its answer again.
        message_id = UUID(delivery.message_id) if delivery.message_id else uuid4()
    except ValueError:
        raise InvalidRequest.of_field("message_id", "the AMQP property must be a UUID") from None
    deadline = delivery.deadline or time.monotonic() + DEFAULT_DEADLINE_SECONDS
    return RequestContext(
        sender=delivery.user_id or "",
        message_id=message_id,
        correlation_id=delivery.correlation_id or delivery.message_id,
        reply_to=delivery.reply_to,
        deadline=deadline,
    )


def parse_request(request_type: type[Any], body: bytes) -> Any:
    """Raises:
    MalformedMessage: no JSON, or no object.
    InvalidRequest: `details.field` is the camelCase path of the first culprit, `details.errors` lists all.
    """
    try:
        return request_type.from_json(body)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        first = problems[0]
        if first["type"] in {"json_invalid", "model_type"}:
            raise MalformedMessage.of_field("body", first["msg"]) from None
        given = json.loads(body)
        errors = [{"field": field_path(one["loc"], given), "problem": one["msg"]} for one in problems[:20]]
        raise InvalidRequest.of_field(errors[0]["field"], errors[0]["problem"], errors=errors) from None


def field_path(loc: tuple[int | str, ...], given: Any) -> str:
    """The path of a field as its sender knows it: without pydantic's names of the branches of a union."""
    path = []
    for position, part in enumerate(loc):
        inside = isinstance(given, list) if isinstance(part, int) else isinstance(given, dict) and part in given
        if inside:
            given = given[part]
        elif position < len(loc) - 1 or not isinstance(given, dict):
            continue  # a branch; the last part of all may be a field that is missing
        path.append(str(part))
    return ".".join(path)


def reply_to(address: str, correlation_id: str | None, message_id: str | None, answer: bytes) -> Outgoing:
    """The reply to a request, sent through the default exchange; `correlation_id` names the request.

    The contract answers with the request's message id; a client that sets a correlation id of its own, as most AMQP
    libraries' RPC does, gets that one back.
    """
    return Outgoing(
        exchange=topology.DEFAULT_EXCHANGE,
        routing_key=address,
        type="reply",
        body=answer,
        correlation_id=correlation_id or message_id,
        mandatory=False,
    )


def dead_letter(delivery: Delivery, queue: str, error: ViaductError) -> Outgoing:
    """A copy for the dead letters, which says why in its headers."""
    return Outgoing(
        exchange=topology.DEAD,
        routing_key=delivery.routing_key,
        type=delivery.type,
        body=delivery.body[: topology.MAX_BODY_BYTES],
        correlation_id=delivery.correlation_id,
        headers={
            **{name: value for name, value in delivery.headers.items() if isinstance(value, str | int | bool)},
            topology.CODE_HEADER: error.code,
            topology.REASON_HEADER: error.message[:1000],
            topology.QUEUE_HEADER: queue,
            "viaduct-message-id": delivery.message_id or "",
            "viaduct-sender": delivery.user_id or "",
        },
    )


def _belongs_to_the_dead(error: ViaductError, delivery: Delivery) -> bool:
    if not delivery.reply_to:
        return True
    return isinstance(error, MalformedMessage | UnknownMessageType | UnsupportedVersion)


def _dump(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()
