"""The search for free addresses. What it does not know it asks for: it is a generator of asks, resumed once they are
learnt."""

import random
from collections.abc import Generator, Iterable, Mapping, Sequence
from itertools import groupby

from viaduct_ipam.model.asks import Ask, RoomsAsk
from viaduct_ipam.model.blocks import BLOCK_SIZE, block_of
from viaduct_ipam.model.layout import Space
from viaduct_ipam.model.occupancy import ALL_TAKEN, MOST_WIDTH
from viaduct_ipam.model.ranges import Address
from viaduct_ipam.model.state import Pick, ScopeState
from viaduct_ipam.model.strategies import STRATEGIES, Segment, Strategy, whole

# As far as a look at a random place reaches: the next look is somewhere else.
POINT_WIDTH = 4


Search = Generator[list[Ask], None, None]


class Finder:
    """The search for the addresses of one request in one space; what it finds is taken at once.

    Args:
        excluded: addresses that are passed over, as masks by block.
    """

    def __init__(
        self, state: ScopeState, space: Space, strategy: Strategy, excluded: Mapping[int, int], rng: random.Random
    ) -> None:
        self._state = state
        self._space = space
        self._strategy = strategy
        self._excluded = excluded
        self._rng = rng

    def hints(self, points: Sequence[int]) -> list[Ask]:
        """What the search will want to know, as far as that is certain before it begins; if that is anything, also
        what the points drawn ahead will want to know."""
        asks = self._unknown(dict.fromkeys(points))
        if asks and self._space in self._state.drawn:
            asks += self._unknown(self._state.drawn[self._space].ahead)
        return asks

    def _unknown(self, points: Iterable[int]) -> list[Ask]:
        asks: list[Ask] = []
        for point in points:
            index, ip = self._space.member(point)
            one = self._space.ranges[index]
            block = block_of(ip)
            if block not in self._state.occupancy_of(one.uuid).taken:
                asks.append(RoomsAsk(one.uuid, block, block_of(one.last), POINT_WIDTH))
        return asks

    def find(self, wanted: int, points: list[int], cursor: int | None, found: list[Pick]) -> Search:
        """Add up to `wanted` free addresses to `found`, in the order of the strategy; fewer only if the space has no
        more."""
        if not points:
            yield from self._walk(wanted, None, cursor, found)
        for point, alike in groupby(points[:wanted]):
            enough = len(found) + len(list(alike))
            yield from self._walk(enough - len(found), point, cursor, found)
            if len(found) < enough:
                break

    def _walk(self, wanted: int, point: int | None, cursor: int | None, found: list[Pick]) -> Search:
        yield from self.through(self._strategy.segments(self._space, point, cursor), wanted, found)

    def through(self, segments: Iterable[Segment], wanted: int, found: list[Pick]) -> Search:
        """The same in segments of somebody else's choice."""
        enough = len(found) + wanted
        for segment in segments:
            yield from self._search(segment, enough - len(found), found)
            if len(found) == enough:
                break

    def _search(self, segment: Segment, wanted: int, found: list[Pick]) -> Search:
        within = segment.within
        occupancy = self._state.occupancy_of(within.uuid)
        enough = len(found) + wanted
        position = within.open.next_from(segment.first)
        while position is not None and position <= segment.last:
            block = occupancy.next_with_room(block_of(position))
            if block > position:
                position = within.open.next_from(block)
                continue
            taken = occupancy.taken.get(block)
            if taken is None:
                width = min(max(occupancy.width, wanted // BLOCK_SIZE + 1), MOST_WIDTH)
                occupancy.width = min(2 * width, MOST_WIDTH)
                yield [RoomsAsk(within.uuid, block, block_of(within.last), width)]
                continue
            left = within.open_mask(block) & ~taken
            if not left:
                position = within.open.next_from(occupancy.spend(block))
                continue
            usable = left & _window(block, position, segment.last)
            if self._excluded:
                usable &= ~self._excluded.get(block, 0)
            for offset in self._strategy.choose(usable, enough - len(found), self._rng):
                pick = Pick(within, block + offset)
                self._state.take(pick)
                found.append(pick)
            if len(found) == enough:
                break
            position = within.open.next_from(occupancy.after(block))


def lowest_free(state: ScopeState, space: Space, start: Address | None, wanted: int, found: list[Pick]) -> Search:
    """Add up to `wanted` free addresses to `found`, ascending, IPv4 first; from `start` on (inclusive), and then of its
    version only. The state is of no use after that."""
    ordered = sorted(space.ranges, key=lambda one: (one.version, one.first))
    segments = [whole(one) for one in ordered]
    if start is not None:
        segments = [
            Segment(one.within, max(one.first, int(start)), one.last)
            for one in segments
            if one.within.version == start.version and int(start) <= one.last
        ]
    finder = Finder(state, space, STRATEGIES["firstAvailable"], {}, random.Random())
    return finder.through(segments, wanted, found)


def _window(block: int, first: int, last: int) -> int:
    """The bits of the block from `first` to `last`."""
    mask = ALL_TAKEN << (first - block) if first > block else ALL_TAKEN
    return mask & ((1 << (last - block + 1)) - 1) if last < block + BLOCK_SIZE - 1 else mask
