"""Hosts in Postgres: what they are, and whether they live, by the database's clock."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from viaduct_common.errors import NotFound
from viaduct_common.messages.agent import HealthFact, HostDrift, HostHello
from viaduct_common.messages.base import Page
from viaduct_common.messages.host import CreateHost, HostInventory, QueryHosts, UpdateHost
from viaduct_common.postgres.paging import Column, Listing, list_page
from viaduct_common.postgres.pool import Connection
from viaduct_manager.model.tunnels import host_addresses
from viaduct_manager.store.rows import creating, require_updated

KIND = "host"

_INSERT = """
    INSERT INTO host (uuid, cluster_uuid, name, description, tunnel_ip, labels)
    VALUES ($1, $2, $3, $4, $5, $6) RETURNING *
"""
_GET = "SELECT * FROM host WHERE uuid = $1"
# Not FOR UPDATE: foreign keys look at the row from transactions that hold realizations, which come after hosts.
_LOCK = "SELECT * FROM host WHERE uuid = $1 FOR NO KEY UPDATE"
_REVISION = "SELECT revision FROM host WHERE uuid = $1"
_DELETING = "SELECT deleting FROM host WHERE uuid = $1"
_CLUSTER = "SELECT cluster_uuid FROM host WHERE uuid = $1"
_HOLD_CLUSTER = "SELECT FROM cluster WHERE uuid = $1 FOR SHARE"
_UPDATE = """
    UPDATE host SET name = coalesce($2, name), description = coalesce($3, description), labels = coalesce($4, labels),
                    tunnel_ip = coalesce($5, tunnel_ip), revision = revision + 1, updated_at = now()
    WHERE uuid = $1 AND ($6::int IS NULL OR revision = $6) RETURNING *
"""
_SET_MAINTENANCE = """
    UPDATE host SET maintenance = $2, revision = revision + 1, updated_at = now() WHERE uuid = $1 RETURNING *
"""
_MOVE = """
    UPDATE host SET cluster_uuid = $2, revision = revision + 1, updated_at = now() WHERE uuid = $1 RETURNING *
"""
_MARK_DELETING = "UPDATE host SET deleting = true WHERE uuid = $1"
_DELETE = "DELETE FROM host WHERE uuid = $1"
_HELLO = """
    UPDATE host SET state = 'connected', session_id = $2, agent_version = $3, capabilities = $4, interfaces = $5,
                    health = $6, last_seen_at = now(), beats = 1, storm_at = NULL, addresses = $7
    FROM (SELECT uuid, addresses FROM host WHERE uuid = $1) AS former
    WHERE host.uuid = former.uuid
    RETURNING host.addresses IS DISTINCT FROM former.addresses
"""
_BEAT = """
    UPDATE host SET last_seen_at = now(), beats = beats + 1, session_id = $2
    WHERE uuid = $1
    RETURNING state, beats, cluster_uuid, deleting, maintenance, differing,
              extract(epoch FROM now() - synced_at)::float8 AS since_sync
"""
# One entry per network; the host's next hello brings its own health again.
_STORM = """
    UPDATE host
    SET storm_at = now(), health = $3 || coalesce((
            SELECT jsonb_agg(fact) FROM jsonb_array_elements(health) AS fact
            WHERE fact ->> 'l2NetworkUuid' IS DISTINCT FROM $2), '[]')
    WHERE uuid = $1
"""
_CALM = """
    UPDATE host
    SET storm_at = NULL, health = coalesce((
            SELECT jsonb_agg(fact) FROM jsonb_array_elements(health) AS fact
            WHERE fact ->> 'name' <> 'drift_storm'), '[]')
    WHERE storm_at < now() - make_interval(secs => $1)
