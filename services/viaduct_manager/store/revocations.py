"""Hosts whose queue and broker user are still to be removed."""

from uuid import UUID

from viaduct_common.postgres.pool import Connection

_ADD = "INSERT INTO revocation (host_uuid) VALUES ($1) ON CONFLICT DO NOTHING"
_TAKE = "SELECT host_uuid FROM revocation ORDER BY created_at LIMIT 16 FOR UPDATE SKIP LOCKED"
_CANCEL = "DELETE FROM revocation WHERE host_uuid = $1"
_DONE = "DELETE FROM revocation WHERE host_uuid = $1"


async def add(connection: Connection, host_uuid: UUID) -> None:
    await connection.execute(_ADD, host_uuid)


async def take(connection: Connection) -> list[UUID]:
    """Some that nobody else is at, locked."""
    return [row["host_uuid"] for row in await connection.fetch(_TAKE)]


async def cancel(connection: Connection, host_uuid: UUID) -> None:
    """The uuid is taken again; waits for whoever is revoking it just now."""
    await connection.execute(_CANCEL, host_uuid)


async def done(connection: Connection, host_uuid: UUID) -> None:
    await connection.execute(_DONE, host_uuid)
