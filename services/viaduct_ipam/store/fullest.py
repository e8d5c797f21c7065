"""Which L3 networks are the fullest: for metrics, which cannot have all of a large installation."""

from uuid import UUID

import asyncpg

from viaduct_common.bus import StoreUnavailable
from viaduct_common.postgres.pool import Connection

# By the fullest of its IP versions. The bounds are near enough for an order; those of IPv6 ranges that no bigint can
# tell apart count as 2^56 addresses.
_FULLEST = """
    SELECT l3_network_uuid
    FROM (
        SELECT l3_network_uuid, sum(used_count + cooling_count) / sum(
            CASE WHEN family(start_ip) = 4
                   OR network(set_masklen(start_ip::inet, 72)) = network(set_masklen(end_ip::inet, 72))
                 THEN end_ip - start_ip + 1 ELSE 72057594037927936 END) AS fill
        FROM ip_range GROUP BY l3_network_uuid, family(start_ip)
    ) AS of_version
    GROUP BY l3_network_uuid ORDER BY max(fill) DESC, l3_network_uuid LIMIT $1
"""


async def fullest_l3(connection: Connection, limit: int) -> list[UUID]:
    """Up to `limit` L3 networks, the fullest first; those without ranges are none of them.

    Raises:
        StoreUnavailable: the database is too busy to read all ranges now.
    """
    try:
        return [row[0] for row in await connection.fetch(_FULLEST, limit)]
    except asyncpg.QueryCanceledError as error:
        raise StoreUnavailable(repr(error)) from error
