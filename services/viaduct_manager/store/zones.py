"""Zones in Postgres."""

from typing import Any
from uuid import UUID

from viaduct_common.errors import NotFound
from viaduct_common.messages.base import Page
from viaduct_common.messages.zone import CreateZone, QueryZones, UpdateZone, ZoneInventory
from viaduct_common.postgres.paging import Column, Listing, list_page
from viaduct_common.postgres.pool import Connection
from viaduct_manager.store.rows import creating, deleting, require_updated

KIND = "zone"

_INSERT = "INSERT INTO zone (uuid, name, description) VALUES ($1, $2, $3) RETURNING *"
_GET = "SELECT * FROM zone WHERE uuid = $1"
_REVISION = "SELECT revision FROM zone WHERE uuid = $1"
_UPDATE = """
    UPDATE zone SET name = coalesce($2, name), description = coalesce($3, description),
                    revision = revision + 1, updated_at = now()
    WHERE uuid = $1 AND ($4::int IS NULL OR revision = $4) RETURNING *
"""
_DELETE = "DELETE FROM zone WHERE uuid = $1 RETURNING *"
_LISTING = Listing(
    select="SELECT * FROM zone",
    columns={
        "uuid": Column("uuid", "uuid"),
        "name": Column("name", "text"),
        "createdAt": Column("created_at", "timestamptz"),
    },
    key=Column("uuid", "uuid"),
    default_sort="createdAt",
)


async def create(connection: Connection, uuid: UUID, request: CreateZone) -> ZoneInventory:
    with creating(KIND, uuid):
        return _inventory(await connection.fetchrow(_INSERT, uuid, request.name, request.description))


async def get(connection: Connection, uuid: UUID) -> ZoneInventory:
    """Raises:
    NotFound: there is none.
    """
    row = await connection.fetchrow(_GET, uuid)
    if row is None:
        raise NotFound.of(KIND, uuid)
    return _inventory(row)


async def query(connection: Connection, request: QueryZones) -> Page[ZoneInventory]:
    page = await list_page(connection, _LISTING, request, request.filters)
    return Page(items=[_inventory(row) for row in page.rows], after=page.after)


async def update(connection: Connection, request: UpdateZone) -> ZoneInventory:
    row = await connection.fetchrow(_UPDATE, request.uuid, request.name, request.description, request.revision)
    return _inventory(
        await require_updated(connection, row, KIND, request.uuid, exists_sql=_REVISION, revision=request.revision)
    )


async def delete(connection: Connection, uuid: UUID) -> ZoneInventory | None:
    with deleting(KIND, uuid):
        row = await connection.fetchrow(_DELETE, uuid)
    return None if row is None else _inventory(row)


def _inventory(row: Any) -> ZoneInventory:
    return ZoneInventory.model_validate(dict(row))
