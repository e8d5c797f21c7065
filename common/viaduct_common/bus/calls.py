"""Requests under way: each waits for the reply with its message id.

Direct reply-to (https://www.rabbitmq.com/docs/direct-reply-to) ties replies to the channel that asked. When its
connection is lost the request is sent again, with the same message id, on the next one.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from uuid import UUID, uuid4

from viaduct_common import topology
from viaduct_common.bus.envelope import Outgoing
from viaduct_common.bus.failures import BusError
from viaduct_common.errors import DeadlineExceeded, ViaductError
from viaduct_common.messages.base import ErrorReply, Request, reply_adapter

V = TypeVar("V")

REPLY_TO = "amq.rabbitmq.reply-to"
AGAIN_SECONDS = 0.1

Publish = Callable[[Outgoing, float], Awaitable[None]]


class Calls:
    """Args:
    publish: publishes a message within so many seconds, or raises BusError.
    username: sent as `user_id`; None sends anonymously.
    """

    def __init__(self, publish: Publish, username: str | None) -> None:
        self._publish = publish
        self._username = username
        # Ended by the reply, or by None: there will be none on this channel, or not in time.
        self._waiting: dict[str, asyncio.Future[bytes | None]] = {}

    def ask_again(self) -> None:
        """Replies come on another channel now: whoever waits for one asks once more."""
        for waiting in self._waiting.values():
            _end(waiting, None)

    def on_reply(self, correlation_id: str, body: bytes) -> None:
        waiting = self._waiting.get(correlation_id)
        if waiting is not None:
            _end(waiting, body)

    async def call(self, request: Request[V], timeout_seconds: float, message_id: UUID | None) -> V:
        """See `Bus.call`."""
        message_id = message_id or uuid4()
        message_body = request.to_json()
        deadline = time.monotonic() + timeout_seconds
        while (left := deadline - time.monotonic()) > 0:
            answer = await self._try(request, message_body, message_id, left)
            if answer is not None:
                return _value_of(request, answer)
            await asyncio.sleep(AGAIN_SECONDS)
        raise DeadlineExceeded(
            f"no reply to {request.message_type} within {timeout_seconds:g} s", messageId=str(message_id)
        )

    async def _try(self, request: Request[Any], body: bytes, message_id: UUID, seconds: float) -> bytes | None:
        """One attempt; None when the connection was lost or the time is up."""
        key = str(message_id)
        if key in self._waiting:
            raise ValueError(f"a call with the message id {key} is under way already")
        message = Outgoing(
            exchange=topology.REQUESTS,
            routing_key=request.service,
            type=request.message_type,
            body=body,
            message_id=message_id,
            reply_to=REPLY_TO,
            user_id=self._username,
            expiration_seconds=seconds,
        )
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bytes | None] = loop.create_future()
        self._waiting[key] = answer
        timer = loop.call_later(seconds, _end, answer, None)
        try:
            await self._publish(message, seconds)
            return await answer
        except BusError:
            return None
        finally:
            timer.cancel()
            del self._waiting[key]


def _end(waiting: "asyncio.Future[bytes | None]", answer: bytes | None) -> None:
    if not waiting.done():
        waiting.set_result(answer)


def _value_of(request: Request[V], answer: bytes) -> V:
    reply = reply_adapter(type(request)).validate_json(answer)
    if isinstance(reply, ErrorReply):
        raise ViaductError.from_body(reply.error)
    value: V = reply.value
    return value
