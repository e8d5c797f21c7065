"""Changes from several sources in one stream."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from viaduct_agent.changes import merged
from viaduct_agent.links.watch import Changed


class Source:
    """Yields what is put into it, and tells when it was closed."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Changed | Exception | None] = asyncio.Queue()
        self.closed = False

    async def changes(self) -> AsyncIterator[Changed]:
        try:
            while (item := await self.queue.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self.closed = True


def change(name: str) -> Changed:
    return Changed(frozenset({name}))


async def test_what_any_source_tells_comes_through_while_others_are_silent() -> None:
    """One that ends leaves the others; when all have ended, so has the stream."""
    one, two = Source(), Source()
    stream = merged(one.changes(), two.changes())
    for source, name in ((one, "a"), (two, "b"), (two, "c"), (one, "d")):
        source.queue.put_nowait(change(name))
        assert (await asyncio.wait_for(anext(stream), 5)).names == {name}
    one.queue.put_nowait(None)
    two.queue.put_nowait(change("e"))
    assert (await asyncio.wait_for(anext(stream), 5)).names == {"e"}
    two.queue.put_nowait(None)
    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(anext(stream), 5)


async def test_nothing_is_lost_when_several_tell_at_once() -> None:
    """Each of them is yielded."""
    sources = [Source() for _ in range(5)]
    for number, source in enumerate(sources):
        source.queue.put_nowait(change(str(number)))
        source.queue.put_nowait(None)
    seen = [name async for changed in merged(*(source.changes() for source in sources)) for name in changed.names]
    assert sorted(seen) == ["0", "1", "2", "3", "4"]


async def test_an_error_ends_the_stream_and_closes_the_other_sources() -> None:
    """A drift guard that hears only half must not go on as if it heard all."""
    one, two = Source(), Source()
    stream = merged(one.changes(), two.changes())
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    one.queue.put_nowait(OSError("gone"))
    with pytest.raises(OSError, match="gone"):
        await asyncio.wait_for(waiting, 5)
    assert one.closed
    assert two.closed
