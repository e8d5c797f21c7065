"""Sets of addresses as sorted intervals of integers, so that an IPv6 /64 costs no more than an IPv4 /30."""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

Interval = tuple[int, int]


@dataclass(frozen=True)
class IntervalSet:
    """Sorted, disjoint, not adjacent intervals; both ends of each are inclusive. Build it with `of`."""

    parts: tuple[Interval, ...] = ()

    @classmethod
    def of(cls, intervals: Iterable[Interval]) -> "IntervalSet":
        """The union of intervals in any order; they may overlap. One with first > last is empty."""
        merged: list[Interval] = []
        for first, last in sorted(part for part in intervals if part[0] <= part[1]):
            if merged and first <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(merged[-1][1], last))
            else:
                merged.append((first, last))
        return cls(tuple(merged))

    @cached_property
    def size(self) -> int:
        return sum(last - first + 1 for first, last in self.parts)

    @cached_property
    def _lasts(self) -> list[int]:
        return [last for _, last in self.parts]

    def __contains__(self, address: int) -> bool:
        return self.next_from(address) == address

    def next_from(self, address: int) -> int | None:
        """The lowest member that is not below `address`."""
        index = bisect_left(self._lasts, address)
        return max(address, self.parts[index][0]) if index < len(self.parts) else None

    def within(self, first: int, last: int) -> "IntervalSet":
        """The members from `first` to `last`, both inclusive; none if first > last."""
        parts: list[Interval] = []
        if first > last:
            return IntervalSet()
        for part in self.parts[bisect_left(self._lasts, first) :]:
            if part[0] > last:
                break
            parts.append((max(first, part[0]), min(last, part[1])))
        return IntervalSet(tuple(parts))

    def minus(self, other: "IntervalSet") -> "IntervalSet":
        """The members that are not in `other`."""
        parts: list[Interval] = []
        for first, last in self.parts:
            position = first
            for taken_first, taken_last in other.within(first, last).parts:
                if position < taken_first:
                    parts.append((position, taken_first - 1))
                position = taken_last + 1
            if position <= last:
                parts.append((position, last))
        return IntervalSet(tuple(parts))

    def intersection(self, other: "IntervalSet") -> "IntervalSet":
        return IntervalSet(tuple(part for first, last in self.parts for part in other.within(first, last).parts))

    def member(self, rank: int) -> int:
        """The member with `rank` members below it.

        Raises:
            IndexError: the set has not so many.
        """
        for first, last in self.parts:
            if rank <= last - first:
                return first + rank
            rank -= last - first + 1
        raise IndexError(rank)
