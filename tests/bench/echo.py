"""The baseline of everything that is asked over the broker: request and reply in bare aio-pika, on the same broker.

    python -m bench.echo URL        answers, in a process of its own, as the services do

The durability is the services': a quorum queue, persistent requests with a confirm each, and persistent replies with
a confirm each, before the request is acked. No contract, no database, no log.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, ClassVar, cast
from uuid import UUID, uuid4

import aio_pika
import uvloop
from aio_pika.abc import AbstractChannel, AbstractExchange, AbstractIncomingMessage

from local_stack.run_dir import CHECKOUT
from viaduct_common import topology
from viaduct_common.messages.base import Request, Service

QUEUE = "bench.echo"
REPLY_TO = "amq.rabbitmq.reply-to"
PREFETCH = 64
REPLY = b'{"ok":true,"value":{' + b'"name":"0123456789abcdef",' * 10 + b'"end":0}}'  # as long as a zone's reply
OK = b'{"ok":true'


class Echo(Request[dict[str, Any]]):
    """The same for the typed client: the echo is asked as if it were a service."""

    message_type: ClassVar[str] = QUEUE
    service: ClassVar[Service] = cast("Service", QUEUE)  # its routing key

    l3_network_uuid: UUID


@dataclass(frozen=True)
class Question:
    """What the bare client sends: the routing key, the type, and the JSON."""

    routing_key: str
    type: str
    body: bytes

    @classmethod
    def of(cls, request: Request[Any]) -> "Question":
        """A request of the contract."""
        return cls(request.service, request.message_type, request.to_json())


ECHO = Question.of(Echo(l3_network_uuid=uuid4()))


async def _declare(channel: AbstractChannel) -> None:
    queue = await channel.declare_queue(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
    await queue.bind(topology.REQUESTS, QUEUE)


async def serve(url: str) -> None:
    """Answer for ever; prints one line when it does."""
    connection = await aio_pika.connect(url)
    channel = await connection.channel(publisher_confirms=True)
    replies = await connection.channel(publisher_confirms=True)
    await channel.set_qos(prefetch_count=PREFETCH)
    await _declare(channel)
    queue = await channel.get_queue(QUEUE)

    async def answer(message: AbstractIncomingMessage) -> None:
        reply = aio_pika.Message(
            REPLY, correlation_id=message.message_id, delivery_mode=aio_pika.DeliveryMode.PERSISTENT
        )
        await replies.default_exchange.publish(reply, routing_key=message.reply_to or "", mandatory=False)
        await message.ack()

    await queue.consume(answer)
    print("ready", flush=True)
    await asyncio.Event().wait()


class EchoClient:
    """Asks the echo, asks a service in the same way, and does the least that any call must: one message to itself."""

    def __init__(self, requests: AbstractExchange, plain: AbstractExchange, own_queue: str) -> None:
        self._requests = requests
        self._plain = plain
        self._own_queue = own_queue
        self._waiting: dict[str, asyncio.Future[bytes]] = {}

    async def call(self) -> bytes:
        """One request to the echo and its reply."""
        return await self.ask(ECHO)

    async def ask(self, question: Question) -> bytes:
        """One request, persistent and confirmed, and its reply."""
        key = str(uuid4())
        message = aio_pika.Message(
            question.body,
            type=question.type,
            message_id=key,
            reply_to=REPLY_TO,
            content_type="application/json",
            headers={topology.VERSION_HEADER: topology.CONTRACT_VERSION},
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        answer = self._expect(key)
        try:
            await self._requests.publish(message, routing_key=question.routing_key)
            body = await answer
        finally:
            del self._waiting[key]
        if not body.startswith(OK):
            raise RuntimeError(f"{question.type}: {body.decode()}")
        return body

    async def round_trip(self) -> bytes:
        """One transient message to a queue of our own, unconfirmed."""
        key = str(uuid4())
        answer = self._expect(key)
        try:
            message = aio_pika.Message(REPLY, correlation_id=key)
            await self._plain.publish(message, routing_key=self._own_queue, mandatory=False)
            return await answer
        finally:
            del self._waiting[key]

    def _expect(self, key: str) -> asyncio.Future[bytes]:
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[key] = answer
        return answer

    async def on_message(self, message: AbstractIncomingMessage) -> None:
        """Whatever comes back."""
        waiting = self._waiting.get(message.correlation_id or "")
        if waiting is not None and not waiting.done():
            waiting.set_result(message.body)


@asynccontextmanager
async def echo(url: str) -> AsyncIterator[EchoClient]:
    """An echo server in a process of its own, and a client of it."""
    paths = os.pathsep.join([str(CHECKOUT / "deploy"), str(CHECKOUT / "tests")])
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.echo", url,
        env={**os.environ, "PYTHONPATH": paths}, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        async with asyncio.timeout(20):
            if await server.stdout.readline() != b"ready\n":
                raise RuntimeError("the echo server did not start")
        async with await aio_pika.connect(url) as connection:
            confirmed = await connection.channel(publisher_confirms=True)
            plain = await connection.channel(publisher_confirms=False)
            own = await plain.declare_queue(exclusive=True, auto_delete=True)
            requests = await confirmed.get_exchange(topology.REQUESTS, ensure=False)
            client = EchoClient(requests, plain.default_exchange, own.name)
            replies = await confirmed.get_queue(REPLY_TO, ensure=False)
            await replies.consume(client.on_message, no_ack=True)
            await own.consume(client.on_message, no_ack=True)
            yield client
    finally:
        with suppress(ProcessLookupError):
            server.terminate()
        await server.wait()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
