"""A scope with its ranges and reservations, and what follows from them: all that a plan needs but who holds what."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from uuid import UUID

from viaduct_ipam.model.blocks import mask_of
from viaduct_ipam.model.intervals import IntervalSet
from viaduct_ipam.model.ranges import Address, Range
from viaduct_ipam.model.reservations import Reservation, reserved_set

# Masks are kept for so many blocks of a range; then they are made anew.
MOST_MASKS = 16_384


class OpenRange:
    """A range, and what of it may be handed out unasked unless it is taken."""

    def __init__(self, range_: Range, reserved: IntervalSet) -> None:
        self.range = range_
        self.uuid = range_.uuid
        self.version = range_.bounds.version
        self.first = int(range_.bounds.first)
        self.last = int(range_.bounds.last)
        self.size = range_.bounds.assignable.size
        self.open = range_.bounds.assignable.minus(reserved)
        self.reserved = reserved
        self.reply_part: str | None = None  # of `viaduct_ipam.engine.replies`
        self._open_masks: dict[int, int] = {}
        self._assignable_masks: dict[int, int] = {}

    def open_mask(self, block: int) -> int:
        return self._mask(self._open_masks, self.open, block)

    def assignable_mask(self, block: int) -> int:
        return self._mask(self._assignable_masks, self.range.bounds.assignable, block)

    @staticmethod
    def _mask(known: dict[int, int], members: IntervalSet, block: int) -> int:
        mask = known.get(block)
        if mask is None:
            if len(known) >= MOST_MASKS:
                known.clear()
            mask = known[block] = mask_of(members, block)
        return mask


@dataclass(frozen=True)
class Space:
    """Ranges that may serve a request, in the order in which they are tried."""

    ranges: tuple[OpenRange, ...]

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(one.open.size for one in self.ranges))

    @property
    def size(self) -> int:
        """How many addresses are open, taken or not."""
        return self._ends[-1] if self.ranges else 0

    @cached_property
    def makes_addresses(self) -> bool:
        """Whether an address is not looked for, but made from the MAC (RFC 4862, or DHCPv6 stateless)."""
        return bool(self.ranges) and self.ranges[0].range.bounds.address_mode not in {None, "stateful"}

    def member(self, rank: int) -> tuple[int, int]:
        """The index of a range, and the address in it with `rank` open addresses before it."""
        index = bisect_right(self._ends, rank)
        return index, self.ranges[index].open.member(rank - (self._ends[index - 1] if index else 0))

    def index_of(self, ip: int) -> int | None:
        """The range whose bounds hold the address."""
        return next((at for at, one in enumerate(self.ranges) if one.first <= ip <= one.last), None)


class Layout:
    """Immutable; `revision` is the scope's `layout_revision`."""

    def __init__(self, revision: int, ranges: Iterable[Range], reservations: Sequence[Reservation]) -> None:
        self.revision = revision
        self.reservations = reservations
        reserved = {version: reserved_set(reservations, version) for version in (4, 6)}
        self._reserved = reserved
        self.ranges = tuple(OpenRange(one, reserved[one.bounds.version]) for one in allocation_order(ranges))
        self.by_uuid = {one.uuid: one for one in self.ranges}
        self.versions = sorted({one.version for one in self.ranges})
        self._spaces: dict[int | UUID, Space] = {}

    def space_of_version(self, version: int) -> Space:
        if version not in self._spaces:
            ranges = tuple(one for one in self.ranges if one.version == version)
            self._spaces[version] = Space(ranges)
        return self._spaces[version]

    def space_of_range(self, uuid: UUID) -> Space:
        """Raises:
        KeyError: there is no such range.
        """
        if uuid not in self._spaces:
            self._spaces[uuid] = Space((self.by_uuid[uuid],))
        return self._spaces[uuid]

    def is_reserved(self, ip: Address) -> bool:
        return int(ip) in self._reserved[ip.version]

    @property
    def holds_any(self) -> bool:
        """Whether any address is reserved for somebody."""
        return bool(self._held)

    def held_for(self, owner: str | None, mac: str | None, version: int) -> Iterator[int]:
        """The addresses that are reserved for this owner or this MAC, in the order of their reservations."""
        return (
            int(one.first)
            for one in (*self._held.get(("owner", owner), ()), *self._held.get(("mac", mac), ()))
            if one.first.version == version
        )

    @cached_property
    def _held(self) -> dict[tuple[str, str | None], list[Reservation]]:
        held: dict[tuple[str, str | None], list[Reservation]] = {}
        for one in self.reservations:
            if one.owner is not None:
                held.setdefault(("owner", one.owner), []).append(one)
            if one.mac is not None:
                held.setdefault(("mac", one.mac), []).append(one)
        return held


def allocation_order(ranges: Iterable[Range]) -> list[Range]:
    """Normal ranges before address pools, ascending within each; so a pool is used unasked only as a last resort."""
    return sorted(ranges, key=lambda one: (one.bounds.type != "normal", one.bounds.version, int(one.bounds.first)))
