"""What hosts are known to have of service instances, in Postgres: what they say moves it, and time does."""

from dataclasses import dataclass
from uuid import UUID

from viaduct_common.messages.base import ErrorBody
from viaduct_common.postgres.pool import Connection
from viaduct_manager.model.sync import Wanted
from viaduct_manager.store.services import ServiceOrder

_L2S_NOW = """
    ARRAY(SELECT DISTINCT (found #>> '{}')::uuid
          FROM jsonb_path_query(spec, 'strict $.**.l2NetworkUuid ? (@.type() == "string")', silent => true) AS found)
"""
# An older generation's news counts for who waits for it, and changes nothing else.
_DONE_PRESENT = f"""
    UPDATE service_on_host
    SET observed_generation = $3,
        state = CASE generation WHEN $3 THEN 'applied' ELSE state END,
        l2_uuids = CASE generation WHEN $3 THEN {_L2S_NOW} ELSE l2_uuids END,
        error = CASE generation WHEN $3 THEN NULL ELSE error END,
        attempts = CASE generation WHEN $3 THEN 0 ELSE attempts END,
        retry_at = CASE generation WHEN $3 THEN NULL ELSE retry_at END,
        since = CASE generation WHEN $3 THEN now() ELSE since END
    FROM (SELECT host_uuid, service_uuid, l2_uuids AS former_l2_uuids FROM service_on_host
          WHERE host_uuid = $1 AND service_uuid = $2 FOR UPDATE) AS former
    WHERE service_on_host.host_uuid = $1 AND service_on_host.service_uuid = $2 AND desired = 'present'
      AND generation >= $3 AND (generation = $3 OR coalesce(observed_generation < $3, true))
    RETURNING former_l2_uuids, l2_uuids
"""
_DONE_ABSENT = """
    DELETE FROM service_on_host
    WHERE host_uuid = $1 AND service_uuid = $2 AND generation = $3 AND desired = 'absent'
    RETURNING l2_uuids
"""
_FAILING = """
    SELECT desired, attempts FROM service_on_host
    WHERE host_uuid = $1 AND service_uuid = $2 AND generation = $3 FOR UPDATE
"""
_FAILED = """
    UPDATE service_on_host
    SET state = CASE desired WHEN 'present' THEN 'failed' ELSE 'removing' END, error = $4, attempts = attempts + 1,
        retry_at = now() + make_interval(secs => $5), since = now()
    WHERE host_uuid = $1 AND service_uuid = $2 AND generation = $3
"""
_ABSENT_GENERATION = """
    SELECT generation FROM service_on_host WHERE host_uuid = $1 AND service_uuid = $2 AND desired = 'absent'
"""
_OF_HOST = """
    SELECT service_uuid AS uuid, generation, desired, state, extract(epoch FROM now() - since)::float8 AS age_seconds,
           generation IS NOT DISTINCT FROM observed_generation AS observed
    FROM service_on_host WHERE host_uuid = $1
"""
_START_SYNC = """
    UPDATE service_on_host SET state = 'applying', retry_at = NULL, since = now()
    WHERE host_uuid = $1 AND desired = 'present' AND state <> 'applied'
"""
_SYNCED = "UPDATE host SET services_synced_at = now(), services_differing = 0 WHERE uuid = $1"
_BEAT = """
    SELECT services_differing, extract(epoch FROM now() - services_synced_at)::float8 AS since_sync
    FROM host WHERE uuid = $1
"""
_DIFFERING = """
    UPDATE host SET services_differing = CASE WHEN $2 THEN services_differing + 1 ELSE 0 END WHERE uuid = $1
"""
_RENEW = """
    UPDATE service_on_host
    SET generation = nextval('generation'), state = CASE desired WHEN 'present' THEN 'applying' ELSE 'removing' END,
        retry_at = NULL, since = now()
    FROM service
    WHERE host_uuid = $1 AND service_uuid = $2 AND service.uuid = service_uuid
    RETURNING service_uuid, kind, host_uuid, desired, generation, spec
"""
_DUE = """
    SELECT service_uuid, host_uuid
    FROM service_on_host JOIN host ON host.uuid = host_uuid
    WHERE retry_at <= now() AND host.state = 'connected' AND NOT host.maintenance AND NOT host.deleting
    ORDER BY retry_at LIMIT 256
    FOR UPDATE OF service_on_host SKIP LOCKED
"""
# Restoring a database rolls the sequence back behind what hosts were told; they would call everything outdated.
_CATCH_UP = "SELECT setval('generation', $1) FROM generation WHERE last_value < $1"
_OUTDATED = """
    SELECT service_uuid FROM service_on_host
    JOIN unnest($2::uuid[], $3::bigint[]) AS held(service_uuid, held_generation) USING (service_uuid)
    WHERE host_uuid = $1 AND generation < held_generation
"""


