"""A store of plain sets that answers what plans ask for as the database does, and keeps the same rule about which
blocks are stored; and short ways to make a scope."""

import ipaddress
import random
from collections.abc import Collection, Generator, Iterable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from viaduct_common.messages.ipam import AllocateIp
from viaduct_ipam.model.asks import Ask, BlockAsk, CoolingAsk, FormerAsk, RoomsAsk
from viaduct_ipam.model.blocks import BLOCK_SIZE, block_of
from viaduct_ipam.model.layout import Layout, OpenRange
from viaduct_ipam.model.occupancy import StoredBlock
from viaduct_ipam.model.ranges import Bounds, Range
from viaduct_ipam.model.reservations import Reservation
from viaduct_ipam.model.state import Cooling, Counters, Pick, ScopeState
from viaduct_ipam.model.together import plan_together

L3 = uuid4()
NOW = datetime.now(UTC)


def make_range(first: str, last: str, kind: Any = "normal", prefix_length: int | None = None) -> Range:
    start, end = ipaddress.ip_address(first), ipaddress.ip_address(last)
    length = prefix_length or (8 if start.version == 4 else 32)
    bounds = Bounds(kind, start, end, length, None, None if start.version == 4 else "stateful")
    return Range(uuid4(), L3, None, bounds, 0, None, NOW)


def make_reservation(first: str, last: str, owner: str | None = None, mac: str | None = None) -> Reservation:
    start, end = ipaddress.ip_address(first), ipaddress.ip_address(last)
    return Reservation(uuid4(), L3, start, end, None, NOW, owner=owner, mac=mac)


def make_state(
    ranges: Collection[Range], reservations: Collection[Reservation] = (), strategy: str = "firstAvailable"
) -> ScopeState:
    return ScopeState(
        l3_network_uuid=L3,
        l2_network_uuid=uuid4(),
        zone_uuid=uuid4(),
        revision=1,
        strategy=strategy,
        cooling_seconds=0,
        fill_levels={4: 0, 6: 0},
        layout=Layout(1, ranges, list(reservations)),
        counters={one.uuid: Counters(0, 0, 0) for one in ranges},
        cursors={},
    )


class PlainStore:
    """What of each range is taken, as masks by block; `rounds` counts the round trips."""

    def __init__(self, state: ScopeState) -> None:
        self.state = state
        self.stored: dict[UUID, dict[int, int]] = {one.uuid: {} for one in state.layout.ranges}
        self.cooling: dict[tuple[int, int], str | None] = {}
        self.former: dict[str, list[tuple[int, int]]] = {}
        self.rounds = 0

    def take(self, version: int, ips: Iterable[int]) -> None:
        for ip in ips:
            [home] = [one for one in self.state.layout.ranges if one.version == version and one.first <= ip <= one.last]
            blocks, block = self.stored[home.uuid], block_of(ip)
            blocks[block] = blocks.get(block, 0) | 1 << ip - block
            if self.is_full(home, block) and block + BLOCK_SIZE <= home.last:
                blocks.setdefault(block + BLOCK_SIZE, 0)

    def release(self, version: int, ips: Iterable[int]) -> None:
        for ip in ips:
            [home] = [one for one in self.state.layout.ranges if one.version == version and one.first <= ip <= one.last]
            self.stored[home.uuid][block_of(ip)] &= ~(1 << ip - block_of(ip))
            self.state.occupancy_of(home.uuid).release(block_of(ip), 1 << ip - block_of(ip))

    def is_full(self, home: OpenRange, block: int) -> bool:
        return block in self.stored[home.uuid] and self.stored[home.uuid][block] == home.assignable_mask(block)

    def allocate(self, *requests: AllocateIp, seed: int = 1) -> list[Any]:
        """The picks or the error of each, planned together and then written."""
        outcomes = self.run(plan_together(requests, self.state, random.Random(seed)))
        for outcome in outcomes:
            for pick in outcome if isinstance(outcome, list) else ():
                self.cooling.pop(pick.key, None)
                self.take(pick.range.version, [pick.ip])
        self.state.settle()
        return outcomes

    def run(self, plan: Generator[list[Ask], None, Any]) -> Any:
        while True:
            try:
                asks = next(plan)
            except StopIteration as end:
                return end.value
            if asks:
                self.rounds += 1
            for ask in asks:
                self._answer(ask)

    def _answer(self, ask: Ask) -> None:
        match ask:
            case RoomsAsk():
                self._answer_rooms(ask)
            case BlockAsk(uuid, block):
                self.state.occupancy_of(uuid).learn_block(block, self.stored[uuid].get(block))
            case CoolingAsk(version, ip):
                cools = (version, ip) in self.cooling
                self.state.cooling[version, ip] = Cooling(self.cooling[version, ip]) if cools else None
            case FormerAsk(owner, count):
                self.state.former[owner] = self.former.get(owner, [])[: 2 * count]

    def _answer_rooms(self, ask: RoomsAsk) -> None:
        home, blocks = self.state.layout.by_uuid[ask.range_uuid], self.stored[ask.range_uuid]
        with_room = sorted(
            block for block in blocks if ask.first <= block <= ask.last and not self.is_full(home, block)
        )
        self.state.occupancy_of(ask.range_uuid).learn(
            ask.first,
            [
                StoredBlock(block, blocks[block], self.is_full(home, block + BLOCK_SIZE))
                for block in with_room[: ask.limit]
            ],
            asked_is_stored=ask.first in blocks,
            last=ask.last,
            complete=len(with_room) < ask.limit,
        )


def texts(picks: Iterable[Pick]) -> list[str]:
    return [str(pick.range.range.bounds.address(pick.ip)) for pick in picks]
