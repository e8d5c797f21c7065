"""Do rows, bitmaps and counters tell the same? They are written together; a difference is a bug or a torn restore."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from viaduct_common.postgres.pool import Connection
from viaduct_ipam.model.blocks import masks_by_block
from viaduct_ipam.model.ranges import Range
from viaduct_ipam.store.rows import RANGE_COLUMNS, mask_of_bits, range_of

_RANGES = f"SELECT {RANGE_COLUMNS} FROM ip_range r ORDER BY r.uuid"
_BLOCKS = "SELECT first_ip, used FROM address_block WHERE range_uuid = $1"
_USED = "SELECT ip FROM used_ip WHERE range_uuid = $1"


@dataclass(frozen=True)
class Finding:
    range_uuid: UUID
    problem: str


async def audit(connection: Connection) -> list[Finding]:
    """What contradicts itself. Needs one snapshot: run it in a REPEATABLE READ transaction."""
    findings: list[Finding] = []
    for row in await connection.fetch(_RANGES):
        one = range_of(row)
        blocks = await connection.fetch(_BLOCKS, one.uuid)
        used = await connection.fetch(_USED, one.uuid)
        findings += [Finding(one.uuid, problem) for problem in _problems(one, blocks, used)]
    return findings


def _problems(one: Range, blocks: list[Any], used: list[Any]) -> list[str]:
    problems = []
    if one.used_count != len(used):
        problems.append(f"the counter says {one.used_count}, there are {len(used)} rows")
    stored = {int(row["first_ip"]): mask_of_bits(row["used"]) for row in blocks}
    wanted = masks_by_block(int(row["ip"]) for row in used)
    problems += [
        f"the bitmap of {one.bounds.address(block)} differs from the rows"
        for block in sorted(stored.keys() | wanted.keys())
        if stored.get(block, 0) != wanted.get(block, 0)
    ]
    problems += [
        f"{row['ip']} is handed out, though it never may be"
        for row in used
        if int(row["ip"]) not in one.bounds.assignable
    ]
    return problems
