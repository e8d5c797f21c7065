"""What accounts have of networks with a VNI range: rows of their own, whose VNI is drawn here."""

from uuid import UUID

from viaduct_common.postgres.pool import Connection

# Whoever gives or takes a VNI of a network takes turns: so nobody draws one that another is drawing.
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('vnis of ' || $1::text, 0))"
# One that was given up, and is still being released somewhere, is taken up again.
_REVIVE = "UPDATE l2_network SET deleted = false WHERE parent_uuid = $1 AND account_uuid = $2 RETURNING uuid"
_LOWEST_FREE_VNI = """
    SELECT min(candidate.vni) FROM (
        SELECT $2::int AS vni
        UNION ALL
        SELECT vni + 1 FROM l2_network WHERE parent_uuid = $1 AND vni >= $2 AND vni < $3
    ) AS candidate
    WHERE NOT EXISTS (SELECT FROM l2_network WHERE parent_uuid = $1 AND vni = candidate.vni)
"""
_OWN = "UPDATE l2_network SET parent_uuid = $2, account_uuid = $3, vni = $4 WHERE uuid = $1"
_PARENT = "SELECT parent_uuid FROM l2_network WHERE uuid = $1"
_GIVE_UP = """
    UPDATE l2_network SET deleted = true
    WHERE uuid = $1 AND NOT deleted AND NOT EXISTS (SELECT FROM nic WHERE l2_uuid = $1)
"""
_IDLE = """
    SELECT uuid FROM l2_network
    WHERE parent_uuid IS NOT NULL AND NOT deleted AND NOT EXISTS (SELECT FROM nic WHERE l2_uuid = l2_network.uuid)
    LIMIT 256
"""


async def lock(connection: Connection, parent_uuid: UUID) -> None:
    """Take the turn among those who give and take VNIs of this network, until the transaction ends."""
    await connection.execute(_LOCK, str(parent_uuid))


async def find(connection: Connection, parent_uuid: UUID, account_uuid: UUID) -> UUID | None:
    """What the account has; taken up again if it was given up. The caller has the turn."""
    uuid: UUID | None = await connection.fetchval(_REVIVE, parent_uuid, account_uuid)
    return uuid


async def free_vni(connection: Connection, parent_uuid: UUID, first: int, last: int) -> int | None:
    """The lowest VNI that nobody has, both ends included; None when none is left. The caller has the turn."""
    vni: int | None = await connection.fetchval(_LOWEST_FREE_VNI, parent_uuid, first, last)
    return vni


async def own(connection: Connection, uuid: UUID, *, parent_uuid: UUID, account_uuid: UUID, vni: int) -> None:
    """A network that was just made is what an account has of another one. The caller has the turn."""
    await connection.execute(_OWN, uuid, parent_uuid, account_uuid, vni)


async def give_up(connection: Connection, uuid: UUID) -> None:
    """Give up a network that no NIC is on any more; its VNI is free when every host has released it.

    One that is no account's stays.
    """
    parent_uuid = await connection.fetchval(_PARENT, uuid)
    if parent_uuid is not None:
        await lock(connection, parent_uuid)
        await connection.execute(_GIVE_UP, uuid)


async def idle(connection: Connection) -> list[UUID]:
    """Some that no NIC is on."""
    return [row["uuid"] for row in await connection.fetch(_IDLE)]
