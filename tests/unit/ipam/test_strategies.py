"""Strategies over a store of plain sets: each finds the right address, and all of them in the end."""

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.ipam.plain_store import PlainStore, make_range, make_reservation, make_state, texts

from viaduct_common.errors import Exhausted
from viaduct_common.messages.ipam import AllocateIp
from viaduct_ipam.model.blocks import BLOCK_SIZE, nth_bit
from viaduct_ipam.model.layout import Space, allocation_order
from viaduct_ipam.model.search import lowest_free
from viaduct_ipam.model.state import Pick
from viaduct_ipam.model.strategies import STRATEGIES


def ask(**fields: Any) -> AllocateIp:
    return AllocateIp.model_validate({"l3_network_uuid": "6ba7b810-9dad-11d1-80b4-00c04fd430c8", **fields})


@pytest.mark.parametrize("name", sorted(STRATEGIES))
@given(data=st.data())
def test_every_strategy_finds_every_free_address_and_no_other(name: str, data: st.DataObject) -> None:
    """Over blocks, several ranges, used, reserved and excluded addresses: all free ones are found, each once."""
    base = ipaddress.ip_address(data.draw(st.sampled_from(["10.0.0.0", "2001:db8::"])))
    number, address = int(base), type(base)
    ranges, position = [], BLOCK_SIZE - data.draw(st.integers(0, 300))
    for _ in range(data.draw(st.integers(1, 3))):
        size = data.draw(st.integers(1, 600))
        ranges.append(make_range(str(address(number + position)), str(address(number + position + size - 1))))
        position += size + data.draw(st.integers(0, 300))
    every = [n for one in ranges for low, high in one.bounds.assignable.parts for n in range(low, high + 1)]
    if not every:
        return
    ends = sorted(data.draw(st.tuples(*[st.sampled_from(every)] * 2)))
    excluded = data.draw(st.sets(st.sampled_from(every), max_size=20))
    rng = data.draw(st.randoms(use_true_random=False))
    density = data.draw(st.sampled_from([0.0, 0.5, 0.95, 1.0]))
    used = {ip for ip in every if rng.random() < density}
    free = [ip for ip in every if ip not in used and ip not in excluded and not ends[0] <= ip <= ends[1]]
    cursor = data.draw(st.sampled_from(every))
    body = {"strategy": name, "excluded_ips": [str(address(ip)) for ip in excluded], "ip_version": base.version}

    def fresh() -> PlainStore:
        store = PlainStore(make_state(ranges, [make_reservation(str(address(ends[0])), str(address(ends[1])))]))
        store.take(base.version, used)
        store.state.cursors[base.version] = cursor
        return store

    [too_many] = fresh().allocate(ask(count=min(1000, len(free) + 1), **body))
    store, found = fresh(), list[int]()
    while len(found) < len(free):
        count = data.draw(st.integers(1, len(free) - len(found)))
        for outcome in store.allocate(*[ask(count=one, **body) for one in _parts(count)]):
            found += [pick.ip for pick in outcome]
    [nothing_left] = store.allocate(ask(**body))

    assert isinstance(too_many, Exhausted) or len(free) >= 1000
    assert isinstance(nothing_left, Exhausted)
    assert sorted(found) == free
    if name == "firstAvailable":
        assert found == free
    if name in {"nextFit", "sticky"}:
        after = [ip for ip in free if ip > cursor]
        assert found == after + [ip for ip in free if ip <= cursor]


