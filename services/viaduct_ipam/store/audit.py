"""Do rows, bitmaps and counters tell the same? They are written together; a difference is a bug or a torn restore.

Everything is read once, in the order of ranges and addresses, and compared on the way: what is in memory is one block.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from uuid import UUID

from viaduct_common.postgres.pool import Connection
from viaduct_ipam.model.blocks import BLOCK_SIZE, block_of, mask_of
from viaduct_ipam.model.intervals import IntervalSet
from viaduct_ipam.model.ranges import Address, Range
from viaduct_ipam.model.reservations import reserved_set
from viaduct_ipam.store.rows import RANGE_COLUMNS, mask_of_bits, range_of, reservation_of

T = TypeVar("T")

_RANGES = f"SELECT {RANGE_COLUMNS} FROM ip_range r ORDER BY r.uuid"
_BLOCKS = "SELECT range_uuid, first_ip, assignable, used FROM address_block ORDER BY range_uuid, first_ip"
_TAKEN = """
    SELECT range_uuid, ip, false AS cools FROM used_ip
    UNION ALL SELECT range_uuid, ip, true FROM cooling_ip
    ORDER BY range_uuid, ip, cools
"""
_WITH_RESERVATIONS = "SELECT DISTINCT l3_network_uuid FROM reservation"
_RESERVATIONS = "SELECT * FROM reservation WHERE l3_network_uuid = $1"
_TWICE = """
    SELECT ip, min(range_uuid::text)::uuid AS range_uuid FROM used_ip GROUP BY l2_network_uuid, ip HAVING count(*) > 1
"""
_ELSEWHERE = """
    SELECT taken.range_uuid, taken.ip, taken.what
    FROM (
        SELECT range_uuid, ip, l3_network_uuid, l2_network_uuid, 'used' AS what FROM used_ip
        UNION ALL SELECT range_uuid, ip, l3_network_uuid, NULL, 'cooling' FROM cooling_ip
    ) AS taken
    JOIN ip_range ON ip_range.uuid = taken.range_uuid
    WHERE ip_range.l3_network_uuid <> taken.l3_network_uuid OR ip_range.l2_network_uuid <> taken.l2_network_uuid