@dataclass(frozen=True)
class Observed:
    """What a host's news changed. `gone`: it has the instance no more; `left`: L2 networks that the instance is not
    plugged into any longer there."""

    gone: bool = False
    left: frozenset[UUID] = frozenset()


@dataclass(frozen=True)
class ServiceBeat:
    """Heartbeats in a row before this one that differed, and how old the last sync is."""

    differing: int
    since_sync_seconds: float | None


async def observe_done(connection: Connection, host_uuid: UUID, service_uuid: UUID, generation: int) -> Observed:
    """The host did what this generation asked."""
    row = await connection.fetchrow(_DONE_PRESENT, host_uuid, service_uuid, generation)
    if row is not None:
        return Observed(left=frozenset(row["former_l2_uuids"]) - frozenset(row["l2_uuids"]))
    row = await connection.fetchrow(_DONE_ABSENT, host_uuid, service_uuid, generation)
    return Observed() if row is None else Observed(gone=True, left=frozenset(row["l2_uuids"]))


async def find_failing(
    connection: Connection, host_uuid: UUID, service_uuid: UUID, generation: int
) -> tuple[str, int] | None:
    """(desired, attempts) of the row that this failure is about; None for an outdated one."""
    row = await connection.fetchrow(_FAILING, host_uuid, service_uuid, generation)
    return None if row is None else (row["desired"], row["attempts"])


async def observe_failure(
    connection: Connection,
    host_uuid: UUID,
    service_uuid: UUID,
    generation: int,
    *,
    error: ErrorBody,
    retry_seconds: float | None,
) -> None:
    """`retry_seconds`: when to try again, None for not by itself."""
    await connection.execute(_FAILED, host_uuid, service_uuid, generation, error.model_dump(mode="json"), retry_seconds)


async def find_absent(connection: Connection, host_uuid: UUID, service_uuid: UUID) -> int | None:
    """The generation by which the host was told to remove the instance; None if it was not."""
    generation: int | None = await connection.fetchval(_ABSENT_GENERATION, host_uuid, service_uuid)
    return generation


async def of_host(connection: Connection, host_uuid: UUID) -> list[Wanted]:
    return [Wanted(**row) for row in await connection.fetch(_OF_HOST, host_uuid)]


async def start_sync(connection: Connection, host_uuid: UUID) -> None:
    """All that the host is not known to have is on its way to it."""
    await connection.execute(_START_SYNC, host_uuid)
    await connection.execute(_SYNCED, host_uuid)


async def beat(connection: Connection, host_uuid: UUID) -> ServiceBeat:
    row = await connection.fetchrow(_BEAT, host_uuid)
    return ServiceBeat(row["services_differing"], row["since_sync"])


async def note_digest(connection: Connection, host_uuid: UUID, *, differs: bool) -> None:
    """Count heartbeats in a row that differ."""
    await connection.execute(_DIFFERING, host_uuid, differs)


async def renew_due(connection: Connection) -> list[ServiceOrder]:
    """Order again what failed and whose time has come."""
    rows = await connection.fetch(_DUE)
    return [await _renew(connection, row["host_uuid"], row["service_uuid"]) for row in rows]


async def outrun(connection: Connection, host_uuid: UUID, held: list[tuple[UUID, int]]) -> None:
    """Make sure that what is desired of a host is newer than what the host holds: (instance, generation) pairs."""
    if not held:
        return
    await connection.execute(_CATCH_UP, max(generation for _, generation in held))
    uuids, generations = zip(*held, strict=True)
    for row in await connection.fetch(_OUTDATED, host_uuid, uuids, generations):
        await _renew(connection, host_uuid, row["service_uuid"])


async def _renew(connection: Connection, host_uuid: UUID, service_uuid: UUID) -> ServiceOrder:
    row = await connection.fetchrow(_RENEW, host_uuid, service_uuid)
    present = row["desired"] == "present"
    spec = row["spec"] if present else {}
    return ServiceOrder(service_uuid, row["kind"], host_uuid, present, row["generation"], spec)
