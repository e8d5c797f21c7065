"""What is wrong with the rows of an import, given what is there. Nothing is changed but the import's own tables.

Set-based statements over chunks of lines; for ranges see `import_ranges`.
"""

from collections.abc import AsyncIterator
from uuid import UUID

from viaduct_common.postgres.pool import Connection
from viaduct_ipam.store.import_ranges import check_ranges
from viaduct_ipam.store.imports import CHUNK_ROWS, PATIENCE_SECONDS

# A chunk of lines, fenced off: nothing known of the kind of a row leads the planner to an index that is not by line,
# of which it would read the whole for every chunk.
_LINES = "(SELECT * FROM import_row WHERE import_uuid = $1 AND line > $2 AND line <= $3 OFFSET 0)"
_CHUNK_END = """
    SELECT max(line) FROM (
        SELECT line FROM import_row WHERE import_uuid = $1 AND line > $2 ORDER BY line LIMIT $3) AS chunk
"""
_NO_SCOPE = f"""
    INSERT INTO import_problem (import_uuid, line, of_apply, field, code, message)
    SELECT it.import_uuid, it.line, true, 'l3NetworkUuid', 'NOT_FOUND', 'no L3 network ' || it.l3_network_uuid
    FROM {_LINES} AS it
    WHERE it.kind IS NOT NULL
      AND NOT EXISTS (SELECT FROM scope WHERE scope.l3_network_uuid = it.l3_network_uuid)
"""

# ---- reservations: see `check_holder` in model/reservations.py.
_HELD_BY_ANOTHER = f"""
    INSERT INTO import_problem (import_uuid, line, of_apply, field, code, message)
    SELECT $1, it.line, true, 'startIp', 'CONFLICT',
           host(it.start_ip) || ' is reserved for somebody else, by ' || other.called
    FROM {_LINES} AS it
    CROSS JOIN LATERAL (
        (SELECT 'reservation ' || one.uuid AS called, one.owner, one.mac FROM reservation AS one
         WHERE one.l3_network_uuid = it.l3_network_uuid AND one.start_ip = it.start_ip AND one.end_ip = it.start_ip
           AND (one.owner IS NOT NULL OR one.mac IS NOT NULL)
         LIMIT 1)
        UNION ALL
        (SELECT 'line ' || one.line, one.owner, one.mac FROM import_row AS one
         WHERE one.import_uuid = $1 AND one.kind = 'reservation' AND (one.owner IS NOT NULL OR one.mac IS NOT NULL)
           AND one.l3_network_uuid = it.l3_network_uuid AND one.start_ip = it.start_ip AND one.line < it.line
         ORDER BY one.line LIMIT 1)
        LIMIT 1
    ) AS other
    WHERE it.kind = 'reservation' AND (it.owner IS NOT NULL OR it.mac IS NOT NULL)
      AND (it.owner, it.mac) IS DISTINCT FROM (other.owner, other.mac)
"""

