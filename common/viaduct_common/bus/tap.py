"""The frames of messages, past aiormq.

    socket ─► Tap ─┬─ messages and confirms of channels that have an inlet ─► Consumer, Publisher
                   └─ all else ─► aiormq: login, heartbeats, channels, queues, their closing
    socket ◄─ Tap ◄── aiormq, Consumer, Publisher: whole frames, many in one write

aiormq lets its user make the transport (`transport_factory`), and that is all we need of it: see ADR 11.
"""

import asyncio
import ssl
import time
from collections.abc import Callable
from typing import Any, Protocol, cast

import aio_pika
from aio_pika.abc import ConnectionParameter
from aiormq.connection import TransportFactory
from yarl import URL

from viaduct_common.bus import frames

ALIVE_EVERY_SECONDS = 1.0


class Inlet(Protocol):
    """Takes what comes in on one channel. It must not raise: the connection would be lost."""

    def on_message(self, method: bytes, header: bytes, body: bytes) -> None:
        """A delivered or returned message: the payloads of its frames."""

    def on_confirm(self, method: bytes) -> None:
        """The broker's ack or nack of what was published."""

    def on_lost(self, error: BaseException | None) -> None:
        """Nothing more will come."""


class Tap(asyncio.StreamReaderProtocol):
    """Sits on one connection."""

    def __init__(self, reader: asyncio.StreamReader, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(reader, loop=loop)
        self._reader = reader  # asyncio itself keeps but a weak reference
        self._call_soon = loop.call_soon
        self._channels: dict[int, _Content] = {}
        self._rest = b""
        self._readable = True
        self._told_alive = 0.0
        self._out: list[bytes] = []
        self._late: list[Callable[[], bytes]] = []
        self._flushing = False
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._transport_below: asyncio.Transport | None = None

    # ---- out -------------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Write whole frames, together with all that others have to send before the loop comes round.

        What is sent when the connection is gone is dropped: its inlets have been told.
        """
        self._out.append(data)
        self._flush_soon()

    def send_late(self, make: Callable[[], bytes]) -> None:
        """The same for frames that are made at the last moment, behind all others."""
        self._late.append(make)
        self._flush_soon()

    @property
    def full(self) -> bool:
        """The other side does not read: who goes on sending fills the memory."""
        return not self._flowing.is_set()

    async def drained(self) -> None:
        await self._flowing.wait()

    def flush(self) -> None:
        """Write now what waits."""
        out, self._out = self._out, []
        late, self._late = self._late, []
        out += [make() for make in late]
        transport = self._transport_below
        if out and transport is not None and not transport.is_closing():
            transport.write(b"".join(out))

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        self.flush()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._flowing.clear()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._flowing.set()

    # ---- in --------------------------------------------------------------------------------------------------

    def open(self, number: int, inlet: Inlet) -> None:
        """Give an inlet what concerns messages on this channel. aiormq hears no more of them."""
        self._channels[number] = _Content(inlet)

    def close(self, number: int) -> None:
        self._channels.pop(number, None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport_below = cast("asyncio.Transport", transport)  # uvloop's is one by its methods alone
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._flowing.set()
        for content in self._channels.values():
            content.inlet.on_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._readable:
            super().data_received(data)
            return
        if self._rest:
            data = self._rest + data
        start = at = 0  # aiormq's from here on; looked at up to here
        end = len(data)
        unpack = frames.FRAME_HEAD.unpack_from
        while end - at >= frames.FRAME_OVERHEAD:
            kind, number, size = unpack(data, at)
            stop = at + frames.FRAME_OVERHEAD + size
            if not frames.METHOD <= kind <= frames.HEARTBEAT:
                self._readable = False  # no AMQP, or another version of it: aiormq knows what to say
                break
            if stop > end:
                break
            content = self._channels.get(number)
            if content is not None and content.take(kind, data[at + frames.FRAME_HEAD.size : stop - 1]):
                if at > start:
                    super().data_received(data[start:at])
                start = stop
            at = stop
        if not self._readable:
            at = end
        if at > start:
            super().data_received(data[start:at])
        self._rest = data[at:]
        self._tell_alive()

    def _tell_alive(self) -> None:
        """A broker that sends messages sends no heartbeats, and aiormq must not think that it is gone."""
        now = time.monotonic()
        if self._readable and self._channels and now - self._told_alive > ALIVE_EVERY_SECONDS:
            self._told_alive = now
            super().data_received(frames.ALIVE)


class _Content:
    """Puts the frames of one message together."""

    def __init__(self, inlet: Inlet) -> None:
        self.inlet = inlet
        self._method: bytes | None = None
        self._header = b""
        self._parts: list[bytes] = []
        self._left = 0

    def take(self, kind: int, payload: bytes) -> bool:
        """True if the frame is of a message, or confirms one."""
        if kind == frames.METHOD:
            method_id = payload[:4]
            if method_id in {frames.DELIVER, frames.RETURN}:
                self._method = payload
                return True
            if method_id in {frames.ACK, frames.NACK}:
                self.inlet.on_confirm(payload)
                return True
            return False
        if self._method is None:
            return False
        if kind == frames.HEADER:
            self._header, self._parts, self._left = payload, [], frames.body_size(payload)
        else:
            self._parts.append(payload)
            self._left -= len(payload)
        if self._left <= 0:
            method, self._method = self._method, None
            parts = self._parts
            self.inlet.on_message(method, self._header, parts[0] if len(parts) == 1 else b"".join(parts))
        return True


class _Writer(asyncio.StreamWriter):
    """aiormq's own frames, which must not overtake ours."""

    def __init__(self, transport: asyncio.Transport, tap: Tap, reader: asyncio.StreamReader) -> None:
        super().__init__(transport, tap, reader, asyncio.get_running_loop())
        self._tap = tap

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._tap.flush()
        super().write(data)


class _Transports(TransportFactory):
    """One connection's transport, with the tap on it."""

    tap: Tap

    async def create(self, url: URL, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        provider = kwargs.pop("ssl_context_provider")
        context: ssl.SSLContext | None = await provider.get_context() if url.scheme == "amqps" else None
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        assert url.host is not None
        assert url.port is not None
        try:
            transport, self.tap = await loop.create_connection(
                lambda: Tap(reader, loop), url.host, url.port, ssl=context, **kwargs
            )
        except OSError as error:
            raise aio_pika.exceptions.AMQPConnectionError(*error.args) from error
        return reader, _Writer(transport, self.tap, reader)


class TappedConnection(aio_pika.Connection):
    """A plain connection of aio-pika's, with a tap."""

    PARAMETERS = (
        *aio_pika.Connection.PARAMETERS,
        ConnectionParameter("transport_factory", parser=lambda given: given, is_kwarg=True),
    )

    def __init__(self, url: URL, **options: Any) -> None:
        self._transports = _Transports()
        super().__init__(url, transport_factory=self._transports, **options)

    @property
    def tap(self) -> Tap:
        return self._transports.tap


async def taken_by_the_inlet(_message: object) -> None:
    """The callback that aiormq wants for a consumer; no message reaches it."""
