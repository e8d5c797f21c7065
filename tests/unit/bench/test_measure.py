"""The arithmetic of the bench: turns, ratios, units."""

import asyncio

import pytest
from bench.measure import Spread, Times, compare, rounds, seconds_per_call, timed


async def test_rounds_take_turns_and_forget_the_first() -> None:
    """Nobody always runs first, and what is cold at the start does not count."""
    order: list[str] = []

    async def one(name: str) -> float:
        order.append(name)
        return float(len(order))

    found = await rounds({"a": lambda: one("a"), "b": lambda: one("b")}, 2)

    assert [order[i : i + 2] for i in range(0, 6, 2)] == [["b", "a"], ["a", "b"], ["b", "a"]]
    assert found == {"a": [3.0, 6.0], "b": [4.0, 5.0]}


def test_the_cost_is_that_of_each_round() -> None:
    """A machine that was slow in one round was so for both: the ratio does not see it."""
    one = compare("x", [2.0, 20.0, 4.0], "y", [1.0, 10.0, 1.0], unit="ms")

    assert one.cost == Spread(2.0, 2.0, 4.0)
    assert one.shown(one.ours) == Spread(4000.0, 2000.0, 20000.0)


def test_rates_turn_times_round() -> None:
    """The least time is the highest rate; two of the baseline's units may make one of ours."""
    one = compare(
        "x",
        [0.5],
        "y",
        [
            0.1,
        ],
        unit="requests/s",
        times=2,
    )

    assert one.cost.median == pytest.approx(2.5)
    assert one.shown(Spread(0.5, 0.25, 1.0)) == Spread(2.0, 1.0, 4.0)


async def test_all_calls_are_made_and_no_more_than_allowed_at_once() -> None:
    """Exactly `count`, by `in_flight` workers."""
    running = peak = made = 0

    async def call() -> None:
        nonlocal running, peak, made
        running, made = running + 1, made + 1
        peak = max(peak, running)
        await asyncio.sleep(0)
        running -= 1

    await seconds_per_call(call, 10, 3)

    assert (made, peak) == (10, 3)


async def test_each_wait_is_told() -> None:
    """As many as there were calls; a call that waits for others is no shorter than the time it took from the whole."""
    times = await timed(lambda: asyncio.sleep(0.001), 20, 4)

    assert len(times.waits) == 20
    assert min(times.waits) > times.per_call


def test_a_quantile_is_the_wait_of_somebody() -> None:
    """Of a hundred callers the last one is beyond 99 %, and nobody is beyond all."""
    times = Times(1.0, [float(wait) for wait in range(100, 0, -1)])

    assert (times.quantile(0.5), times.quantile(0.99), times.quantile(1.0)) == (51.0, 100.0, 100.0)


def test_parts_of_equal_length_are_one_round() -> None:
    """The mean of what a call took, and everybody's wait."""
    assert Times.together([Times(1.0, [1.0]), Times(3.0, [2.0, 5.0])]) == Times(2.0, [1.0, 2.0, 5.0])


def test_sizes_are_shown_in_mebibytes() -> None:
    """A size is no rate: more is more."""
    one = compare("x", [float(4 * 2**20)], "y", [float(2**20)], unit="MiB", target=2.0)

    assert one.shown(one.ours) == Spread(4.0, 4.0, 4.0)
    assert one.cost.median == 4.0