"""
_CONNECT = "UPDATE host SET state = 'connected' WHERE uuid = $1"
_SYNCED = "UPDATE host SET synced_at = now(), differing = 0 WHERE uuid = $1"
_DIFFERING = "UPDATE host SET differing = CASE WHEN $2 THEN differing + 1 ELSE 0 END WHERE uuid = $1"
_LOSE_SILENT = """
    UPDATE host SET state = 'disconnected', beats = 0
    WHERE state = 'connected' AND last_seen_at < now() - make_interval(secs => $1)
    RETURNING uuid
"""
_ENROLLED = "SELECT uuid FROM host WHERE NOT deleting"
_REACHABLE = """
    SELECT uuid FROM host
    WHERE state = 'connected' AND NOT deleting AND NOT maintenance
      AND ($1::uuid[] IS NULL OR cluster_uuid = ANY($1)) AND ($2::uuid IS NULL OR uuid = $2)
"""
_IN = """
    SELECT uuid, state FROM host
    WHERE NOT deleting AND ($1::uuid[] IS NULL OR cluster_uuid = ANY($1)) AND ($2::uuid IS NULL OR uuid = $2)
"""
_LISTING = Listing(
    select="SELECT * FROM host",
    columns={
        "uuid": Column("uuid", "uuid"),
        "name": Column("name", "text"),
        "clusterUuid": Column("cluster_uuid", "uuid"),
        "state": Column("state", "text"),
        "createdAt": Column("created_at", "timestamptz"),
    },
    key=Column("uuid", "uuid"),
    default_sort="createdAt",
)


@dataclass(frozen=True)
class Beat:
    """What a heartbeat found; `beats` counts those in a row since the host was lost, `differing` those before this one
    whose digest was another than expected."""

    state: str
    beats: int
    cluster_uuid: UUID
    deleting: bool
    maintenance: bool
    since_sync_seconds: float | None
    differing: int


async def create(connection: Connection, uuid: UUID, request: CreateHost) -> HostInventory:
    with creating(KIND, uuid):
        row = await connection.fetchrow(
            _INSERT,
            uuid,
            request.cluster_uuid,
            request.name,
            request.description,
            request.tunnel_ip,
            request.labels,
        )
    return _inventory(row)


async def get(connection: Connection, uuid: UUID) -> HostInventory:
    """Raises:
    NotFound: there is none.
    """
    row = await connection.fetchrow(_GET, uuid)
    if row is None:
        raise NotFound.of(KIND, uuid)
    return _inventory(row)


async def find_locked(connection: Connection, uuid: UUID) -> HostInventory | None:
    row = await connection.fetchrow(_LOCK, uuid)
    return None if row is None else _inventory(row)


async def hold_cluster(connection: Connection, uuid: UUID) -> UUID | None:
    """The cluster that the host is of, locked for whoever reads what its hosts must have: until the transaction ends
    that does not change, nor is the host moved. None if there is no such host."""
    found: UUID | None = await connection.fetchval(_CLUSTER, uuid)
    while found is not None:
        await connection.execute(_HOLD_CLUSTER, found)
        now: UUID | None = await connection.fetchval(_CLUSTER, uuid)
        if now == found:
            break
        found = now  # it was moved while we waited
    return found


async def move(connection: Connection, uuid: UUID, cluster_uuid: UUID) -> HostInventory:
    """The host, of the cluster from here on; the caller has locked both clusters, and the host."""
    return _inventory(await connection.fetchrow(_MOVE, uuid, cluster_uuid))


async def is_deleting(connection: Connection, uuid: UUID) -> bool:
    return bool(await connection.fetchval(_DELETING, uuid))


async def query(connection: Connection, request: QueryHosts) -> Page[HostInventory]:
    page = await list_page(connection, _LISTING, request, request.filters)
    return Page(items=[_inventory(row) for row in page.rows], after=page.after)


async def update(connection: Connection, request: UpdateHost) -> HostInventory:
    row = await connection.fetchrow(
        _UPDATE,
        request.uuid,
        request.name,
        request.description,
        request.labels,
        request.tunnel_ip,
        request.revision,
    )
    return _inventory(
        await require_updated(connection, row, KIND, request.uuid, exists_sql=_REVISION, revision=request.revision)
    )


async def set_maintenance(connection: Connection, uuid: UUID, maintenance: bool) -> HostInventory:
    row = await connection.fetchrow(_SET_MAINTENANCE, uuid, maintenance)
    if row is None:
        raise NotFound.of(KIND, uuid)
    return _inventory(row)


async def mark_deleting(connection: Connection, uuid: UUID) -> None:
    """From here on nothing is desired of it."""
    await connection.execute(_MARK_DELETING, uuid)


async def delete(connection: Connection, uuid: UUID) -> None:
    """Remove the row, and with it its realizations."""
    await connection.execute(_DELETE, uuid)


async def record_hello(connection: Connection, uuid: UUID, hello: HostHello) -> bool:
    """True if the host has other addresses than before."""
    changed: bool = await connection.fetchval(
        _HELLO,
        uuid,
        hello.session_id,
        hello.version,
        hello.capabilities,
        [fact.model_dump(mode="json") for fact in hello.interfaces],
        [fact.model_dump(mode="json") for fact in hello.health],
        host_addresses(hello.interfaces),
    )
    return changed


async def record_beat(connection: Connection, uuid: UUID, session_id: UUID) -> Beat | None:
    row = await connection.fetchrow(_BEAT, uuid, session_id)
    if row is None:
        return None
    return Beat(
        row["state"],
        row["beats"],
        row["cluster_uuid"],
        row["deleting"],
        row["maintenance"],
        row["since_sync"],
        row["differing"],
    )


async def note_digest(connection: Connection, uuid: UUID, *, differs: bool) -> None:
    """Count heartbeats in a row that differ."""
    await connection.execute(_DIFFERING, uuid, differs)


async def record_storm(connection: Connection, uuid: UUID, drift: HostDrift) -> None:
    """The host's health shows that it fights for a network."""
    fact = HealthFact(name="drift_storm", ok=False, detail=f"{drift.repairs} repairs in the last five minutes")
    l2_uuid = str(drift.l2_network_uuid)
    await connection.execute(_STORM, uuid, l2_uuid, [fact.model_dump(mode="json") | {"l2NetworkUuid": l2_uuid}])


