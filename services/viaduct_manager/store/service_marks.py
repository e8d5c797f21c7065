"""Marks on service instances in Postgres: which are to be looked at, since when."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

from viaduct_common.postgres.pool import Connection
from viaduct_manager.network_services.api import ServiceKey

_MARK = """
    INSERT INTO stale_service (service_uuid, provider, kind, subject_uuid, part, due_at)
    SELECT uuid, provider, kind, subject_uuid, part, now() + make_interval(secs => $6)
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::int[])
        AS key(uuid, provider, kind, subject_uuid, part)
    RETURNING id
"""
_MARK_AGAIN = """
    INSERT INTO stale_service (service_uuid, provider, kind, subject_uuid, part, due_at)
    SELECT uuid, provider, kind, subject_uuid, part, now() + make_interval(secs => $2)
    FROM service WHERE uuid = ANY($1::uuid[])
"""
_MARK_OF_HOST = """
    INSERT INTO stale_service (service_uuid, provider, kind, subject_uuid, part, due_at)
    SELECT uuid, provider, kind, subject_uuid, part, now()
    FROM service JOIN service_on_host ON service_uuid = uuid WHERE host_uuid = $1
"""
_MARK_L2 = "INSERT INTO stale_l3 (l3_uuid) SELECT uuid FROM l3_network WHERE l2_uuid = $1"
_TAKE_L3 = """
    DELETE FROM stale_l3 WHERE id IN (SELECT id FROM stale_l3 ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED)
    RETURNING l3_uuid
"""
_DUE = """
    SELECT EXISTS (SELECT FROM stale_l3) AS networks,
           ARRAY(SELECT DISTINCT provider FROM stale_service WHERE due_at <= now() ORDER BY provider) AS providers,
           EXISTS (SELECT FROM service_address_gone WHERE due_at <= now()) AS addresses,
           ARRAY(SELECT uuid FROM service
                 WHERE problem IS NOT NULL AND since < now() - make_interval(secs => $1)
                   AND NOT EXISTS (SELECT FROM stale_service WHERE service_uuid = service.uuid)
                 LIMIT 256) AS problems
"""
# In one order for all, so that two managers never wait for each other.
_ADOPT = """
    INSERT INTO service (uuid, provider, kind, subject_uuid, part)
    SELECT DISTINCT ON (service_uuid) service_uuid, provider, kind, subject_uuid, part
    FROM stale_service
    WHERE due_at <= now() AND NOT EXISTS (SELECT FROM service WHERE service.uuid = stale_service.service_uuid)
    ORDER BY service_uuid
    ON CONFLICT DO NOTHING
"""
# One look at an instance at a time: who comes later must not write what he read earlier.
_CLAIM = """
    WITH due AS MATERIALIZED (
        SELECT service_uuid FROM stale_service JOIN service ON service.uuid = service_uuid
        WHERE due_at <= now() AND service.provider = $2
        GROUP BY service_uuid ORDER BY min(due_at) LIMIT $1
    )
    SELECT service_uuid FROM due
    WHERE pg_try_advisory_xact_lock(hashtextextended('viaduct service ' || service_uuid::text, 0))
"""
# A statement of its own, after the locks: what it finds was committed, so whoever looks next sees its cause. What is
# put off for later is done with, too: this look is the newest.
_OF = "SELECT id, service_uuid FROM stale_service WHERE service_uuid = ANY($1::uuid[])"
_DONE = "DELETE FROM stale_service WHERE id = ANY($1::bigint[])"
_POSTPONE = "UPDATE stale_service SET due_at = now() + make_interval(secs => $2) WHERE id = ANY($1::bigint[])"
# Those that wait longest first: what was put off comes after what was not looked at.
_KEYS = """
    SELECT kind, subject_uuid, part
    FROM service JOIN unnest($1::uuid[]) WITH ORDINALITY AS claimed(uuid, place) USING (uuid)
    ORDER BY place
"""
_LAST = "SELECT coalesce(max(id), 0) FROM stale_service WHERE service_uuid = ANY($1::uuid[])"


@dataclass(frozen=True)
class Due:
    """What there is to do: L3 networks whose surroundings changed; providers with instances to be looked at; addresses
    that IPAM is to take back; instances with a problem, marked by nobody, that may have gone."""

    networks: bool
    providers: list[str]
    addresses: bool
    problems: list[UUID]


@dataclass(frozen=True)
class Claimed:
    """Instances that one transaction looks at, and nobody else meanwhile, and the marks of each."""

    keys: list[ServiceKey]
    marks: Mapping[UUID, list[int]]


async def mark(connection: Connection, keys: Mapping[ServiceKey, str], *, after_seconds: float = 0.0) -> int:
    """Have instances looked at, so much later at the earliest; return the newest mark's id.

    Args:
        keys: with the name of the provider of each.
    """
    rows = await connection.fetch(
        _MARK,
        [key.uuid for key in keys],
        list(keys.values()),
        [key.kind for key in keys],
        [key.subject_uuid for key in keys],
        [key.part for key in keys],
        after_seconds,
    )
    return max((row["id"] for row in rows), default=0)


async def mark_again(connection: Connection, service_uuids: Iterable[UUID], *, after_seconds: float = 0.0) -> None:
    """Have known instances looked at once more."""
    await connection.execute(_MARK_AGAIN, list(service_uuids), after_seconds)


async def mark_of_host(connection: Connection, host_uuid: UUID) -> None:
    """The host goes, and with it all that it has: have that looked at, as far as it is anybody else's concern."""
    await connection.execute(_MARK_OF_HOST, host_uuid)


async def mark_l2(connection: Connection, l2_uuid: UUID) -> None:
    """The L2 network is built otherwise from here on: whatever is on its L3 networks may have to follow."""
    await connection.execute(_MARK_L2, l2_uuid)


async def take_l3(connection: Connection, limit: int) -> list[UUID]:
    """L3 networks whose surroundings changed; the caller marks what that concerns."""
    return list({row["l3_uuid"] for row in await connection.fetch(_TAKE_L3, limit)})


async def due(connection: Connection, problem_seconds: float) -> Due:
    """Args:
    problem_seconds: instances with a problem are looked at so often.
    """
    return Due(**await connection.fetchrow(_DUE, problem_seconds))


async def adopt(connection: Connection) -> None:
    """Give every instance that is marked for the first time its row. To be committed before it is looked at."""
    await connection.execute(_ADOPT)


async def claim(connection: Connection, provider: str, limit: int) -> Claimed:
    """Instances of a provider that are to be looked at now; nobody else does so until the transaction ends."""
    claimed = [row["service_uuid"] for row in await connection.fetch(_CLAIM, limit, provider)]
    if not claimed:
        return Claimed([], {})
    marks: dict[UUID, list[int]] = defaultdict(list)
    for row in await connection.fetch(_OF, claimed):
        marks[row["service_uuid"]].append(row["id"])
    rows = await connection.fetch(_KEYS, [uuid for uuid in claimed if uuid in marks])
    return Claimed([ServiceKey(row["kind"], row["subject_uuid"], row["part"]) for row in rows], marks)


async def done(connection: Connection, ids: Iterable[int]) -> None:
    """What they were for has been looked at."""
    await connection.execute(_DONE, list(ids))


async def postpone(connection: Connection, ids: Iterable[int], seconds: float) -> None:
    await connection.execute(_POSTPONE, list(ids), seconds)


async def last(connection: Connection, service_uuids: Iterable[UUID]) -> int:
    """The newest mark that these instances bear, 0 for none."""
    found: int = await connection.fetchval(_LAST, list(service_uuids))
    return found
