"""Strategies over a store that is a set of addresses: each finds the right one, and all of them in the end."""

import ipaddress
import random
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viaduct_ipam.model.blocks import BLOCK_SIZE, block_of, masks_by_block
from viaduct_ipam.model.ranges import Address, Bounds, Range
from viaduct_ipam.model.reservations import Reservation
from viaduct_ipam.model.strategies import STRATEGIES, allocation_order, ascending, open_space, without
from viaduct_ipam.search import find_free, lowest_free
from viaduct_ipam.store.api import Room

L3 = uuid4()
NOW = datetime.now(UTC)


class SetStore:
    """The two verbs that the search needs, over a plain set."""

    def __init__(self, used: Collection[Address] = ()) -> None:
        self.used = set(used)
        self.rooms = 0

    async def used_among(self, _l3: UUID, ips: Collection[Address]) -> set[Address]:
        return self.used.intersection(ips)

    async def room(self, searched: Range, first: int, last: int, blocks: int) -> Room | None:
        self.rooms += 1
        used = masks_by_block(int(ip) for ip in self.used if ip in searched.bounds)
        assignable = searched.bounds.assignable
        for block in range(block_of(first), last + 1, BLOCK_SIZE):
            wanted = assignable.within(block, block + BLOCK_SIZE - 1).size
            if used.get(block, 0).bit_count() < wanted:
                end = block + blocks * BLOCK_SIZE - 1
                window = {key: mask for key, mask in used.items() if block <= key <= end}
                return Room(max(first, block), min(last, end), window)
        return None


def make_range(first: str, last: str, kind: Any = "normal", given_last: str | None = None) -> Range:
    start, end = ipaddress.ip_address(first), ipaddress.ip_address(last)
    bounds = Bounds(kind, start, end, 8 if start.version == 4 else 32, None)
    return Range(uuid4(), L3, None, bounds, 0, ipaddress.ip_address(given_last) if given_last else None, NOW)


async def pick(
    store: SetStore, ranges: Sequence[Range], name: str, wanted: int = 1, *, cursor: str | None = None, seed: int = 1,
    reserved: tuple[str, str] | None = None, excluded: Collection[str] = (),
) -> list[str]:  # fmt: skip
    reservations = []
    if reserved:
        ends = [ipaddress.ip_address(ip) for ip in reserved]
        reservations = [Reservation(uuid4(), L3, ends[0], ends[1], None, NOW)]
    space = without(open_space(ranges, reservations), [ipaddress.ip_address(ip) for ip in excluded])
    picks = await find_free(
        store,  # type: ignore[arg-type]  # the search needs two of its verbs
        L3,
        space,
        wanted,
        strategy=STRATEGIES[name],
        cursor=ipaddress.ip_address(cursor) if cursor else None,
        rng=random.Random(seed),
    )
    assert all(one.ip in one.range.bounds for one in picks)
    return [str(one.ip) for one in picks]


