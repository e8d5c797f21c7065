"""The rows of an import put into effect: in chunks, behind the locks of all scopes that they are of.

What was checked holds: nobody else changes these scopes until the transaction ends.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

import asyncpg

from viaduct_common.errors import IpRangeConflict
from viaduct_common.postgres.pool import Connection
from viaduct_ipam.model.blocks import BLOCK_SIZE, mask_of
from viaduct_ipam.model.ranges import Range
from viaduct_ipam.store.filling import announce_fill
from viaduct_ipam.store.imports import CHUNK_ROWS, PATIENCE_SECONDS
from viaduct_ipam.store.rows import BITS, BLOCK_OF_IP, RANGE_COLUMNS, bit_string, range_of
from viaduct_ipam.store.states import load_states

# Who adds ranges is judged beside all that is on the L2 network; so nobody else may add any to it meanwhile.
_LOCK_SCOPES = """
    SELECT l3_network_uuid FROM scope
    WHERE l3_network_uuid IN (SELECT l3_network_uuid FROM import_row WHERE import_uuid = $1)
       OR l2_network_uuid IN (
            SELECT scope.l2_network_uuid FROM import_row AS it JOIN scope USING (l3_network_uuid)
            WHERE it.import_uuid = $1 AND it.kind = 'range')
    ORDER BY l3_network_uuid
    FOR UPDATE
"""
_RAISE_REVISIONS = """
    UPDATE scope SET revision = revision + 1, layout_revision = layout_revision + 1
    WHERE l3_network_uuid IN (SELECT l3_network_uuid FROM import_row WHERE import_uuid = $1)
"""
_SCOPES = """
    SELECT DISTINCT l3_network_uuid FROM import_row WHERE import_uuid = $1 AND l3_network_uuid > $2
    ORDER BY l3_network_uuid LIMIT $3
"""
_ADD_RANGES = f"""
    INSERT INTO ip_range AS r
        (l3_network_uuid, l2_network_uuid, name, type, start_ip, end_ip, prefix_length, gateway, address_mode)
    SELECT l3_network_uuid, l2_network_uuid, name, type, start_ip, end_ip, prefix_length, gateway, address_mode
    FROM import_range WHERE import_uuid = $1 AND line > $2 AND line <= $3
    RETURNING {RANGE_COLUMNS}
"""
_RANGES_END = """
    SELECT max(line) FROM (
        SELECT line FROM import_range WHERE import_uuid = $1 AND line > $2 ORDER BY line LIMIT $3) AS chunk
"""
_ADD_RESERVATIONS = """
    INSERT INTO reservation (l3_network_uuid, start_ip, end_ip, reason, owner, mac)
    SELECT l3_network_uuid, start_ip, end_ip, reason, owner, mac
    FROM import_row WHERE import_uuid = $1 AND kind = 'reservation'
"""
# Used or cooling addresses that lie in any reservation; where reservations overlap, once. Of the import's L3 networks.
_COUNT_RESERVED = """
    WITH reserved AS (
        SELECT l3_network_uuid, unnest(range_agg(address_span(start_ip, end_ip, '[]'))) AS span
        FROM reservation
        WHERE l3_network_uuid IN (SELECT l3_network_uuid FROM import_row WHERE import_uuid = $1)
        GROUP BY l3_network_uuid
    ), counted AS (
        SELECT range_uuid, count(*) FROM (
            SELECT taken.range_uuid FROM reserved
            JOIN used_ip AS taken ON taken.l3_network_uuid = reserved.l3_network_uuid
             AND taken.ip >= lower(reserved.span) AND taken.ip <= upper(reserved.span)
            UNION ALL
            SELECT taken.range_uuid FROM reserved
            JOIN cooling_ip AS taken ON taken.l3_network_uuid = reserved.l3_network_uuid
             AND taken.ip >= lower(reserved.span) AND taken.ip <= upper(reserved.span)
        ) AS taken GROUP BY range_uuid
    )
    UPDATE ip_range SET taken_reserved_count = counted.count FROM counted
    WHERE ip_range.uuid = counted.range_uuid AND ip_range.taken_reserved_count <> counted.count
