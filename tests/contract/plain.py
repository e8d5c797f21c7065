"""An AMQP client that knows nothing of Viaduct but its documents: JSON bodies, properties, direct reply-to."""

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

REPLY_TO = "amq.rabbitmq.reply-to"


@dataclass(frozen=True)
class Reply:
    """One reply as it came."""

    body: bytes
    correlation_id: str | None
    content_type: str | None
    headers: dict[str, Any]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Plain:
    """Async context manager around one connection.

    Requests carry a correlation id only if told to; replies are kept by the correlation id that they bear.
    """

    url: str
    heard: list[Reply] = field(default_factory=list)
    dead: list[AbstractIncomingMessage] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self.connection = await aio_pika.connect(self.url)
        self.channel = await self.connection.channel(publisher_confirms=True, on_return_raises=True)
        self._news = asyncio.Condition()
        replies = await self.channel.get_queue(REPLY_TO, ensure=False)
        await replies.consume(self._on_reply, no_ack=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(*aio_pika.exceptions.CONNECTION_EXCEPTIONS):
            await self.connection.close()

    async def _on_reply(self, message: AbstractIncomingMessage) -> None:
        reply = Reply(message.body, message.correlation_id, message.content_type, dict(message.headers))
        async with self._news:
            self.heard.append(reply)
            self._news.notify_all()

    async def send(
        self,
        message_type: str | None,
        body: Any = None,
        *,
        key: str = "manager",
        exchange: str = "viaduct.requests",
        message_id: str | None = "",
        reply: bool = False,
        headers: dict[str, Any] | None = None,
        **properties: Any,
    ) -> str | None:
        """Publish; return the message id. `body` is JSON unless it is bytes; message_id None sends none."""
        message_id = str(uuid4()) if message_id == "" else message_id
        message = aio_pika.Message(
            body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode(),
            type=message_type,
            message_id=message_id,
            reply_to=REPLY_TO if reply else None,
            content_type="application/json",
            headers={"viaduct-version": 1} if headers is None else headers,
            **properties,
        )
        target = (
            self.channel.default_exchange if not exchange else await self.channel.get_exchange(exchange, ensure=False)
        )
        await target.publish(message, routing_key=key, mandatory=True)
        return message_id

    async def reply(self, correlation_id: str | None, *, seconds: float = 20) -> Reply:
        """The first reply with this correlation id that nobody has taken yet."""
        async with asyncio.timeout(seconds), self._news:
            while True:
                for one in self.heard:
                    if one.correlation_id == correlation_id:
                        self.heard.remove(one)
                        return one
                await self._news.wait()

    async def raw(self, message_type: str | None, body: Any = None, *, seconds: float = 20, **options: Any) -> Reply:
        """Send a request and wait for its reply."""
        message_id = await self.send(message_type, body, reply=True, **options)
        return await self.reply(options.get("correlation_id") or message_id, seconds=seconds)

    async def ask(self, message_type: str | None, body: Any = None, **options: Any) -> Any:
        """The reply's JSON."""
        return (await self.raw(message_type, body, **options)).json

    async def value(self, message_type: str, body: Any = None, **options: Any) -> Any:
        """The value of a reply that must be good."""
        reply = await self.ask(message_type, body, **options)
        assert reply["ok"] is True, reply
        assert set(reply) == {"ok", "value"}
        return reply["value"]

    async def refusal(self, message_type: str | None, body: Any = None, **options: Any) -> Any:
        """The error of a reply that must be bad."""
        reply = await self.ask(message_type, body, **options)
        assert reply["ok"] is False, reply
        assert set(reply) == {"ok", "error"}
        assert set(reply["error"]) == {"code", "message", "details", "retryable"}
        return reply["error"]

    async def buried(
        self, where: Callable[[AbstractIncomingMessage], bool], *, seconds: float = 10
    ) -> AbstractIncomingMessage:
        """The first dead letter that matches.

        Raises:
            TimeoutError: none came. The time is looked at between two gets: aiormq loses its channel when one that is
                under way is cancelled.
        """
        queue = await self.channel.get_queue("viaduct.dead-letters", ensure=False)
        give_up = time.monotonic() + seconds
        while True:
            while (message := await queue.get(no_ack=True, fail=False)) is not None:
                self.dead.append(message)
            for one in self.dead:
                if where(one):
                    return one
            if time.monotonic() > give_up:
                raise TimeoutError(f"not among the {len(self.dead)} dead letters")
            await asyncio.sleep(0.02)

    async def buried_id(self, message_id: str | None, *, seconds: float = 10) -> AbstractIncomingMessage:
        """The dead letter that was this message, whether we buried it or the broker did."""
        return await self.buried(
            lambda one: message_id in {one.message_id, one.headers.get("viaduct-message-id")}, seconds=seconds
        )
