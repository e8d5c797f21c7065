"""One scope as a plan sees it: how it is laid out, and what is known of its addresses at one revision."""

from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from viaduct_ipam.model.blocks import block_of
from viaduct_ipam.model.layout import Layout, OpenRange
from viaduct_ipam.model.occupancy import Occupancy
from viaduct_ipam.model.strategies import Drawn

# Past so many blocks what is known is forgotten: a scope never costs more than a few megabytes.
MOST_BLOCKS = 16_384


@dataclass
class Counters:
    """Of one range; see the columns of `ip_range`."""

    used: int
    cooling: int
    taken_reserved: int


@dataclass
class Fill:
    """Of all ranges of one IP version: what can be given out in all, and what of it is what."""

    total: int = 0
    used: int = 0
    cooling: int = 0
    reserved: int = 0


@dataclass(frozen=True)
class Cooling:
    """An address that rests; `owner` is whose it was."""

    owner: str | None


class Pick(NamedTuple):
    """An address chosen to be given out, and the range that it is of."""

    range: OpenRange
    ip: int

    @property
    def key(self) -> tuple[int, int]:
        """By which addresses are told apart: the IP version and the number."""
        return self.range.version, self.ip


@dataclass(eq=False)
class ScopeState:
    """Changed in place by one plan after the other; whoever plans on it has it for himself.

    `cursors` has what next fit gave last, by IP version and by the uuid of a range.
    """

    l3_network_uuid: UUID
    l2_network_uuid: UUID
    zone_uuid: UUID
    revision: int
    strategy: str
    cooling_seconds: int
    fill_levels: dict[int, int]
    layout: Layout
    counters: dict[UUID, Counters]
    cursors: dict[int | UUID, int]
    occupancy: dict[UUID, Occupancy] = field(default_factory=dict)
    drawn: Drawn = field(default_factory=dict)
    is_void: bool = False  # what it was brought to did not become true
    # Of the batch that is being planned:
    cooling: dict[tuple[int, int], Cooling | None] = field(default_factory=dict)  # None: not cooling
    former: dict[str, list[tuple[int, int]]] = field(default_factory=dict)  # by owner: (IP version, address)
    uncooled: dict[tuple[int, int], Cooling] = field(default_factory=dict)  # given back to their former owners
    moved: set[int | UUID] = field(default_factory=set)  # the cursors that changed

    def occupancy_of(self, range_uuid: UUID) -> Occupancy:
        found = self.occupancy.get(range_uuid)
        if found is None:
            found = self.occupancy[range_uuid] = Occupancy()
        return found

    @property
    def may_cool(self) -> bool:
        return any(one.cooling for one in self.counters.values())

    def take(self, pick: Pick) -> None:
        """Give the address out; it is free, or cools for the one who gets it."""
        if self.cooling and (cooling := self.cooling.get(pick.key)) is not None:
            self.uncooled[pick.key] = cooling
            self.cooling[pick.key] = None
            return
        block = block_of(pick.ip)
        self.occupancy_of(pick.range.uuid).take(block, 1 << pick.ip - block)

    def put_back(self, pick: Pick) -> None:
        """Undo a `take`."""
        cooling = self.uncooled.pop(pick.key, None)
        if cooling is not None:
            self.cooling[pick.key] = cooling
            return
        block = block_of(pick.ip)
        self.occupancy_of(pick.range.uuid).put_back(block, 1 << pick.ip - block)

    def move_cursor(self, last: Pick) -> None:
        """Remember that next fit goes on behind this one."""
        for key in (last.range.version, last.range.uuid):
            self.cursors[key] = last.ip
            self.moved.add(key)

    def settle(self) -> None:
        """A batch is over."""
        self.cooling.clear()
        self.former.clear()
        self.uncooled.clear()
        self.moved.clear()
        if sum(map(len, self.occupancy.values())) > MOST_BLOCKS:
            self.occupancy.clear()

    def fill(self) -> dict[int, Fill]:
        """By IP version, where there is a range of it."""
        fills = {}
        for version in self.layout.versions:
            fill = fills[version] = Fill()
            for one in self.layout.space_of_version(version).ranges:
                counted = self.counters[one.uuid]
                fill.total += one.size
                fill.used += counted.used
                fill.cooling += counted.cooling
                fill.reserved += one.size - one.open.size - counted.taken_reserved
        return fills
