"""One stream of changes out of several: the kernel's links, and what backends watch beside them."""

import asyncio
from collections.abc import AsyncIterator

from viaduct_agent.links.watch import Changed


async def merged(*sources: AsyncIterator[Changed]) -> AsyncIterator[Changed]:
    """Yield what any of them yields, as it comes; raise what any of them raises. Closes them all at its end."""
    waiting = {asyncio.ensure_future(anext(source)): source for source in sources}
    try:
        while waiting:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                source = waiting.pop(task)
                try:
                    changed = task.result()
                except StopAsyncIteration:
                    continue
                waiting[asyncio.ensure_future(anext(source))] = source
                yield changed
    finally:
        for task in waiting:
            task.cancel()  # which ends a generator that waits, and so runs its own `finally`
        await asyncio.gather(*waiting, return_exceptions=True)
