"""Which owners of addresses are things that the manager keeps."""

from collections.abc import Collection
from uuid import UUID

from viaduct_common.postgres.pool import Connection

# One line for each table whose rows may hold addresses.
_KNOWN = """
    SELECT uuid FROM zone WHERE uuid = ANY($1::uuid[])
    UNION ALL SELECT uuid FROM cluster WHERE uuid = ANY($1::uuid[])
    UNION ALL SELECT uuid FROM host WHERE uuid = ANY($1::uuid[])
    UNION ALL SELECT uuid FROM l2_network WHERE uuid = ANY($1::uuid[])
    UNION ALL SELECT uuid FROM l3_network WHERE uuid = ANY($1::uuid[])
    UNION ALL SELECT uuid FROM nic WHERE uuid = ANY($1::uuid[])
    UNION ALL SELECT uuid FROM vip WHERE uuid = ANY($1::uuid[])
    UNION ALL SELECT vip_uuid FROM vip_gone WHERE vip_uuid = ANY($1::uuid[])
    UNION ALL SELECT uuid FROM service WHERE uuid = ANY($1::uuid[])
"""


async def known(connection: Connection, uuids: Collection[UUID]) -> set[UUID]:
    """Those of `uuids` that there are."""
    return {row["uuid"] for row in await connection.fetch(_KNOWN, list(uuids))}