async def calm(connection: Connection, seconds: float) -> None:
    """Take the storms of hosts that have told of none for so long out of their health."""
    await connection.execute(_CALM, seconds)


async def mark_connected(connection: Connection, uuid: UUID) -> None:
    await connection.execute(_CONNECT, uuid)


async def mark_synced(connection: Connection, uuid: UUID) -> None:
    await connection.execute(_SYNCED, uuid)


async def lose_silent(connection: Connection, silent_seconds: float) -> list[UUID]:
    """Mark as disconnected whoever was silent for so long; return those."""
    return [row["uuid"] for row in await connection.fetch(_LOSE_SILENT, silent_seconds)]


async def enrolled(connection: Connection) -> list[UUID]:
    """All hosts that should have a queue and a user."""
    return [row["uuid"] for row in await connection.fetch(_ENROLLED)]


async def reachable(
    connection: Connection,
    *,
    cluster_uuids: list[UUID] | None = None,
    host_uuid: UUID | None = None,
) -> list[UUID]:
    """Hosts that are connected and may be given work."""
    rows = await connection.fetch(_REACHABLE, cluster_uuids, host_uuid)
    return [row["uuid"] for row in rows]


async def states(
    connection: Connection, *, cluster_uuids: list[UUID] | None = None, host_uuid: UUID | None = None
) -> dict[UUID, str]:
    """State by host."""
    return {row["uuid"]: row["state"] for row in await connection.fetch(_IN, cluster_uuids, host_uuid)}


def _inventory(row: Any) -> HostInventory:
    return HostInventory.model_validate(dict(row))
