"""Realizations in Postgres: what each host should have of each L2 network, and what it is known to have.

Every change of what is desired draws a new generation; it is that number which fences late and doubled messages.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from viaduct_common.messages.base import ErrorBody, Page
from viaduct_common.messages.realization import QueryRealizations, RealizationInventory
from viaduct_common.postgres.paging import Column, Listing, list_page
from viaduct_common.postgres.pool import Connection
from viaduct_manager.model.sync import Wanted

# Which hosts must have an L2 network: those of a cluster with an attachment that is not on its way out. This one
# function decides; everything else is to be cleaned.
_DESIRE_ON_CLUSTER = """
    INSERT INTO realization (l2_uuid, host_uuid, desired, generation, state)
    SELECT $1, host.uuid, 'present', nextval('generation'),
           CASE WHEN host.state = 'connected' AND NOT host.maintenance THEN 'realizing' ELSE 'pending' END
    FROM host
    WHERE host.cluster_uuid = $2 AND NOT host.deleting
      AND NOT EXISTS (SELECT FROM l2_network WHERE uuid = $1 AND at_vm_time)
    ON CONFLICT (host_uuid, l2_uuid) DO UPDATE
        SET desired = 'present', generation = excluded.generation, state = excluded.state, error = NULL,
            attempts = 0, retry_at = NULL, forced = false, since = now(), told = NULL
        WHERE realization.desired = 'absent' OR realization.state <> 'realized'
    RETURNING host_uuid, generation, state
"""
_DESIRE_ON_HOST = """
    INSERT INTO realization (l2_uuid, host_uuid, desired, generation, state)
    SELECT attachment.l2_uuid, host.uuid, 'present', nextval('generation'), 'pending'
    FROM host JOIN attachment USING (cluster_uuid) JOIN l2_network ON l2_network.uuid = attachment.l2_uuid
    WHERE host.uuid = $1 AND NOT host.deleting AND attachment.state IN ('attaching', 'attached', 'degraded')
      AND NOT l2_network.at_vm_time
    ON CONFLICT DO NOTHING
    RETURNING l2_uuid
"""
_UNDESIRE_ON_CLUSTER = """
    UPDATE realization
    SET desired = 'absent', generation = nextval('generation'), state = 'releasing', error = NULL, attempts = 0,
        retry_at = NULL, forced = $3, since = now()
    FROM host
    WHERE realization.l2_uuid = $1 AND host.uuid = realization.host_uuid AND host.cluster_uuid = $2
    RETURNING realization.host_uuid, realization.generation,
              host.state = 'connected' AND NOT host.maintenance AS reachable
"""
# A host that was never told has nothing to release.
_FORGET_UNTOLD = """
    DELETE FROM realization USING host
    WHERE realization.l2_uuid = $1 AND host.uuid = realization.host_uuid AND host.cluster_uuid = $2
      AND realization.state = 'pending' AND realization.observed_generation IS NULL
"""
_UNDESIRE_ON_HOST = """
    UPDATE realization
    SET desired = 'absent', generation = nextval('generation'), state = 'releasing', error = NULL, attempts = 0,
        retry_at = NULL, forced = true, since = now()
    WHERE host_uuid = $1
"""
_OBSERVE_PRESENT = """
    UPDATE realization
    SET state = 'realized', observed_generation = generation, error = NULL, attempts = 0, retry_at = NULL, since = now()
    WHERE host_uuid = $1 AND l2_uuid = $2 AND generation = $3 AND desired = 'present'
"""
_OBSERVE_ABSENT = """
    DELETE FROM realization WHERE host_uuid = $1 AND l2_uuid = $2 AND generation = $3 AND desired = 'absent'
"""
_ABSENT = "SELECT generation FROM realization WHERE host_uuid = $1 AND l2_uuid = $2 AND desired = 'absent'"
_FAILING = """
    SELECT desired, attempts FROM realization WHERE host_uuid = $1 AND l2_uuid = $2 AND generation = $3 FOR UPDATE
"""
_OBSERVE_FAILURE = """
    UPDATE realization
    SET state = CASE desired WHEN 'present' THEN 'failed' ELSE 'releasing' END, error = $4, attempts = attempts + 1,
        retry_at = now() + make_interval(secs => $5), since = now()
    WHERE host_uuid = $1 AND l2_uuid = $2 AND generation = $3
