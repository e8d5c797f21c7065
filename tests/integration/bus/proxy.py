"""A TCP proxy that can cut, stall, and forget connections, between a client and the broker."""

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Self

TRICKLE = 65536


class Proxy:
    """`cut` closes both ends; `stall` lets bytes wait; `swallow` drops what comes from either side, half-open."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.swallowing = False
        self.refusing = False
        self.accepted = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self._flowing.set()
        self.cut()
        await self._server.wait_closed()

    def url(self, url: str) -> str:
        """The same URL, by way of this proxy."""
        return url.replace(f":{self._target}/", f":{self.port}/")

    def cut(self) -> None:
        """Every connection that stands is closed; new ones are let through."""
        for writer in list(self._writers):
            writer.close()

    def stall(self) -> None:
        self._flowing.clear()

    def flow(self) -> None:
        self._flowing.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self.refusing:
            writer.close()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers |= {writer, far_writer}
        try:
            await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        finally:
            for one in (writer, far_writer):
                one.close()
                self._writers.discard(one)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(TRICKLE):
                await self._flowing.wait()
                if not self.swallowing:
                    writer.write(data)
                    await writer.drain()
        writer.close()
