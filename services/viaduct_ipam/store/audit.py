"""Do rows, bitmaps and counters tell the same? They are written together; a difference is a bug or a torn restore."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from viaduct_common.postgres.pool import Connection
from viaduct_ipam.model.blocks import BLOCK_SIZE, mask_of, masks_by_block
from viaduct_ipam.model.intervals import IntervalSet
from viaduct_ipam.model.ranges import Address, Range
from viaduct_ipam.model.reservations import reserved_set
from viaduct_ipam.store.rows import RANGE_COLUMNS, mask_of_bits, range_of, reservation_of

_RANGES = f"SELECT {RANGE_COLUMNS} FROM ip_range r ORDER BY r.uuid"
_RESERVATIONS = "SELECT * FROM reservation"
_BLOCKS = "SELECT first_ip, assignable, used FROM address_block WHERE range_uuid = $1"
_USED = "SELECT ip FROM used_ip WHERE range_uuid = $1"
_COOLING = "SELECT ip, l3_network_uuid FROM cooling_ip WHERE range_uuid = $1"
_TWICE = """
    SELECT ip, min(range_uuid::text)::uuid AS range_uuid FROM used_ip GROUP BY l2_network_uuid, ip HAVING count(*) > 1
"""


@dataclass(frozen=True)
class Finding:
    range_uuid: UUID
    problem: str


@dataclass(frozen=True)
class _Rows:
    """What is stored of one range."""

    blocks: Sequence[Mapping[str, Any]]
    used: Sequence[Address]
    cooling: Sequence[Address]


async def audit(connection: Connection) -> list[Finding]:
    """What contradicts itself. Needs one snapshot: run it in a REPEATABLE READ transaction."""
    reservations = [reservation_of(row) for row in await connection.fetch(_RESERVATIONS)]
    findings = [
        Finding(row["range_uuid"], f"{row['ip']} is used twice on its L2 network")
        for row in await connection.fetch(_TWICE)
    ]
    for row in await connection.fetch(_RANGES):
        one = range_of(row)
        cooling = await connection.fetch(_COOLING, one.uuid)
        rows = _Rows(
            blocks=await connection.fetch(_BLOCKS, one.uuid),
            used=[used["ip"] for used in await connection.fetch(_USED, one.uuid)],
            cooling=[rests["ip"] for rests in cooling],
        )
        own = [held for held in reservations if held.l3_network_uuid == one.l3_network_uuid]
        problems = [
            *_counters(one, rows, reserved_set(own, one.bounds.version)),
            *_bitmaps(one, rows),
            *_addresses(one, rows),
            *(
                f"{rests['ip']} is cooling in another L3 network than its range is of"
                for rests in cooling
                if rests["l3_network_uuid"] != one.l3_network_uuid
            ),
        ]
        findings += [Finding(one.uuid, problem) for problem in problems]
    return findings


def _counters(one: Range, rows: _Rows, reserved: IntervalSet) -> list[str]:
    taken = {*rows.used, *rows.cooling}
    counted = {
        "used": (one.used_count, len(rows.used)),
        "cooling": (one.cooling_count, len(rows.cooling)),
        "taken and reserved": (one.taken_reserved_count, sum(int(ip) in reserved for ip in taken)),
    }
    return [
        f"the counter says {says} addresses {what}, there are {there}"
        for what, (says, there) in counted.items()
        if says != there
    ]


def _bitmaps(one: Range, rows: _Rows) -> list[str]:
    bounds = one.bounds
    stored = {int(row["first_ip"]): mask_of_bits(row["used"]) for row in rows.blocks}
    assignable = {int(row["first_ip"]): mask_of_bits(row["assignable"]) for row in rows.blocks}
    wanted = masks_by_block(int(ip) for ip in {*rows.used, *rows.cooling})
    problems = [
        f"the bitmap of {bounds.address(block)} differs from the rows"
        for block in sorted(stored.keys() | wanted.keys())
        if stored.get(block, 0) != wanted.get(block, 0)
    ]
    problems += [
        f"the block {bounds.address(block)} hands out other addresses than its range"
        for block, mask in sorted(assignable.items())
        if mask != mask_of(bounds.assignable, block)
    ]
    # The search passes over full blocks to the next one that is stored.
    problems += [
        f"the block {bounds.address(block)} is full, and the next one is not stored"
        for block, mask in sorted(stored.items())
        if mask == assignable[block] and block + BLOCK_SIZE <= int(bounds.last) and block + BLOCK_SIZE not in stored
    ]
    return problems


def _addresses(one: Range, rows: _Rows) -> list[str]:
    problems = [
        f"{ip} is handed out, though it never may be"
        for ip in (*rows.used, *rows.cooling)
        if int(ip) not in one.bounds.assignable
    ]
    problems += [
        f"{ip} is both used and cooling"
        for ip, times in Counter([*set(rows.used), *set(rows.cooling)]).items()
        if times > 1
    ]
    return problems
