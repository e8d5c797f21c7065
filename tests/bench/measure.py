"""Interleaved rounds, and what they come to."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

Call = Callable[[], Awaitable[object]]
Contender = Callable[[], Awaitable[float]]
"""Runs for a while and returns the seconds that one unit of its work took."""


@dataclass(frozen=True)
class Spread:
    """Several rounds' numbers."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Sum up at least one number."""
        return cls(statistics.median(values), min(values), max(values))

    def map(self, change: Callable[[float], float]) -> "Spread":
        """The same rounds in another unit; `change` may turn large into small."""
        low, high = sorted((change(self.min), change(self.max)))
        return Spread(change(self.median), low, high)


@dataclass(frozen=True)
class Comparison:
    """Ours against a baseline: seconds for one unit of work, and how many times the baseline's time ours takes,
    round by round, so that a machine that is slow for a minute is so for both."""

    name: str
    baseline_name: str
    unit: str  # "ms", or what is counted per second: "requests/s"
    ours_seconds: Spread
    baseline_seconds: Spread
    cost: Spread

    def shown(self, seconds: Spread) -> Spread:
        """Times in the unit of this comparison."""
        return seconds.map(lambda value: value * 1000 if self.unit == "ms" else 1 / value)


async def rounds(contenders: Mapping[str, Contender], count: int) -> dict[str, list[float]]:
    """Let all contenders run `count` rounds, each time in another order, after a round that does not count."""
    names = list(contenders)
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-1, count):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            seconds = await contenders[name]()
            if number >= 0:
                found[name].append(seconds)
    return found


def compare(
    name: str, ours: Sequence[float], baseline_name: str, baseline: Sequence[float], *, unit: str, times: int = 1
) -> Comparison:
    """Compare rounds; `times` is how many of the baseline's units one of ours is made of."""
    baseline = [value * times for value in baseline]
    cost = [mine / its for mine, its in zip(ours, baseline, strict=True)]
    return Comparison(name, baseline_name, unit, Spread.of(ours), Spread.of(baseline), Spread.of(cost))


async def seconds_per_call(call: Call, count: int, in_flight: int) -> float:
    """Make `count` calls, `in_flight` at a time, and return the time that each took from the whole."""
    left = iter(range(count))

    async def worker() -> None:
        for _ in left:
            await call()

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return (time.perf_counter() - began) / count


async def median_seconds(call: Call, count: int) -> float:
    """Make `count` calls one after the other and return the median of their times."""
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        await call()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)