"""

# The server may sort everything that is used before the first row comes.
FIRST_ROW_SECONDS = 3600.0
ROWS_AT_ONCE = 1000


@dataclass(frozen=True)
class Finding:
    range_uuid: UUID
    problem: str


async def audit(connection: Connection) -> list[Finding]:
    """All findings; see there."""
    return [finding async for finding in findings(connection)]


async def findings(connection: Connection) -> AsyncIterator[Finding]:
    """What contradicts itself. Needs one snapshot: run it in a REPEATABLE READ transaction."""
    async for row in _rows(connection, _TWICE):
        yield Finding(row["range_uuid"], f"{row['ip']} is used twice on its L2 network")
    blocks, taken = _Stream(_rows(connection, _BLOCKS)), _Stream(_rows(connection, _TAKEN))
    reserving = {row[0] for row in await connection.fetch(_WITH_RESERVATIONS)}
    async for row in _rows(connection, _RANGES):
        one = range_of(row)
        async for lost in _before(taken, one.uuid):
            yield lost
        seen = _Seen(one, await _reserved(connection, one) if one.l3_network_uuid in reserving else IntervalSet())
        await _compare(seen, blocks, taken)
        for problem in seen.problems():
            yield Finding(one.uuid, problem)
    async for lost in _before(taken, None):
        yield lost
    async for row in _rows(connection, _ELSEWHERE):
        problem = f"{row['ip']} is {row['what']} in another L3 network than its range is of"
        yield Finding(row["range_uuid"], problem)


async def _rows(connection: Connection, query: str) -> AsyncIterator[Any]:
    async for row in connection.cursor(query, prefetch=ROWS_AT_ONCE, timeout=FIRST_ROW_SECONDS):
        yield row


class _Stream(Generic[T]):
    """Rows of which the next may be looked at before it is taken."""

    def __init__(self, rows: AsyncIterator[T]) -> None:
        self._rows = rows
        self._head: list[T | None] = []

    async def peek(self) -> T | None:
        """None: there are no more."""
        if not self._head:
            self._head.append(await anext(self._rows, None))
        return self._head[0]

    async def pop(self) -> None:
        await self.peek()
        self._head.clear()


async def _before(taken: _Stream[Any], range_uuid: UUID | None) -> AsyncIterator[Finding]:
    """Addresses of ranges that there are not: all that come before this one, or all that are left."""
    while (row := await taken.peek()) is not None and (range_uuid is None or row["range_uuid"] < range_uuid):
        yield Finding(row["range_uuid"], f"{row['ip']} is used of a range that does not exist")
        await taken.pop()


async def _reserved(connection: Connection, one: Range) -> IntervalSet:
    rows = await connection.fetch(_RESERVATIONS, one.l3_network_uuid)
    return reserved_set([reservation_of(row) for row in rows], one.bounds.version)


@dataclass
class _Seen:
    """What was seen of one range, block by block, ascending."""

    range: Range
    reserved: IntervalSet
    used: int = 0
    cooling: int = 0
    taken_reserved: int = 0
    bitmaps: list[str] = field(default_factory=list)
    bounds: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    full: int | None = None  # the last stored block, if it is full

    def address(self, ip: Address, *, cools: bool, again: bool) -> None:
        self.used += not cools
        self.cooling += cools
        self.taken_reserved += not again and int(ip) in self.reserved
        if int(ip) not in self.range.bounds.assignable:
            self.addresses.append(f"{ip} is handed out, though it never may be")
        if again:
            self.addresses.append(f"{ip} is both used and cooling")

    def block(self, block: int, stored: Any | None, taken: int) -> None:
        """Args:
        stored: the row; a block that is not stored is empty.
        taken: what is used or cooling of it, by the rows.
        """
        name = self.range.bounds.address(block)
        if (mask_of_bits(stored["used"]) if stored else 0) != taken:
            self.bitmaps.append(f"the bitmap of {name} differs from the rows")
        if stored is None:
            return
        self.behind(block)
        if mask_of_bits(stored["assignable"]) != mask_of(self.range.bounds.assignable, block):
            self.bounds.append(f"the block {name} hands out other addresses than its range")
        if stored["used"] == stored["assignable"] and block + BLOCK_SIZE <= int(self.range.bounds.last):
            self.full = block

    def behind(self, block: int | None) -> None:
        """The next stored block. The search passes over full blocks to the next one that is stored."""
        if self.full is not None and block != self.full + BLOCK_SIZE:
            self.gaps.append(
                f"the block {self.range.bounds.address(self.full)} is full, and the next one is not stored"
            )
        self.full = None

    def problems(self) -> list[str]:
        one = self.range
        counted = {
            "used": (one.used_count, self.used),
            "cooling": (one.cooling_count, self.cooling),
            "taken and reserved": (one.taken_reserved_count, self.taken_reserved),
        }
        counters = [
            f"the counter says {says} addresses {what}, there are {there}"
            for what, (says, there) in counted.items()
            if says != there
        ]
        return counters + self.bitmaps + self.bounds + self.gaps + self.addresses


async def _compare(seen: _Seen, blocks: _Stream[Any], taken: _Stream[Any]) -> None:
    """Take all of the range from both streams."""
    uuid = seen.range.uuid
    while True:
        stored, first = await blocks.peek(), await taken.peek()
        firsts = [
            *([int(stored["first_ip"])] if stored and stored["range_uuid"] == uuid else []),
            *([block_of(int(first["ip"]))] if first and first["range_uuid"] == uuid else []),
        ]
        if not firsts:
            break
        block = min(firsts)
        mask = await _take(seen, taken, block)
        if stored and stored["range_uuid"] == uuid and int(stored["first_ip"]) == block:
            seen.block(block, stored, mask)
            await blocks.pop()
        else:
            seen.block(block, None, mask)
    seen.behind(None)


async def _take(seen: _Seen, taken: _Stream[Any], block: int) -> int:
    """Take the addresses of the block from the stream; return them as a mask."""
    mask = 0
    while (row := await taken.peek()) and row["range_uuid"] == seen.range.uuid and block_of(int(row["ip"])) == block:
        bit = 1 << int(row["ip"]) - block
        seen.address(row["ip"], cools=row["cools"], again=bool(mask & bit))
        mask |= bit
        await taken.pop()
    return mask
