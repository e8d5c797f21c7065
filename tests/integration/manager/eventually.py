"""Waiting for what will be so."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(look: Callable[[], Awaitable[T]], is_so: Callable[[T], bool], *, seconds: float = 15) -> T:
    """Look until it is so; the last sight is in the failure."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not is_so(seen := await look()):
        assert asyncio.get_running_loop().time() < deadline, seen
        await asyncio.sleep(0.05)
    return seen
