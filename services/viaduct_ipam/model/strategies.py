"""In which order free addresses are looked for, and which of those in sight are taken.

A strategy says where to look as a sequence of segments, none of which holds an address of another; the search
(`viaduct_ipam.model.search`) walks them block by block and lets the strategy choose among the free addresses of each.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from types import MappingProxyType
from typing import Protocol

from viaduct_ipam.model.blocks import bits_of, block_of, nth_bit
from viaduct_ipam.model.layout import OpenRange, Space

# So many addresses are looked for at one random place, and so many places are drawn, and read, at a time.
SHARE_A_POINT = 32
POINTS_AT_ONCE = 4


@dataclass
class Draw:
    """Ranks in one space that were drawn: the one in use is good for `left` more addresses, then come those `ahead`."""

    point: int = 0
    left: int = 0
    ahead: list[int] = field(default_factory=list)


Drawn = dict[Space, Draw]


@dataclass(frozen=True)
class Segment:
    """A part of a range to search, ascending, both ends inclusive."""

    within: OpenRange
    first: int
    last: int


class Strategy(Protocol):
    """No default methods: forget one, and it is no strategy. All are pure, but for the generator they are given."""

    moves_cursor: bool  # whether the last address given is remembered
    prefers_former: bool  # whether an owner's former address is tried first

    def points(self, space: Space, count: int, rng: random.Random, drawn: Drawn) -> list[int]:
        """Where to begin the search of each of `count` addresses, as ranks in the space; none if that is not known
        before the search.

        Args:
            drawn: what was drawn for those before; changed in place.
        """
        ...

    def segments(self, space: Space, point: int | None, cursor: int | None) -> Iterator[Segment]:
        """The whole space, each address once, in the order of the search, from `point` or behind `cursor` on."""
        ...

    def choose(self, free: int, wanted: int, rng: random.Random) -> list[int]:
        """At most `wanted` of the set bits of `free`, in the order in which they are given out."""
        ...


class FirstAvailable:
    """The lowest free address of the first range that has one."""

    moves_cursor = False
    prefers_former = False

    def points(self, space: Space, count: int, rng: random.Random, drawn: Drawn) -> list[int]:
        return []

    def segments(self, space: Space, point: int | None, cursor: int | None) -> Iterator[Segment]:
        return map(whole, space.ranges)

    def choose(self, free: int, wanted: int, rng: random.Random) -> list[int]:
        return lowest(free, wanted)


class NextFit:
    """Ascending from the last address that this strategy gave, wrapping round behind the last range."""

    moves_cursor = True
    prefers_former = False

    def points(self, space: Space, count: int, rng: random.Random, drawn: Drawn) -> list[int]:
        return []

    def segments(self, space: Space, point: int | None, cursor: int | None) -> Iterator[Segment]:
        if cursor is None:
            return map(whole, space.ranges)
        index = space.index_of(cursor)
        if index is not None:
            return cyclic(space.ranges, index, cursor + 1)
        # The range of the cursor is gone: go on with the next one above.
        for index, one in enumerate(space.ranges):
            if one.first > cursor:
                return cyclic(space.ranges, index, one.first)
        return map(whole, space.ranges)

    def choose(self, free: int, wanted: int, rng: random.Random) -> list[int]:
        return lowest(free, wanted)


class Sticky(NextFit):
    """The owner's former address if it is free, else next fit."""

    prefers_former = True


class Random:
    """Any free address: at random among the free ones of the block in which a random address of the space lies.

    If that block has none, the next one with room is taken. So the cost does not grow as the space fills, and all
    are equally likely as long as they are spread evenly. A few that follow one another come from the same place: else
    each would cost a block of its own.
    """

    moves_cursor = False
    prefers_former = False

    def points(self, space: Space, count: int, rng: random.Random, drawn: Drawn) -> list[int]:
        if not space.size:
            return []
        draw = drawn.setdefault(space, Draw())
        points = []
        for _ in range(count):
            if not draw.left:
                if not draw.ahead:
                    draw.ahead = [rng.randrange(space.size) for _ in range(POINTS_AT_ONCE)]
                draw.point, draw.left = draw.ahead.pop(), SHARE_A_POINT
            draw.left -= 1
            points.append(draw.point)
        return points

    def segments(self, space: Space, point: int | None, cursor: int | None) -> Iterator[Segment]:
        if point is None:
            return iter(())
        index, ip = space.member(point)
        return cyclic(space.ranges, index, max(space.ranges[index].first, block_of(ip)))

    def choose(self, free: int, wanted: int, rng: random.Random) -> list[int]:
        if wanted == 1 and free:
            return [nth_bit(free, rng.randrange(free.bit_count()))]
        positions = list(bits_of(free))
        return rng.sample(positions, min(wanted, len(positions)))


def lowest(free: int, wanted: int) -> list[int]:
    """The lowest set bits, at most `wanted`."""
    if wanted == 1 and free:
        return [(free & -free).bit_length() - 1]
    return list(islice(bits_of(free), wanted))


def whole(one: OpenRange) -> Segment:
    return Segment(one, one.first, one.last)


def cyclic(ranges: Sequence[OpenRange], index: int, point: int) -> Iterator[Segment]:
    """From `point` in the range at `index` on, round to the address before it; empty segments are left out."""
    start = ranges[index]
    if point <= start.last:
        yield Segment(start, point, start.last)
    for one in (*ranges[index + 1 :], *ranges[:index]):
        yield whole(one)
    if start.first < point:
        yield Segment(start, start.first, min(point - 1, start.last))


STRATEGIES: Mapping[str, Strategy] = MappingProxyType(
    {"firstAvailable": FirstAvailable(), "nextFit": NextFit(), "random": Random(), "sticky": Sticky()}
)