"""

# From the address behind ($2, $3), in the order of L3 networks and addresses.
_CHUNK_END = """
    SELECT l3_network_uuid, start_ip FROM (
        SELECT l3_network_uuid, start_ip FROM import_row
        WHERE import_uuid = $1 AND kind = 'allocation' AND (l3_network_uuid, start_ip) > ($2, $3)
        ORDER BY l3_network_uuid, start_ip LIMIT $4
    ) AS chunk ORDER BY l3_network_uuid DESC, start_ip DESC LIMIT 1
"""
_ADD_ALLOCATIONS = f"""
    WITH new AS MATERIALIZED (
        SELECT coalesce(it.uuid, gen_random_uuid()) AS uuid, it.l3_network_uuid, home.l2_network_uuid,
               home.uuid AS range_uuid, it.start_ip AS ip, it.owner, it.mac,
               coalesce(it.allocated_at, now()) AS allocated_at, it.expires_at
        FROM import_row AS it
        CROSS JOIN LATERAL (
            SELECT one.uuid, one.l2_network_uuid FROM ip_range AS one
            WHERE one.l3_network_uuid = it.l3_network_uuid AND one.start_ip <= it.start_ip
            ORDER BY one.start_ip DESC LIMIT 1
        ) AS home
        WHERE it.import_uuid = $1 AND it.kind = 'allocation'
          AND (it.l3_network_uuid, it.start_ip) > ($2, $3) AND (it.l3_network_uuid, it.start_ip) <= ($4, $5)
    ), added AS (
        INSERT INTO used_ip (uuid, l3_network_uuid, l2_network_uuid, range_uuid, ip, owner, mac, allocated_at,
                             expires_at, allocated_by, allocated_by_message)
        SELECT uuid, l3_network_uuid, l2_network_uuid, range_uuid, ip, owner, mac, allocated_at, expires_at, $6, $7
        FROM new
    ), warmed AS (
        DELETE FROM cooling_ip USING new
        WHERE cooling_ip.l3_network_uuid = new.l3_network_uuid AND cooling_ip.ip = new.ip
        RETURNING cooling_ip.range_uuid
    ), counted AS (
        UPDATE ip_range SET
            used_count = used_count + new_of.count,
            cooling_count = cooling_count - (SELECT count(*) FROM warmed WHERE warmed.range_uuid = ip_range.uuid)
        FROM (SELECT range_uuid, count(*) FROM new GROUP BY range_uuid) AS new_of
        WHERE ip_range.uuid = new_of.range_uuid
    )
    SELECT range_uuid, first_ip, bit_or(set_bit(repeat('0', {BLOCK_SIZE})::{BITS}, (ip - first_ip)::integer, 1)) AS mask
    FROM (
        SELECT range_uuid, ip, {BLOCK_OF_IP} AS first_ip FROM new
    ) AS placed
    GROUP BY range_uuid, first_ip ORDER BY range_uuid, first_ip
"""
_RANGES = f"SELECT {RANGE_COLUMNS} FROM ip_range r WHERE r.uuid = ANY($1::uuid[])"
_MARK = f"""
    INSERT INTO address_block AS block (range_uuid, first_ip, assignable, used)
    SELECT * FROM unnest($1::uuid[], $2::inet[], $3::{BITS}[], $4::{BITS}[])
    ON CONFLICT (range_uuid, first_ip) DO UPDATE SET used = block.used | excluded.used
    RETURNING range_uuid, first_ip, is_full
"""
_ADD_BLOCKS = f"""
    INSERT INTO address_block (range_uuid, first_ip, assignable, used)
    SELECT range_uuid, first_ip, assignable, repeat('0', {BLOCK_SIZE})::{BITS}
    FROM unnest($1::uuid[], $2::inet[], $3::{BITS}[]) AS new (range_uuid, first_ip, assignable)
    ON CONFLICT DO NOTHING
    RETURNING range_uuid, first_ip, is_full