"""
# It is still what was built there last: nothing is tried again until it is ordered anew.
_NOTE_DRIFT = """
    UPDATE realization SET error = $4
    WHERE host_uuid = $1 AND l2_uuid = $2 AND generation = $3 AND desired = 'present' AND state = 'realized'
"""
_DUE = """
    SELECT realization.l2_uuid, realization.host_uuid
    FROM realization JOIN host ON host.uuid = realization.host_uuid
    WHERE realization.retry_at <= now() AND host.state = 'connected' AND NOT host.maintenance AND NOT host.deleting
    ORDER BY realization.retry_at LIMIT 256
    FOR UPDATE OF realization SKIP LOCKED
"""
_RENEW = """
    UPDATE realization
    SET generation = nextval('generation'), state = CASE desired WHEN 'present' THEN 'realizing' ELSE 'releasing' END,
        retry_at = NULL, since = now(), told = NULL
    WHERE host_uuid = $1 AND l2_uuid = $2
    RETURNING l2_uuid, host_uuid, desired, generation, forced
"""
_OF_HOST = """
    SELECT l2_uuid AS uuid, generation, desired, state, extract(epoch FROM now() - since)::float8 AS age_seconds,
           generation IS NOT DISTINCT FROM observed_generation AS observed
    FROM realization WHERE host_uuid = $1
"""
# Restoring a database rolls the sequence back behind what hosts were told; they would call everything outdated.
_CATCH_UP = "SELECT setval('generation', $1) FROM generation WHERE last_value < $1"
_OUTDATED = """
    SELECT realization.l2_uuid FROM realization
    JOIN unnest($2::uuid[], $3::bigint[]) AS held(l2_uuid, generation) USING (l2_uuid)
    WHERE realization.host_uuid = $1 AND realization.generation < held.generation
"""
_GENERATIONS = "SELECT host_uuid, generation FROM realization WHERE l2_uuid = $1 AND host_uuid = ANY($2::uuid[])"
_HOSTS = "SELECT host_uuid FROM realization WHERE l2_uuid = $1 AND desired = 'present'"
_START_SYNC = """
    UPDATE realization SET state = 'realizing', retry_at = NULL, since = now()
    WHERE host_uuid = $1 AND desired = 'present' AND state <> 'realized'
"""
_LISTING = Listing(
    select="SELECT *, l2_uuid AS l2_network_uuid FROM realization",
    columns={
        "l2NetworkUuid": Column("l2_uuid", "uuid"),
        "hostUuid": Column("host_uuid", "uuid"),
        "state": Column("state", "text"),
        "since": Column("since", "timestamptz"),
    },
    key=Column("(host_uuid::text || l2_uuid::text)", "text"),
    default_sort="hostUuid",
)


@dataclass(frozen=True)
class Ordered:
    """What a host was told to do with one network. `reachable`: it is to be told now, not when it returns."""

    l2_uuid: UUID
    host_uuid: UUID
    desired: str
    generation: int
    reachable: bool = True
    forced: bool = False


async def desire_on_cluster(connection: Connection, l2_uuid: UUID, cluster_uuid: UUID) -> list[Ordered]:
    """Want the network on every host of the cluster; return the hosts where that is news."""
    rows = await connection.fetch(_DESIRE_ON_CLUSTER, l2_uuid, cluster_uuid)
    return [
        Ordered(l2_uuid, row["host_uuid"], "present", row["generation"], row["state"] == "realizing") for row in rows
    ]


async def desire_on_host(connection: Connection, host_uuid: UUID) -> list[UUID]:
    """Want on the host what its cluster has; it is told by the sync that follows. Return the networks that are news."""
    return [row["l2_uuid"] for row in await connection.fetch(_DESIRE_ON_HOST, host_uuid)]


async def undesire_on_cluster(
    connection: Connection, l2_uuid: UUID, cluster_uuid: UUID, *, forced: bool = False
) -> list[Ordered]:
    """Want the network gone from every host of the cluster; a host that is away is remembered until it has released."""
    await connection.execute(_FORGET_UNTOLD, l2_uuid, cluster_uuid)
    rows = await connection.fetch(_UNDESIRE_ON_CLUSTER, l2_uuid, cluster_uuid, forced)
    return [Ordered(l2_uuid, row["host_uuid"], "absent", row["generation"], row["reachable"], forced) for row in rows]


async def undesire_on_host(connection: Connection, host_uuid: UUID) -> None:
    await connection.execute(_UNDESIRE_ON_HOST, host_uuid)


async def observe_done(connection: Connection, host_uuid: UUID, l2_uuid: UUID, generation: int) -> None:
    """The host did what this generation asked. An older generation's news changes nothing."""
    await connection.execute(_OBSERVE_PRESENT, host_uuid, l2_uuid, generation)
    await connection.execute(_OBSERVE_ABSENT, host_uuid, l2_uuid, generation)


