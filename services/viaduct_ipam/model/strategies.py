"""In which order free addresses are looked for, and which of those in sight are taken.

A strategy says where to look as a sequence of segments, none of which holds an address of another; the search
(`viaduct_ipam.search`) walks them block by block and lets the strategy choose among the free addresses of each block.
"""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import Protocol

from viaduct_ipam.model.blocks import bits_of
from viaduct_ipam.model.intervals import Interval, IntervalSet
from viaduct_ipam.model.ranges import Address, Range
from viaduct_ipam.model.reservations import Reservation, reserved_set


@dataclass(frozen=True)
class OpenRange:
    """A range, and what of it may be handed out unless it is in use."""

    range: Range
    open: IntervalSet


@dataclass(frozen=True)
class Segment:
    """A part of a range to search, ascending, both ends inclusive."""

    within: OpenRange
    first: int
    last: int


class Strategy(Protocol):
    """No default methods: forget one, and it is no strategy. All are pure, but for the generator they are given."""

    moves_cursor: bool  # whether the last address given is remembered

    def guesses(self, space: Sequence[OpenRange], wanted: int, rng: random.Random) -> list[tuple[OpenRange, int]]:
        """Distinct open addresses to try first, in this order; may be none."""
        ...

    def segments(self, space: Sequence[OpenRange], cursor: Address | None, rng: random.Random) -> Iterable[Segment]:
        """The whole space, each address once, in the order of the search."""
        ...

    def choose(self, free: int, wanted: int, rng: random.Random) -> list[int]:
        """At most `wanted` of the set bits of `free`, in the order in which they are given out."""
        ...


def allocation_order(ranges: Iterable[Range]) -> list[Range]:
    """Normal ranges before address pools, ascending within each; so a pool is used unasked only as a last resort."""
    return sorted(ranges, key=lambda one: (one.bounds.type != "normal", one.bounds.version, int(one.bounds.first)))


def open_space(ranges: Iterable[Range], reservations: Iterable[Reservation]) -> list[OpenRange]:
    """The ranges in the same order, with what of each may be handed out unasked."""
    reserved = list(reservations)
    return [OpenRange(one, one.bounds.assignable.minus(reserved_set(reserved, one.bounds.version))) for one in ranges]


def without(space: Iterable[OpenRange], ips: Iterable[Address]) -> list[OpenRange]:
    """The space less some addresses."""
    gone: dict[int, list[Interval]] = {4: [], 6: []}
    for ip in ips:
        gone[ip.version].append((int(ip), int(ip)))
    sets = {version: IntervalSet.of(intervals) for version, intervals in gone.items()}
    return [OpenRange(one.range, one.open.minus(sets[one.range.bounds.version])) for one in space]


class FirstAvailable:
    """The lowest free address of the first range that has one."""

    moves_cursor = False

    def guesses(self, space: Sequence[OpenRange], wanted: int, rng: random.Random) -> list[tuple[OpenRange, int]]:
        return []

    def segments(self, space: Sequence[OpenRange], cursor: Address | None, rng: random.Random) -> Iterator[Segment]:
        return (whole(one) for one in space)

    def choose(self, free: int, wanted: int, rng: random.Random) -> list[int]:
        return list(islice(bits_of(free), wanted))


class NextFit:
    """Ascending from the last address that this strategy gave, wrapping round behind the last range."""

    moves_cursor = True

    def guesses(self, space: Sequence[OpenRange], wanted: int, rng: random.Random) -> list[tuple[OpenRange, int]]:
        return []

    def segments(self, space: Sequence[OpenRange], cursor: Address | None, rng: random.Random) -> Iterator[Segment]:
        if cursor is None:
            return (whole(one) for one in space)
        for index, one in enumerate(space):
            if cursor in one.range.bounds:
                return cyclic(space, index, int(cursor) + 1)
        # The range of the cursor is gone: go on with the next one above.
        for index, one in enumerate(space):
            if int(one.range.bounds.first) > int(cursor):
                return cyclic(space, index, int(one.range.bounds.first))
        return (whole(one) for one in space)

    def choose(self, free: int, wanted: int, rng: random.Random) -> list[int]:
        return list(islice(bits_of(free), wanted))


class Random:
    """Any free address, each as likely as the next while the space is not nearly full.

    Guessing alone would take ever more tries as the space fills; so after a few, the search goes on from a random
    point and takes what is free there.
    """

    moves_cursor = False

    def guesses(self, space: Sequence[OpenRange], wanted: int, rng: random.Random) -> list[tuple[OpenRange, int]]:
        size = sum(one.open.size for one in space)
        tries = min(size, 2 * wanted + 8)
        # Not `sample(range(size), tries)`: a length of more than 2^63 is too much for it.
        ranks: dict[int, None] = {}
        if size <= 4 * tries:
            ranks = dict.fromkeys(rng.sample(range(size), tries))
        while len(ranks) < tries:
            ranks[rng.randrange(size)] = None
        return [_member(space, rank) for rank in ranks]

    def segments(self, space: Sequence[OpenRange], cursor: Address | None, rng: random.Random) -> Iterator[Segment]:
        size = sum(one.open.size for one in space)
        if not size:
            return iter(())
        start, point = _member(space, rng.randrange(size))
        return cyclic(space, space.index(start), point)

    def choose(self, free: int, wanted: int, rng: random.Random) -> list[int]:
        positions = list(bits_of(free))
        return rng.sample(positions, min(wanted, len(positions)))


def whole(one: OpenRange) -> Segment:
    return Segment(one, int(one.range.bounds.first), int(one.range.bounds.last))


def ascending(space: Iterable[OpenRange], start: Address | None) -> list[Segment]:
    """All ranges by address, IPv4 first; from `start` on (inclusive), and then of its version only."""
    segments = [whole(one) for one in space]
    if start is not None:
        segments = [
            Segment(one.within, max(one.first, int(start)), one.last)
            for one in segments
            if one.within.range.bounds.version == start.version and int(start) <= one.last
        ]
    return sorted(segments, key=lambda one: (one.within.range.bounds.version, one.first))


def cyclic(space: Sequence[OpenRange], index: int, point: int) -> Iterator[Segment]:
    """From `point` in the range at `index` on, round to the address before it; empty segments are left out."""
    start = whole(space[index])
    if point <= start.last:
        yield Segment(start.within, point, start.last)
    for one in (*space[index + 1 :], *space[:index]):
        yield whole(one)
    if start.first < point:
        yield Segment(start.within, start.first, min(point - 1, start.last))


def _member(space: Sequence[OpenRange], rank: int) -> tuple[OpenRange, int]:
    for one in space:
        if rank < one.open.size:
            return one, one.open.member(rank)
        rank -= one.open.size
    raise IndexError(rank)


FIRST_AVAILABLE: Strategy = FirstAvailable()
STRATEGIES: Mapping[str, Strategy] = MappingProxyType(
    {"firstAvailable": FIRST_AVAILABLE, "nextFit": NextFit(), "random": Random()}
)
