"""The search for free addresses: a strategy says where and which, the store says what is used."""

import random
from collections.abc import Iterable, Sequence
from uuid import UUID

from viaduct_ipam.model.blocks import BLOCK_SIZE, block_of, mask_of
from viaduct_ipam.model.ranges import Address
from viaduct_ipam.model.strategies import FIRST_AVAILABLE, OpenRange, Segment, Strategy, without
from viaduct_ipam.store.api import Pick, Store

# The window of a search doubles from what the wanted addresses may need up to this: few round trips also where most
# blocks hold nothing but reserved or excluded addresses.
MOST_BLOCKS = 256


async def find_free(
    store: Store,
    l3_network_uuid: UUID,
    space: Sequence[OpenRange],
    wanted: int,
    *,
    strategy: Strategy,
    cursor: Address | None,
    rng: random.Random,
) -> list[Pick]:
    """Up to `wanted` free addresses in the order of the strategy; fewer only if the space has no more."""
    picks: list[Pick] = []
    guesses = [
        Pick(one.range, one.range.bounds.address(number)) for one, number in strategy.guesses(space, wanted, rng)
    ]
    if guesses:
        used = await store.used_among(l3_network_uuid, [pick.ip for pick in guesses])
        picks = [pick for pick in guesses if pick.ip not in used][:wanted]
    if len(picks) < wanted:
        rest = without(space, (pick.ip for pick in picks))
        picks += await search(store, strategy.segments(rest, cursor, rng), wanted - len(picks), strategy, rng)
    return picks


async def lowest_free(store: Store, segments: Iterable[Segment], wanted: int) -> list[Pick]:
    """Up to `wanted` free addresses, in the order of the segments and ascending within each."""
    return await search(store, segments, wanted, FIRST_AVAILABLE, random.Random())


async def search(
    store: Store, segments: Iterable[Segment], wanted: int, strategy: Strategy, rng: random.Random
) -> list[Pick]:
    """Up to `wanted` free addresses of the segments, fewer only if they have no more."""
    picks: list[Pick] = []
    for segment in segments:
        if len(picks) == wanted:
            break
        picks += await _search_segment(store, segment, wanted - len(picks), strategy, rng)
    return picks


async def _search_segment(
    store: Store, segment: Segment, wanted: int, strategy: Strategy, rng: random.Random
) -> list[Pick]:
    searched, openings = segment.within.range, segment.within.open.within(segment.first, segment.last)
    picks: list[Pick] = []
    blocks = min(wanted // BLOCK_SIZE + 1, MOST_BLOCKS)
    position = openings.next_from(segment.first)
    while position is not None and len(picks) < wanted:
        room = await store.room(searched, position, segment.last, blocks)
        if room is None:
            break
        for block in range(block_of(room.first), room.last + 1, BLOCK_SIZE):
            free = mask_of(openings, block) & ~room.used_by_block.get(block, 0)
            offsets = strategy.choose(free, wanted - len(picks), rng)
            picks += [Pick(searched, searched.bounds.address(block + offset)) for offset in offsets]
            if len(picks) == wanted:
                break
        position = openings.next_from(room.last + 1)
        blocks = min(blocks * 2, MOST_BLOCKS)
    return picks