def _parts(count: int) -> list[int]:
    return [count // 2, count - count // 2] if count > 1 else [count]


@pytest.mark.parametrize("edge", ["10.0.3.255", "10.0.4.0", "10.0.7.255"])
def test_a_range_of_one_address_is_given_and_then_full(edge: str) -> None:
    """At either edge of a block."""
    store = PlainStore(make_state([make_range(edge, edge)]))

    given, refused = store.allocate(ask(), ask())

    assert texts(given) == [edge]
    assert isinstance(refused, Exhausted)


@pytest.mark.parametrize(
    ("cursor", "found"),
    [
        ("10.0.0.10", ["10.0.0.11", "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.10"]),
        ("10.0.0.5", ["10.0.0.10", "10.0.0.11", "10.0.0.1", "10.0.0.2", "10.0.0.3"]),
        ("10.0.0.99", ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.10", "10.0.0.11"]),
        ("10.0.0.0", ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.10", "10.0.0.11"]),
    ],
)
def test_next_fit_wraps_round_to_the_cursor_itself(cursor: str, found: list[str]) -> None:
    """The address given last comes again last; a cursor in a deleted range is followed by the next range."""
    state = make_state([make_range("10.0.0.1", "10.0.0.3"), make_range("10.0.0.10", "10.0.0.11")])
    state.cursors[4] = int(ipaddress.ip_address(cursor))

    [given] = PlainStore(state).allocate(ask(count=5, strategy="nextFit"))

    assert texts(given) == found


def test_random_is_even_while_there_is_room() -> None:
    """Of 100 addresses in two blocks, each is drawn about as often in many first draws."""
    state = make_state([make_range("10.0.3.206", "10.0.4.49")])
    drawn: dict[str, int] = {}
    for seed in range(5000):
        state.occupancy.clear()
        state.drawn.clear()
        [given] = PlainStore(state).allocate(ask(strategy="random"), seed=seed)
        drawn[texts(given)[0]] = drawn.get(texts(given)[0], 0) + 1

    assert len(drawn) == 100
    assert min(drawn.values()) > 20  # 50 expected; 20 is four standard deviations off
    assert max(drawn.values()) < 90


def test_random_works_where_the_space_is_wider_than_a_machine_word() -> None:
    """2^96 addresses; many draws differ, and are asked for together."""
    store = PlainStore(make_state([make_range("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff")]))

    [given] = store.allocate(ask(count=500, strategy="random"))

    assert len(set(texts(given))) == 500
    assert store.rounds < 5


def test_reserved_stretches_cost_few_round_trips() -> None:
    """A reservation of 2^60 addresses is jumped over, not walked."""
    reserved = make_reservation("2001:db8::", "2001:db8::fff:ffff:ffff:ffff")
    store = PlainStore(make_state([make_range("2001:db8::", "2001:db8::ffff:ffff:ffff:ffff")], [reserved]))

    [given] = store.allocate(ask())

    assert texts(given) == ["2001:db8:0:0:1000::"]
    assert store.rounds == 1


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_a_nearly_full_range_costs_few_round_trips(name: str) -> None:
    """A /12 with one free address in each fourth block: 64 requests together ask a handful of times."""
    one = make_range("10.0.0.0", "10.15.255.255")
    store = PlainStore(make_state([one]))
    free = set(range(int(one.bounds.first) + 77, int(one.bounds.last), 4 * BLOCK_SIZE))
    blocks = store.stored[one.uuid]
    home = store.state.layout.by_uuid[one.uuid]
    for block in range(home.first, home.last, BLOCK_SIZE):
        blocks[block] = home.assignable_mask(block) & ~(1 << 77 if block + 77 in free else 0)

    outcomes = store.allocate(*[ask(strategy=name) for _ in range(64)])

    assert {pick.ip for outcome in outcomes for pick in outcome} <= free
    assert store.rounds <= 8


def test_blocks_whose_room_is_reserved_cost_few_round_trips() -> None:
    """Where each block has room that may not be had, each look reaches further than the one before."""
    blocks = [ipaddress.ip_address("10.0.0.0") + number * BLOCK_SIZE for number in range(1024)]
    reserved = [make_reservation(str(block), str(block + BLOCK_SIZE - 2)) for block in blocks]
    state = make_state([make_range("10.0.0.0", "10.15.255.255")], reserved)
    store = PlainStore(state)
    store.take(4, [int(block) + BLOCK_SIZE - 1 for block in blocks[1:-1]])
    found: list[Pick] = []

    store.run(lowest_free(state, Space(state.layout.ranges), None, 5, found))

    assert texts(found) == ["10.0.3.255", "10.15.255.255"]
    assert store.rounds < 15


def test_pools_come_after_normal_ranges() -> None:
    """Ascending within each kind."""
    pool, high, low = (
        make_range("10.0.0.1", "10.0.0.2", "addressPool"),
        make_range("10.0.9.1", "10.0.9.2"),
        make_range("10.0.5.1", "10.0.5.2"),
    )

    assert allocation_order([pool, high, low]) == [low, high, pool]


@given(positions=st.sets(st.integers(0, BLOCK_SIZE - 1), min_size=1))
def test_the_nth_bit_is_found_by_its_rank(positions: set[int]) -> None:
    """Of any mask, each bit."""
    mask = sum(1 << position for position in positions)

    assert [nth_bit(mask, rank) for rank in range(len(positions))] == sorted(positions)