"""

# Whose fill is computed together, from all of their ranges and reservations.
SCOPES_AT_ONCE = 50
# From so many new addresses on the planner must know of them at once: pages of a listing would be sorted anew each.
MANY_ALLOCATIONS = 10_000
_ANALYZE = "SET LOCAL lock_timeout = '2s'; ANALYZE used_ip, address_block"
FIRST_UUID = UUID(int=0)
FIRST_IP = "0.0.0.0"  # no address that can be allocated is below


async def lock_scopes(connection: Connection, import_uuid: UUID) -> None:
    """Wait until nobody else changes what the import is about."""
    await connection.execute(_LOCK_SCOPES, import_uuid, timeout=PATIENCE_SECONDS)


async def add_ranges(connection: Connection, import_uuid: UUID) -> AsyncIterator[Sequence[Range]]:
    """Store the ranges that were found right; yields them as they are stored, a chunk at a time.

    Raises:
        IpRangeConflict: one overlaps a range of an L3 network that was made known just now.
    """
    after = 0
    while (last := await connection.fetchval(_RANGES_END, import_uuid, after, CHUNK_ROWS)) is not None:
        try:
            rows = await connection.fetch(_ADD_RANGES, import_uuid, after, last, timeout=PATIENCE_SECONDS)
        except asyncpg.ExclusionViolationError as error:
            raise IpRangeConflict("overlaps a range that was added to the L2 network meanwhile") from error
        yield [range_of(row) for row in rows]
        after = last


async def add_reservations(connection: Connection, import_uuid: UUID) -> None:
    await connection.execute(_ADD_RESERVATIONS, import_uuid, timeout=PATIENCE_SECONDS)


async def add_allocations(connection: Connection, import_uuid: UUID, sender: str, message_id: UUID) -> None:
    """Rows, bitmaps and counters; `sender` and `message_id` are noted as who allocated them."""
    after: tuple[UUID, Any] = (FIRST_UUID, FIRST_IP)
    while end := await connection.fetchrow(_CHUNK_END, import_uuid, *after, CHUNK_ROWS):
        last = (end["l3_network_uuid"], end["start_ip"])
        marks = await connection.fetch(
            _ADD_ALLOCATIONS, import_uuid, *after, *last, sender, message_id, timeout=PATIENCE_SECONDS
        )
        await _mark(connection, marks)
        after = last


async def tell_planner(connection: Connection, allocations: int) -> None:
    """Let the planner count what is there now. If a vacuum is at it, that tells it later."""
    if allocations >= MANY_ALLOCATIONS:
        with suppress(asyncpg.LockNotAvailableError):
            async with connection.transaction():
                await connection.execute(_ANALYZE, timeout=PATIENCE_SECONDS)


async def finish(connection: Connection, import_uuid: UUID) -> None:
    """Counters that depend on all three kinds, events of what has become full, and the revisions: whoever has read
    these scopes reads them again."""
    await connection.execute(_COUNT_RESERVED, import_uuid, timeout=PATIENCE_SECONDS)
    await connection.execute(_RAISE_REVISIONS, import_uuid, timeout=PATIENCE_SECONDS)
    after = FIRST_UUID
    while rows := await connection.fetch(_SCOPES, import_uuid, after, SCOPES_AT_ONCE, timeout=PATIENCE_SECONDS):
        uuids = [row["l3_network_uuid"] for row in rows]
        for state in (await load_states(connection, uuids, {})).values():
            await announce_fill(connection, state)
        after = uuids[-1]


async def _mark(connection: Connection, marks: Sequence[Any]) -> None:
    """Set the bits; behind a block that is full by now the next one is stored, if the range reaches so far."""
    uuids = list({mark["range_uuid"] for mark in marks})
    bounds = {row["range_uuid"]: range_of(row).bounds for row in await connection.fetch(_RANGES, uuids)}

    def assignable(range_uuid: UUID, first_ip: Any) -> asyncpg.BitString:
        return bit_string(mask_of(bounds[range_uuid].assignable, int(first_ip)))

    blocks = await connection.fetch(
        _MARK,
        [mark["range_uuid"] for mark in marks],
        [mark["first_ip"] for mark in marks],
        [assignable(mark["range_uuid"], mark["first_ip"]) for mark in marks],
        [mark["mask"] for mark in marks],
    )
    while blocks:  # the one behind may hold nothing but a gateway: full as well
        behind = [
            (block["range_uuid"], block["first_ip"] + BLOCK_SIZE)
            for block in blocks
            if block["is_full"] and int(block["first_ip"]) + BLOCK_SIZE <= int(bounds[block["range_uuid"]].last)
        ]
        blocks = behind and await connection.fetch(
            _ADD_BLOCKS,
            [range_uuid for range_uuid, _ in behind],
            [first_ip for _, first_ip in behind],
            [assignable(range_uuid, first_ip) for range_uuid, first_ip in behind],
        )
