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
    INSERT INTO cluster (uuid, zone_uuid, name, description, hypervisor_type, backends)
    VALUES ($1, $2, $3, $4, $5, $6) RETURNING *
"""
_GET = "SELECT * FROM cluster WHERE uuid = $1"
# Whoever adds to what a cluster's hosts must have, and whoever finds out what one of them must have, meet here.
# Not FOR UPDATE: foreign keys look at the row from transactions that hold hosts, which come after clusters.
_LOCK = "SELECT * FROM cluster WHERE uuid = $1 FOR NO KEY UPDATE"
_TRY_LOCK_SHARED = "SELECT 1 FROM cluster WHERE uuid = $1 FOR SHARE SKIP LOCKED"
_REVISION = "SELECT revision FROM cluster WHERE uuid = $1"
_OF_ZONE = "SELECT * FROM cluster WHERE zone_uuid = $1 ORDER BY created_at, uuid"
_UPDATE = """
    UPDATE cluster SET name = coalesce($2, name), description = coalesce($3, description),
                       backends = coalesce($4, backends), revision = revision + 1, updated_at = now()
    WHERE uuid = $1 AND ($5::int IS NULL OR revision = $5) RETURNING *
"""
_ATTACHED_OF_TYPES = """
    SELECT l2_network.uuid, l2_network.type
    FROM attachment JOIN l2_network ON l2_network.uuid = attachment.l2_uuid
    WHERE attachment.cluster_uuid = $1 AND l2_network.type = ANY($2::text[])
    ORDER BY l2_network.type, l2_network.uuid LIMIT 100
"""
_BACKENDS_OF_HOSTS = """
    SELECT host.uuid, cluster.backends FROM host JOIN cluster ON cluster.uuid = host.cluster_uuid
    WHERE host.uuid = ANY($1::uuid[]) AND cluster.backends <> '{}'
"""
_BACKENDS_WHERE_ATTACHED = """
    SELECT backends FROM cluster WHERE uuid IN (SELECT cluster_uuid FROM attachment WHERE l2_uuid = $1)
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
            _INSERT,
            uuid,
            request.zone_uuid,
            request.name,
            request.description,
            request.hypervisor_type,
            request.backends,
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


async def try_lock_shared(connection: Connection, uuid: UUID) -> bool:
    """Lock it for whoever reads what its hosts must have, and must not wait; False if somebody changes that."""
    return await connection.fetchval(_TRY_LOCK_SHARED, uuid) is not None


async def of_zone(connection: Connection, zone_uuid: UUID) -> list[ClusterInventory]:
    return [_inventory(row) for row in await connection.fetch(_OF_ZONE, zone_uuid)]


async def query(connection: Connection, request: QueryClusters) -> Page[ClusterInventory]:
    page = await list_page(connection, _LISTING, request, request.filters)
    return Page(items=[_inventory(row) for row in page.rows], after=page.after)


async def update(connection: Connection, request: UpdateCluster) -> ClusterInventory:
    row = await connection.fetchrow(
        _UPDATE, request.uuid, request.name, request.description, request.backends, request.revision
    )
    return _inventory(
        await require_updated(connection, row, KIND, request.uuid, exists_sql=_REVISION, revision=request.revision)
    )


async def attached_of_types(connection: Connection, uuid: UUID, types: list[str]) -> dict[UUID, str]:
    """L2 networks of these types that are attached, being attached or being detached; type by uuid, some of them."""
    return {row["uuid"]: row["type"] for row in await connection.fetch(_ATTACHED_OF_TYPES, uuid, types)}


async def backends_of_hosts(connection: Connection, host_uuids: list[UUID]) -> dict[UUID, dict[str, str]]:
    """By host what its cluster chose: backend by L2 type. Hosts of clusters that chose nothing are missing."""
    return {row["uuid"]: row["backends"] for row in await connection.fetch(_BACKENDS_OF_HOSTS, host_uuids)}


async def backends_where_attached(connection: Connection, l2_uuid: UUID) -> list[dict[str, str]]:
    """What each cluster chose to which an L2 network is attached: backend by L2 type."""
    return [row["backends"] for row in await connection.fetch(_BACKENDS_WHERE_ATTACHED, l2_uuid)]


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
