"""Lanes: first come, first served, each key for itself, and none left behind."""

import asyncio
from uuid import uuid4

from viaduct_agent.lanes import Lanes


async def test_turns_come_in_the_order_of_entering() -> None:
    """Whatever order the waiters are started in."""
    lanes, key, seen = Lanes(), uuid4(), []
    turns = [lanes.enter(key) for _ in range(5)]

    async def one(number: int) -> None:
        async with turns[number]:
            await asyncio.sleep(0)
            seen.append(number)

    await asyncio.gather(*(one(number) for number in (4, 2, 0, 3, 1)))
    assert seen == [0, 1, 2, 3, 4]
    assert len(lanes) == 0


async def test_a_cancelled_waiter_lets_nobody_overtake() -> None:
    """Who is behind a place given up still waits for who is before."""
    lanes, key = Lanes(), uuid4()
    first, second, third = (lanes.enter(key) for _ in range(3))
    entered = asyncio.Event()

    async def wait(turn: object) -> None:
        async with turn:  # type: ignore[attr-defined]
            entered.set()

    async with first:
        cancelled = asyncio.create_task(wait(second))
        last = asyncio.create_task(wait(third))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        await asyncio.sleep(0)
        assert not entered.is_set()
        assert lanes.busy(key)
    await last
    assert len(lanes) == 0


async def test_a_turn_left_unused_frees_its_place_once() -> None:
    """`leave` may be repeated."""
    lanes, key = Lanes(), uuid4()
    turn = lanes.enter(key)
    turn.leave()
    turn.leave()
    assert not lanes.busy(key)
    async with lanes.enter(key):
        pass
