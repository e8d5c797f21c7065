"""What is known of the blocks of one range at one revision of its scope: read from the store as it is needed, and kept
up to date with what is given out since.

The store keeps a block when an address of it is taken, and the block behind a full one. So one look at the blocks that
have room tells also about those between them: see `learn`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from viaduct_ipam.model.blocks import BLOCK_SIZE

# A look at the blocks with room reaches twice as far each time: few round trips also where most have only a bit.
FIRST_WIDTH, MOST_WIDTH = 8, 128
ALL_TAKEN = (1 << BLOCK_SIZE) - 1


@dataclass(frozen=True)
class StoredBlock:
    """A block that has room, as the store has it; `next_is_full` says so of the block right behind it."""

    first: int
    taken: int
    next_is_full: bool


class Occupancy:
    """The taken addresses of known blocks as masks, and where to go on from a block that has no room left."""

    def __init__(self) -> None:
        self.taken: dict[int, int] = {}
        self.stored: set[int] = set()  # of the known blocks those that the store has; and some that are not known
        self._behind: dict[int, int] = {}  # block -> the next one that may have room, where that is not the neighbour
        self.width = FIRST_WIDTH  # how many blocks with room the next look asks for
        self._spent: dict[int, int] = {}  # block without room -> a later one; a chain ends at room, or the unknown

    def learn_block(self, block: int, taken: int | None) -> None:
        """All that is stored of one block, if it is."""
        self.taken.setdefault(block, taken or 0)
        if taken is not None:
            self.stored.add(block)

    def learn(
        self, asked: int, rooms: Iterable[StoredBlock], *, asked_is_stored: bool, last: int, complete: bool
    ) -> None:
        """The blocks with room from `asked` on, ascending.

        Args:
            asked_is_stored: an unstored block is empty, and not among `rooms`.
            complete: there are no more of them up to the block `last`, where the range ends.
        """
        stored = list(rooms)
        self.stored.update(block.first for block in stored)
        self.stored.update(block.first + BLOCK_SIZE for block in stored if block.next_is_full)
        if asked_is_stored:
            self.stored.add(asked)
        beyond = last + BLOCK_SIZE
        if not asked_is_stored:
            self.taken.setdefault(asked, 0)
        elif not stored or stored[0].first != asked:
            self.taken.setdefault(asked, ALL_TAKEN)
            # Behind a full block the next is stored: up to the first with room there are only full ones.
            self._behind[asked] = stored[0].first if stored else beyond
        for index, block in enumerate(stored):
            self.taken.setdefault(block.first, block.taken)
            following = stored[index + 1].first if index + 1 < len(stored) else (beyond if complete else None)
            neighbour = block.first + BLOCK_SIZE
            if block.next_is_full and following is not None:
                self._behind[block.first] = following
            elif not block.next_is_full and following not in {neighbour, None} and neighbour <= last:
                self.taken.setdefault(neighbour, 0)

    def take(self, block: int, mask: int) -> None:
        self.taken[block] |= mask

    def put_back(self, block: int, mask: int) -> None:
        """Undo a `take`."""
        self.taken[block] &= ~mask
        self._spent.clear()

    def spend(self, block: int) -> int:
        """Note that nothing of the block can be given out any more; return the next one that may have room."""
        after = self._spent[block] = self.after(block)
        return after

    def after(self, block: int) -> int:
        """The next block that may have room."""
        return self._behind.get(block, block + BLOCK_SIZE)

    def next_with_room(self, block: int) -> int:
        """The block itself, or where to go on if it is known to have nothing; paths are shortened on the way."""
        spent = self._spent
        end = block
        while end in spent:
            end = spent[end]
        while block != end:
            spent[block], block = end, spent[block]
        return end

    def release(self, block: int, mask: int) -> None:
        """These are free now; a way that led past the block does not hold any more."""
        if block in self.taken:
            self.taken[block] &= ~mask
        self._behind.clear()
        self._spent.clear()

    def __len__(self) -> int:
        return len(self.taken)
