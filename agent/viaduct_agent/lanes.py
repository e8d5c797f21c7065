"""One lane per network: the commands for one network in the order they came, those of others beside them."""

import asyncio
from types import TracebackType
from typing import Self
from uuid import UUID


class Lanes:
    """A lane exists only while somebody is in it, so a host that sees a million networks keeps none of them."""

    def __init__(self) -> None:
        self._tails: dict[UUID, asyncio.Future[None]] = {}

    def __len__(self) -> int:
        return len(self._tails)

    def busy(self, key: UUID) -> bool:
        return key in self._tails

    def enter(self, key: UUID) -> "Turn":
        """Queue up, now: the order of the calls is the order of the turns. Use the turn with `async with`, or `leave`
        it unused."""
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        turn = Turn(self, key, self._tails.get(key), mine)
        self._tails[key] = mine
        return turn

    def _left(self, key: UUID, mine: asyncio.Future[None]) -> None:
        if not mine.done():
            mine.set_result(None)
        if self._tails.get(key) is mine:
            del self._tails[key]


class Turn:
    """A place in a lane."""

    def __init__(
        self, lanes: Lanes, key: UUID, before: asyncio.Future[None] | None, mine: asyncio.Future[None]
    ) -> None:
        self._lanes = lanes
        self._key = key
        self._before = before
        self._mine = mine

    async def __aenter__(self) -> Self:
        try:
            if self._before is not None:
                await asyncio.wait({self._before})  # not awaited itself: a cancelled waiter would cancel it for all
        except BaseException:
            self.leave()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def leave(self) -> None:
        """Give the place up. Whoever is behind still waits for whoever is before. Repeating it changes nothing."""
        if self._before is None or self._before.done():
            self._lanes._left(self._key, self._mine)  # noqa: SLF001 - one idea in two classes
        else:
            self._before.add_done_callback(lambda _: self._lanes._left(self._key, self._mine))  # noqa: SLF001