# ---- allocations: see `Bounds.never`, and what a required address is refused for.
_NOT_TO_BE_HAD = f"""
    WITH meaning (reason, code, text) AS (VALUES
        ('NOT_IN_RANGE', 'NOT_IN_RANGE', 'is in no range of the L3 network'),
        ('NETWORK', 'NOT_IN_RANGE', 'is the network address of its subnet'),
        ('BROADCAST', 'NOT_IN_RANGE', 'is the broadcast address of its subnet'),
        ('GATEWAY', 'IP_IN_USE', 'is the gateway'),
        ('USED', 'IP_IN_USE', 'is in use'),
        ('COOLING', 'IP_IN_USE', 'is cooling: only its former owner may have it now'),
        ('TWICE', 'IP_IN_USE', 'is allocated by line ')
    )
    INSERT INTO import_problem (import_uuid, line, of_apply, field, code, message)
    SELECT $1, found.line, true, found.field, found.code, found.message
    FROM (
        SELECT it.*, scope.l2_network_uuid, home.start_ip IS NULL AS homeless, home.gateway AS home_gateway,
               CASE WHEN family(it.start_ip) = 4 AND home.prefix_length < 31
                    THEN set_masklen(it.start_ip::inet, home.prefix_length) END AS subnet,
               (SELECT min(twin.line) FROM import_row AS twin
                WHERE twin.import_uuid = $1 AND twin.kind = 'allocation' AND twin.line < it.line
                  AND twin.l3_network_uuid = it.l3_network_uuid AND twin.start_ip = it.start_ip) AS twin_line
        FROM {_LINES} AS it
        JOIN scope USING (l3_network_uuid)
        LEFT JOIN LATERAL (
            SELECT * FROM (
                (SELECT one.start_ip, one.end_ip, one.prefix_length, one.gateway FROM ip_range AS one
                 WHERE one.l3_network_uuid = it.l3_network_uuid AND one.start_ip <= it.start_ip
                 ORDER BY one.start_ip DESC LIMIT 1)
                UNION ALL
                (SELECT one.start_ip, one.end_ip, one.prefix_length, one.gateway FROM import_range AS one
                 WHERE one.import_uuid = $1
                   AND one.l3_network_uuid = it.l3_network_uuid AND one.start_ip <= it.start_ip
                 ORDER BY one.start_ip DESC LIMIT 1)
            ) AS below WHERE below.end_ip >= it.start_ip
        ) AS home ON true
        WHERE it.kind = 'allocation'
    ) AS it
    CROSS JOIN LATERAL (
        SELECT it.line, 'ip' AS field, meaning.code,
               host(it.start_ip) || ' ' || meaning.text
               || CASE WHEN meaning.reason = 'TWICE' THEN it.twin_line::text ELSE '' END AS message
        FROM meaning WHERE meaning.reason = CASE
            WHEN it.start_ip = it.home_gateway THEN 'GATEWAY'
            WHEN it.homeless AND (
                EXISTS (SELECT FROM ip_range AS one
                        WHERE one.l3_network_uuid = it.l3_network_uuid AND one.gateway = it.start_ip)
                OR EXISTS (SELECT FROM import_range AS one
                           WHERE one.import_uuid = $1
                             AND one.l3_network_uuid = it.l3_network_uuid AND one.gateway = it.start_ip)
            ) THEN 'GATEWAY'
            WHEN it.homeless THEN 'NOT_IN_RANGE'
            WHEN it.start_ip & netmask(it.subnet) = it.start_ip THEN 'NETWORK'
            WHEN it.start_ip | hostmask(it.subnet) = it.start_ip THEN 'BROADCAST'
            WHEN EXISTS (SELECT FROM used_ip AS used
                         WHERE used.l2_network_uuid = it.l2_network_uuid AND used.ip = it.start_ip) THEN 'USED'
            WHEN EXISTS (SELECT FROM cooling_ip AS rests
                         WHERE rests.l3_network_uuid = it.l3_network_uuid AND rests.ip = it.start_ip
                           AND (rests.owner = it.owner) IS NOT TRUE) THEN 'COOLING'
            WHEN it.twin_line IS NOT NULL THEN 'TWICE' END
        UNION ALL
        SELECT it.line, 'uuid', 'ALREADY_EXISTS', it.uuid || ' ' || used.why
        FROM (SELECT CASE
            WHEN EXISTS (SELECT FROM used_ip AS used WHERE used.uuid = it.uuid) THEN 'is that of an allocation'
            WHEN EXISTS (SELECT FROM ip_history AS past WHERE past.uuid = it.uuid)
            THEN 'was that of an allocation that has ended: leave it out to get a new one'
            ELSE 'is that of line ' || (
                SELECT min(twin.line) FROM import_row AS twin
                WHERE twin.import_uuid = $1 AND twin.uuid = it.uuid AND twin.line < it.line) END AS why) AS used
        WHERE used.why IS NOT NULL AND it.uuid IS NOT NULL
        UNION ALL
        SELECT it.line, 'allocatedAt', 'INVALID_REQUEST', 'lies in the future'
        WHERE it.allocated_at > now()
    ) AS found
"""


async def check(connection: Connection, import_uuid: UUID) -> None:
    """Note all problems that the rows have beside what is there; the ranges that have none are in `import_range`."""
    async for first, last in _chunks(connection, import_uuid):
        await connection.execute(_NO_SCOPE, import_uuid, first, last, timeout=PATIENCE_SECONDS)
        await connection.execute(_HELD_BY_ANOTHER, import_uuid, first, last, timeout=PATIENCE_SECONDS)
    await check_ranges(connection, import_uuid)
    async for first, last in _chunks(connection, import_uuid):
        await connection.execute(_NOT_TO_BE_HAD, import_uuid, first, last, timeout=PATIENCE_SECONDS)


async def _chunks(connection: Connection, import_uuid: UUID) -> AsyncIterator[tuple[int, int]]:
    """Lines from one (exclusive) to another (inclusive), a chunk at a time."""
    after = 0
    while (last := await connection.fetchval(_CHUNK_END, import_uuid, after, CHUNK_ROWS)) is not None:
        yield after, last
        after = last
