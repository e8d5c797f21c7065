"""Interval sets against Python's own sets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viaduct_ipam.model.blocks import BLOCK_SIZE, bits_of, block_of, mask_of, masks_by_block
from viaduct_ipam.model.intervals import IntervalSet

intervals = st.lists(st.tuples(st.integers(0, 600), st.integers(0, 600)), max_size=8)


def members(parts: list[tuple[int, int]]) -> set[int]:
    return {number for first, last in parts for number in range(first, last + 1)}


@given(intervals, intervals, st.integers(0, 600), st.integers(0, 600))
def test_interval_sets_behave_as_sets(one: list[tuple[int, int]], other: list[tuple[int, int]], a: int, b: int) -> None:
    """Union, difference, intersection, size, window, successor, membership and rank."""
    left, right, plain, subtracted = IntervalSet.of(one), IntervalSet.of(other), members(one), members(other)

    assert members(list(left.parts)) == plain
    assert left.size == len(plain)
    assert left.minus(right) == IntervalSet.of((n, n) for n in plain - subtracted)
    assert left.intersection(right) == IntervalSet.of((n, n) for n in plain & subtracted)
    assert left.within(a, b) == IntervalSet.of((n, n) for n in plain if a <= n <= b)
    assert left.next_from(a) == min((n for n in plain if n >= a), default=None)
    assert (a in left) == (a in plain)
    assert [left.member(rank) for rank in range(left.size)] == sorted(plain)
    with pytest.raises(IndexError):
        left.member(left.size)


@given(intervals, st.integers(0, 2))
def test_masks_hold_the_members_of_a_block(around: list[tuple[int, int]], number: int) -> None:
    """A mask and its bits are the members of the block, first and last included."""
    block = number * BLOCK_SIZE
    parts = [(BLOCK_SIZE - 300 + first, BLOCK_SIZE - 300 + last) for first, last in around]

    found = [block + bit for bit in bits_of(mask_of(IntervalSet.of(parts), block))]

    assert found == sorted(n for n in members(parts) if block_of(n) == block)


@given(st.sets(st.integers(0, 2**128 - 1), max_size=20))
def test_masks_by_block_lose_nothing(addresses: set[int]) -> None:
    """Every address is in exactly one block's mask."""
    masks = masks_by_block(addresses)

    assert {block + bit for block, mask in masks.items() for bit in bits_of(mask)} == addresses
    assert list(masks) == sorted(masks)
