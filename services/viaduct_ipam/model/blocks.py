"""Blocks of 1024 addresses, aligned on their low 10 bits; a set of addresses within one is an integer of 1024 bits.

Bit k stands for the address `block + k`. A block is named by its first address.
"""

from collections.abc import Iterable, Iterator

from viaduct_ipam.model.intervals import IntervalSet

BLOCK_SIZE = 1024


def block_of(address: int) -> int:
    """The first address of the block that `address` is in."""
    return address & ~(BLOCK_SIZE - 1)


def mask_of(members: IntervalSet, block: int) -> int:
    """The members that lie in the block."""
    mask = 0
    for first, last in members.within(block, block + BLOCK_SIZE - 1).parts:
        mask |= ((1 << (last - first + 1)) - 1) << (first - block)
    return mask


def masks_by_block(addresses: Iterable[int]) -> dict[int, int]:
    """The addresses as masks, by block, blocks ascending."""
    masks: dict[int, int] = {}
    for address in sorted(addresses):
        block = block_of(address)
        masks[block] = masks.get(block, 0) | 1 << (address - block)
    return masks


def bits_of(mask: int) -> Iterator[int]:
    """The positions of the set bits, ascending."""
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest


def nth_bit(mask: int, rank: int) -> int:
    """The position of the set bit with `rank` set bits below it, of a mask of one block."""
    position, width = 0, BLOCK_SIZE
    while width > 1:
        width //= 2
        lower = mask & (1 << width) - 1
        below = lower.bit_count()
        if rank < below:
            mask = lower
        else:
            rank -= below
            mask >>= width
            position += width
    return position
