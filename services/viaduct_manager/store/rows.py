"""What the stores of all entities share: refusals of the database as our errors, and guarded updates."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import asyncpg

from viaduct_common.errors import AlreadyExists, Conflict, InUse, NotFound
from viaduct_common.postgres.pool import Connection

# Which entity a foreign key points to, by the constraint's name as Postgres makes it.
_PARENTS = {
    "cluster_zone_uuid_fkey": "zone",
    "host_cluster_uuid_fkey": "cluster",
    "l2_network_zone_uuid_fkey": "zone",
    "l3_network_l2_uuid_fkey": "L2 network",
    "l3_network_zone_uuid_fkey": "zone",
    "attachment_l2_uuid_fkey": "L2 network",
    "attachment_cluster_uuid_fkey": "cluster",
}


@contextmanager
def creating(kind: str, uuid: UUID) -> Iterator[None]:
    """Raises:
    AlreadyExists: the uuid is taken. NotFound: the parent does not exist.
    """
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        raise AlreadyExists(f"{kind} {uuid} exists already", kind=kind, uuid=str(uuid)) from error
    except asyncpg.ForeignKeyViolationError as error:
        parent = _PARENTS.get(error.constraint_name or "", "parent")
        raise NotFound(f"the {parent} does not exist", kind=parent) from error


@contextmanager
def deleting(kind: str, uuid: UUID) -> Iterator[None]:
    """Raises:
    InUse: other rows still point to it; `details.usedBy` names their table.
    """
    try:
        yield
    except asyncpg.ForeignKeyViolationError as error:
        user = (error.table_name or "something").replace("_", " ")
        raise InUse(
            f"{kind} {uuid} is in use: a {user} depends on it", kind=kind, uuid=str(uuid), usedBy=user
        ) from error


async def require_updated(
    connection: Connection, row: Any, kind: str, uuid: UUID, *, exists_sql: str, revision: int | None
) -> Any:
    """The updated row, or the reason why there is none.

    Raises:
        NotFound: there is no such entity. Conflict: it has another revision than the one read before.
    """
    if row is not None:
        return row
    actual = await connection.fetchval(exists_sql, uuid)
    if actual is None:
        raise NotFound.of(kind, uuid)
    raise Conflict(
        f"{kind} {uuid} has revision {actual}, not {revision}: read it again", revision=actual, uuid=str(uuid)
    )
