"""Interleaved rounds, and what they come to."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

T = TypeVar("T")
Call = Callable[[], Awaitable[object]]
Contender = Callable[[], Awaitable[float]]
"""Runs for a while and returns the seconds that one unit of its work took."""
Change = Callable[[float], float]

# From seconds, or bytes, to the unit that is shown; of any other unit it is so many per second.
SHOWN: Mapping[str, Change] = {
    "s": lambda seconds: seconds,
    "ms": lambda seconds: seconds * 1000,
    "MiB": lambda size_bytes: size_bytes / 2**20,
}


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

    def map(self, change: Change) -> "Spread":
        """The same rounds in another unit; `change` may turn large into small."""
        low, high = sorted((change(self.min), change(self.max)))
        return Spread(change(self.median), low, high)


@dataclass(frozen=True)
class Comparison:
    """Ours against a baseline: seconds for one unit of work (or bytes), and how many times the baseline's ours are,
    round by round, so that a machine that is slow for a minute is so for both."""

    name: str
    baseline_name: str
    unit: str  # of `SHOWN`, or what is counted per second: "requests/s"
    ours: Spread
    baseline: Spread
    cost: Spread
    target: float | None = None  # what the cost ought to be at most

    def shown(self, values: Spread) -> Spread:
        """Times or sizes in the unit of this comparison."""
        return values.map(SHOWN.get(self.unit, lambda seconds: 1 / seconds))


@dataclass(frozen=True)
class Times:
    """Calls of one round: the seconds that each took from the whole, and how long its caller waited."""

    per_call: float
    waits: Sequence[float]

    @classmethod
    def together(cls, parts: Sequence["Times"]) -> Self:
        """Parts of equal length as one."""
        return cls(statistics.mean(one.per_call for one in parts), [wait for one in parts for wait in one.waits])

    def quantile(self, share: float) -> float:
        """The wait that this share of the callers did not exceed."""
        ranked = sorted(self.waits)
        return ranked[min(len(ranked) - 1, int(share * len(ranked)))]


async def rounds(contenders: Mapping[str, Callable[[], Awaitable[T]]], count: int) -> dict[str, list[T]]:
    """Let all contenders run `count` rounds, each time in another order, after a round that does not count."""
    names = list(contenders)
    found: dict[str, list[T]] = {name: [] for name in names}
    for number in range(-1, count):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            result = await contenders[name]()
            if number >= 0:
                found[name].append(result)
    return found


def compare(
    name: str,
    ours: Sequence[float],
    baseline_name: str,
    baseline: Sequence[float],
    *,
    unit: str,
    times: int = 1,
    target: float | None = None,
) -> Comparison:
    """Compare rounds; `times` is how many of the baseline's units one of ours is made of."""
    baseline = [value * times for value in baseline]
    cost = [mine / its for mine, its in zip(ours, baseline, strict=True)]
    return Comparison(name, baseline_name, unit, Spread.of(ours), Spread.of(baseline), Spread.of(cost), target)


async def timed(call: Call, count: int, in_flight: int) -> Times:
    """Make `count` calls, `in_flight` at a time."""
    left = iter(range(count))
    waits: list[float] = []

    async def worker() -> None:
        for _ in left:
            began = time.perf_counter()
            await call()
            waits.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return Times((time.perf_counter() - began) / count, waits)


async def seconds_per_call(call: Call, count: int, in_flight: int) -> float:
    """Make `count` calls, `in_flight` at a time, and return the time that each took from the whole."""
    return (await timed(call, count, in_flight)).per_call


async def median_seconds(call: Call, count: int) -> float:
    """Make `count` calls one after the other and return the median of their times."""
    return statistics.median((await timed(call, count, 1)).waits)