@pytest.mark.parametrize("name", sorted(STRATEGIES))
@given(data=st.data())
async def test_every_strategy_finds_every_free_address_and_no_other(name: str, data: st.DataObject) -> None:
    """Over blocks, several ranges, used, reserved and excluded addresses: all free ones are found, each once."""
    base = data.draw(st.sampled_from(["10.0.0.0", "2001:db8::"]))
    number = int(ipaddress.ip_address(base))
    address = type(ipaddress.ip_address(base))
    ranges, position = [], data.draw(st.integers(1, 300))
    for _ in range(data.draw(st.integers(1, 3))):
        size = data.draw(st.integers(1, 600))
        ranges.append(make_range(str(address(number + position)), str(address(number + position + size - 1))))
        position += size + data.draw(st.integers(0, 300))
    every = [address(n) for one in ranges for low, high in one.bounds.assignable.parts for n in range(low, high + 1)]
    if not every:
        return
    ends = sorted(data.draw(st.tuples(*[st.sampled_from(every)] * 2)))
    excluded = data.draw(st.sets(st.sampled_from(every), max_size=20))
    density = data.draw(st.sampled_from([0.0, 0.5, 0.95, 1.0]))
    rng = data.draw(st.randoms(use_true_random=False))
    used = {ip for ip in every if rng.random() < density}
    free = [ip for ip in every if ip not in used and ip not in excluded and not ends[0] <= ip <= ends[1]]
    cursor = str(data.draw(st.sampled_from(every)))
    arguments: dict[str, Any] = {
        "cursor": cursor,
        "reserved": (str(ends[0]), str(ends[1])),
        "excluded": {str(ip) for ip in excluded},
    }

    found = await pick(SetStore(used), ranges, name, len(free) + 1, **arguments)
    some = await pick(SetStore(used), ranges, name, max(1, len(free) // 2), **arguments)

    assert sorted(found) == sorted(map(str, free))
    assert len(set(some)) == len(some) == min(len(free), max(1, len(free) // 2))
    if name == "firstAvailable":
        assert found == [str(ip) for ip in free]
    if name == "nextFit":
        after = [ip for ip in free if ip > address(int(ipaddress.ip_address(cursor)))]
        assert found == [str(ip) for ip in (*after, *(ip for ip in free if ip not in after))]


async def test_first_available_takes_the_first_and_the_last_address() -> None:
    """A range of one address, at the edge of a block, is given and then full."""
    for edge in ("10.0.0.255", "10.0.1.0", "10.0.1.255"):
        one = make_range(edge, edge)
        assert await pick(SetStore(), [one], "firstAvailable") == [edge]
        assert await pick(SetStore([ipaddress.ip_address(edge)]), [one], "firstAvailable") == []


async def test_next_fit_wraps_round_to_the_cursor_itself() -> None:
    """The address given last is the last that comes again."""
    ranges = [make_range("10.0.0.1", "10.0.0.3"), make_range("10.0.0.10", "10.0.0.11")]

    found = await pick(SetStore(), ranges, "nextFit", 5, cursor="10.0.0.10")

    assert found == ["10.0.0.11", "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.10"]


@pytest.mark.parametrize(
    ("cursor", "first"), [("10.0.0.5", "10.0.0.10"), ("10.0.0.99", "10.0.0.1"), ("10.0.0.0", "10.0.0.1")]
)
async def test_next_fit_outside_every_range_goes_on_above(cursor: str, first: str) -> None:
    """A cursor in a deleted range is followed by the next range, behind the last by the first."""
    ranges = [make_range("10.0.0.1", "10.0.0.3"), make_range("10.0.0.10", "10.0.0.11")]

    assert await pick(SetStore(), ranges, "nextFit", cursor=cursor) == [first]


async def test_random_is_even_while_there_is_room() -> None:
    """Of 100 addresses, each is drawn about as often in many first draws."""
    one = make_range("10.0.0.100", "10.0.0.199")

    drawn = [(await pick(SetStore(), [one], "random", seed=seed))[0] for seed in range(5000)]

    counts = [drawn.count(f"10.0.0.{n}") for n in range(100, 200)]
    assert min(counts) > 20  # 50 expected; 20 is four standard deviations off
    assert max(counts) < 90


async def test_random_works_where_the_space_is_wider_than_a_machine_word() -> None:
    """2^96 addresses; many draws differ."""
    one = make_range("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff")

    assert len(set(await pick(SetStore(), [one], "random", 500))) == 500


async def test_reserved_stretches_cost_few_round_trips() -> None:
    """A reservation of 2^60 addresses is jumped over, not walked."""
    store = SetStore()
    one = make_range("2001:db8::", "2001:db8::ffff:ffff:ffff:ffff")

    found = await pick(store, [one], "firstAvailable", reserved=("2001:db8::", "2001:db8::fff:ffff:ffff:ffff"))

    assert found == [str(ipaddress.ip_address("2001:db8::1000:0:0:0"))]
    assert store.rooms == 1


async def test_full_blocks_of_exclusions_cost_few_round_trips() -> None:
    """Where each block has room that may not be had, the window grows."""
    one = make_range("10.0.0.0", "10.3.255.255")
    blocks = [ipaddress.ip_address(f"10.{a}.{b}.0") for a in range(4) for b in range(256)]
    reserved = [Reservation(uuid4(), L3, block, block + 254, None, NOW) for block in blocks]
    store = SetStore([block + 255 for block in blocks[:-1]])

    picks = await lowest_free(store, ascending(open_space([one], reserved), None), 5)  # type: ignore[arg-type]  # as above

    assert [str(one.ip) for one in picks] == ["10.3.255.255"]
    assert store.rooms < 15


def test_pools_come_after_normal_ranges() -> None:
    """Ascending within each kind."""
    pool, high, low = (
        make_range("10.0.0.1", "10.0.0.2", "addressPool"),
        make_range("10.0.9.1", "10.0.9.2"),
        make_range("10.0.5.1", "10.0.5.2"),
    )

    assert allocation_order([pool, high, low]) == [low, high, pool]
