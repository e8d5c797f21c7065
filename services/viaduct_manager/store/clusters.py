"""Clusters in Postgres."""

from typing import Any
from uuid import UUID

from viaduct_common.errors import NotFound
from viaduct_common.messages.base import Page
from viaduct_common.messages.cluster import ClusterInventory, CreateCluster, QueryClusters, UpdateCluster
from viaduct_common.postgres.paging import Column, Listing, list_page
from viaduct_common.postgres.pool import Connection
from viaduct_manager.store.rows import creating, deleting, require_updated

KIND = "cluster"

_INSERT = """
    INSERT INTO cluster (uuid, zone_uuid, name, description, hypervisor_type) VALUES ($1, $2, $3, $4, $5) RETURNING *
"""
_GET = "SELECT * FROM cluster WHERE uuid = $1"
# Whoever adds to what a cluster's hosts must have, and whoever finds out what one of them must have, meet here.
_LOCK = "SELECT * FROM cluster WHERE uuid = $1 FOR UPDATE"
_LOCK_SHARED = "SELECT * FROM cluster WHERE uuid = $1 FOR SHARE"
_REVISION = "SELECT revision FROM cluster WHERE uuid = $1"
_OF_ZONE = "SELECT * FROM cluster WHERE zone_uuid = $1 ORDER BY created_at, uuid"
_UPDATE = """
    UPDATE cluster SET name = coalesce($2, name), description = coalesce($3, description),
                       revision = revision + 1, updated_at = now()
    WHERE uuid = $1 AND ($4::int IS NULL OR revision = $4) RETURNING *
"""
_DELETE = "DELETE FROM cluster WHERE uuid = $1 RETURNING *"
_LISTING = Listing(
    select="SELECT * FROM cluster",
    columns={
        "uuid": Column("uuid", "uuid"),
        "name": Column("name", "text"),
        "zoneUuid": Column("zone_uuid", "uuid"),
        "createdAt": Column("created_at", "timestamptz"),
    },
    key=Column("uuid", "uuid"),
    default_sort="createdAt",
)


async def create(connection: Connection, uuid: UUID, request: CreateCluster) -> ClusterInventory:
    with creating(KIND, uuid):
        row = await connection.fetchrow(
            _INSERT, uuid, request.zone_uuid, request.name, request.description, request.hypervisor_type
        )
    return _inventory(row)


async def get(connection: Connection, uuid: UUID) -> ClusterInventory:
    """Raises:
    NotFound: there is none.
    """
    return _required(await connection.fetchrow(_GET, uuid), uuid)


async def lock(connection: Connection, uuid: UUID) -> ClusterInventory:
    """The cluster, locked for whoever changes what its hosts must have.

    Raises:
        NotFound: there is none.
    """
    return _required(await connection.fetchrow(_LOCK, uuid), uuid)


async def lock_shared(connection: Connection, uuid: UUID) -> ClusterInventory:
    """The cluster, locked for whoever reads what its hosts must have and acts on it."""
    return _required(await connection.fetchrow(_LOCK_SHARED, uuid), uuid)


async def of_zone(connection: Connection, zone_uuid: UUID) -> list[ClusterInventory]:
    return [_inventory(row) for row in await connection.fetch(_OF_ZONE, zone_uuid)]


async def query(connection: Connection, request: QueryClusters) -> Page[ClusterInventory]:
    page = await list_page(connection, _LISTING, request, request.filters)
    return Page(items=[_inventory(row) for row in page.rows], after=page.after)


async def update(connection: Connection, request: UpdateCluster) -> ClusterInventory:
    row = await connection.fetchrow(_UPDATE, request.uuid, request.name, request.description, request.revision)
    return _inventory(
        await require_updated(connection, row, KIND, request.uuid, exists_sql=_REVISION, revision=request.revision)
    )


async def delete(connection: Connection, uuid: UUID) -> ClusterInventory | None:
    with deleting(KIND, uuid):
        row = await connection.fetchrow(_DELETE, uuid)
    return None if row is None else _inventory(row)


def _required(row: Any, uuid: UUID) -> ClusterInventory:
    if row is None:
        raise NotFound.of(KIND, uuid)
    return _inventory(row)


def _inventory(row: Any) -> ClusterInventory:
    return ClusterInventory.model_validate(dict(row))