async def find_absent(connection: Connection, host_uuid: UUID, l2_uuid: UUID) -> int | None:
    """The generation by which the host was told to release the network; None if it was not."""
    generation: int | None = await connection.fetchval(_ABSENT, host_uuid, l2_uuid)
    return generation


async def find_failing(
    connection: Connection, host_uuid: UUID, l2_uuid: UUID, generation: int
) -> tuple[str, int] | None:
    """(desired, attempts) of the row that this failure is about; None for an outdated one."""
    row = await connection.fetchrow(_FAILING, host_uuid, l2_uuid, generation)
    return None if row is None else (row["desired"], row["attempts"])


async def observe_failure(
    connection: Connection,
    host_uuid: UUID,
    l2_uuid: UUID,
    generation: int,
    *,
    error: ErrorBody,
    retry_seconds: float | None,
) -> None:
    """`retry_seconds`: when to try again, None for not by itself."""
    await connection.execute(
        _OBSERVE_FAILURE, host_uuid, l2_uuid, generation, error.model_dump(mode="json"), retry_seconds
    )


async def note_drift(connection: Connection, host_uuid: UUID, l2_uuid: UUID, generation: int, error: ErrorBody) -> None:
    """Show that the network differs from what was realized, and do nothing about it."""
    await connection.execute(_NOTE_DRIFT, host_uuid, l2_uuid, generation, error.model_dump(mode="json"))


async def renew_due(connection: Connection) -> list[Ordered]:
    """Order again what failed and whose time has come."""
    renewed = []
    for row in await connection.fetch(_DUE):
        fresh = await connection.fetchrow(_RENEW, row["host_uuid"], row["l2_uuid"])
        renewed.append(
            Ordered(fresh["l2_uuid"], fresh["host_uuid"], fresh["desired"], fresh["generation"], forced=fresh["forced"])
        )
    return renewed


async def of_host(connection: Connection, host_uuid: UUID) -> list[Wanted]:
    rows = await connection.fetch(_OF_HOST, host_uuid)
    return [Wanted(**row) for row in rows]


async def hosts_of(connection: Connection, l2_uuid: UUID) -> set[UUID]:
    """The hosts that should have the network."""
    return {row["host_uuid"] for row in await connection.fetch(_HOSTS, l2_uuid)}


async def generations(connection: Connection, l2_uuid: UUID, host_uuids: list[UUID]) -> dict[UUID, int]:
    """The generation that each host was last told, by host; hosts that were told nothing are missing."""
    rows = await connection.fetch(_GENERATIONS, l2_uuid, host_uuids)
    return {row["host_uuid"]: row["generation"] for row in rows}


async def outrun(connection: Connection, host_uuid: UUID, held: list[tuple[UUID, int]]) -> None:
    """Make sure that what is desired of a host is newer than what the host holds: (L2 network, generation) pairs."""
    if not held:
        return
    await connection.execute(_CATCH_UP, max(generation for _, generation in held))
    uuids, generations_ = zip(*held, strict=True)
    for row in await connection.fetch(_OUTDATED, host_uuid, uuids, generations_):
        await connection.execute(_RENEW, host_uuid, row["l2_uuid"])


async def start_sync(connection: Connection, host_uuid: UUID) -> None:
    """All that the host is not known to have is on its way to it."""
    await connection.execute(_START_SYNC, host_uuid)


async def query(connection: Connection, request: QueryRealizations) -> Page[RealizationInventory]:
    page = await list_page(connection, _LISTING, request, request.filters)
    return Page(items=[_inventory(row) for row in page.rows], after=page.after)


def _inventory(row: Any) -> RealizationInventory:
    return RealizationInventory.model_validate(dict(row))
