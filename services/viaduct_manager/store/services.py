"""Service instances on hosts in Postgres: what each host should have of each, and what it is known to have.

As with realizations, every change of what is desired draws a new generation; it is that number which fences late and
doubled messages.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from viaduct_common.messages.base import ErrorBody, Page
from viaduct_common.messages.services.instances import QueryServices, ServiceInventory
from viaduct_common.postgres.paging import Column, Listing, list_page
from viaduct_common.postgres.pool import Connection
from viaduct_manager.model.service_plan import ServicePlan, Spec, Told
from viaduct_manager.network_services.api import ServiceKey

# Wherever in its spec an instance names an L2 network that it is plugged into.
_L2S_OF = """
    ARRAY(SELECT DISTINCT (found #>> '{{}}')::uuid
          FROM jsonb_path_query({}, 'strict $.**.l2NetworkUuid ? (@.type() == "string")', silent => true) AS found)
"""
_TOLD = """
    SELECT service_uuid, host_uuid, desired = 'present' AS present, spec,
           state = 'pending' AND observed_generation IS NULL AS untold
    FROM service_on_host WHERE service_uuid = ANY($1::uuid[])
"""
# A host that says something of itself, or that somebody removes or moves, is waited for: what it is told in full then
# must have all of this or nothing.
_HOLD_HOSTS = """
    SELECT uuid, state = 'connected' AND NOT maintenance AS reachable, deleting
    FROM host WHERE uuid = ANY($1::uuid[]) ORDER BY uuid FOR SHARE
"""
_PRESENT = f"""
    INSERT INTO service_on_host (service_uuid, host_uuid, desired, generation, state, spec, l2_uuids)
    SELECT service_uuid, host_uuid, 'present', nextval('generation'),
           CASE WHEN reachable THEN 'applying' ELSE 'pending' END, spec, {_L2S_OF.format("spec")}
    FROM unnest($1::uuid[], $2::uuid[], $3::jsonb[], $4::bool[]) AS t(service_uuid, host_uuid, spec, reachable)
    ORDER BY host_uuid, service_uuid
    ON CONFLICT (host_uuid, service_uuid) DO UPDATE
        SET desired = 'present', generation = excluded.generation, state = excluded.state, spec = excluded.spec,
            l2_uuids = ARRAY(SELECT DISTINCT unnest(service_on_host.l2_uuids || excluded.l2_uuids)),
            error = NULL, attempts = 0, retry_at = NULL, since = now()
    RETURNING service_uuid, host_uuid, generation
"""
_ABSENT = """
    UPDATE service_on_host
    SET desired = 'absent', generation = nextval('generation'), state = 'removing', error = NULL, attempts = 0,
        retry_at = NULL, since = now()
    FROM unnest($1::uuid[], $2::uuid[]) AS t(service_uuid, host_uuid)
    WHERE service_on_host.service_uuid = t.service_uuid AND service_on_host.host_uuid = t.host_uuid
    RETURNING service_on_host.service_uuid, service_on_host.host_uuid, generation
"""
_FORGET = """
    DELETE FROM service_on_host USING unnest($1::uuid[], $2::uuid[]) AS t(service_uuid, host_uuid)
    WHERE service_on_host.service_uuid = t.service_uuid AND service_on_host.host_uuid = t.host_uuid
"""
_PROBLEMS = """
    UPDATE service SET problem = t.problem, since = now()
    FROM unnest($1::uuid[], $2::jsonb[]) AS t(uuid, problem)
    WHERE service.uuid = t.uuid AND (t.problem IS NOT NULL OR service.problem IS NOT NULL)
"""
_PURGE = """
    DELETE FROM service
    WHERE uuid = ANY($1::uuid[])
      AND NOT EXISTS (SELECT FROM service_on_host WHERE service_uuid = service.uuid)
      AND NOT EXISTS (SELECT FROM service_address WHERE service_uuid = service.uuid)
      AND NOT EXISTS (SELECT FROM stale_service WHERE service_uuid = service.uuid AND id <> ALL($2::bigint[]))
"""
_ABSENT_EVERYWHERE = """
    SELECT uuid FROM service
    WHERE uuid = ANY($1::uuid[]) AND NOT EXISTS (SELECT FROM service_on_host WHERE service_uuid = service.uuid)
"""
_UNDESIRE_HOST = """
    UPDATE service_on_host
    SET desired = 'absent', generation = nextval('generation'), state = 'removing', error = NULL, attempts = 0,
        retry_at = NULL, since = now()
    WHERE host_uuid = $1
    RETURNING service_uuid
"""
_SPECS = """
    SELECT service_uuid, kind, host_uuid, generation, spec
    FROM service_on_host JOIN service ON service.uuid = service_uuid
    WHERE desired = 'present' AND ($1::uuid[] IS NULL OR service_uuid = ANY($1))
      AND ($2::uuid IS NULL OR host_uuid = $2)
    ORDER BY host_uuid, service_uuid
"""
_USING_L2 = """
    SELECT service_uuid, bool_and(service_on_host.desired = 'absent') AS leaving
    FROM service_on_host JOIN host ON host.uuid = host_uuid
    WHERE host.cluster_uuid = $1 AND l2_uuids && $2::uuid[]
    GROUP BY service_uuid ORDER BY service_uuid LIMIT 100
"""
_OF_SUBJECT = "SELECT uuid FROM service WHERE subject_uuid = $1"
# One row for each host that has it, or may have; and one without a host for what is the matter with all of it.
_ROWS = """
    SELECT service.uuid AS service_uuid, kind, provider, subject_uuid, host_uuid, desired, generation,
           observed_generation, state, error, service_on_host.since
    FROM service JOIN service_on_host ON service_uuid = service.uuid
    UNION ALL
    SELECT service.uuid, kind, provider, subject_uuid, NULL, 'present', 0, NULL, 'failed', problem, since
    FROM service WHERE problem IS NOT NULL
"""
_OF_SERVICES = f"""
    SELECT * FROM ({_ROWS}) AS page WHERE service_uuid = ANY($1::uuid[]) ORDER BY service_uuid, host_uuid
"""
_OR_NONE = "coalesce(host_uuid, '00000000-0000-0000-0000-000000000000')"
_LISTING = Listing(
    select=_ROWS,
    columns={
        "serviceUuid": Column("service_uuid", "uuid"),
        "kind": Column("kind", "text"),
        "provider": Column("provider", "text"),
        "subjectUuid": Column("subject_uuid", "uuid"),
        # A page cannot be continued after a null.
        "hostUuid": Column(_OR_NONE, "uuid", "host_uuid = ANY({})"),
        "state": Column("state", "text"),
        "since": Column("since", "timestamptz"),
    },
    key=Column("(service_uuid::text || coalesce(host_uuid::text, ''))", "text"),
    default_sort="serviceUuid",
)


@dataclass(frozen=True)
class ServiceOrder:
    """What a host is told of one instance. `reachable`: it is told now, not when it returns."""

    service_uuid: UUID
    kind: str
    host_uuid: UUID
    present: bool
    generation: int
    spec: Spec
    reachable: bool = True


@dataclass(frozen=True)
class HeldHost:
    """A host that nobody sends a full set meanwhile."""

    reachable: bool
    deleting: bool


async def told(connection: Connection, service_uuids: Collection[UUID]) -> dict[UUID, list[Told]]:
    """By instance what hosts were told last."""
    found: dict[UUID, list[Told]] = {uuid: [] for uuid in service_uuids}
    for row in await connection.fetch(_TOLD, list(service_uuids)):
        found[row["service_uuid"]].append(Told(row["host_uuid"], row["present"], row["spec"], row["untold"]))
    return found


async def hold_hosts(connection: Connection, host_uuids: Iterable[UUID]) -> dict[UUID, HeldHost]:
    """Those that there are, locked until the transaction ends."""
    rows = await connection.fetch(_HOLD_HOSTS, list(host_uuids))
    return {row["uuid"]: HeldHost(row["reachable"], row["deleting"]) for row in rows}


async def tell(
    connection: Connection, plans: Mapping[ServiceKey, ServicePlan], hosts: Mapping[UUID, HeldHost]
) -> list[ServiceOrder]:
    """Note what hosts are told from here on, each under a new generation; return it."""
    kinds = {key.uuid: key.kind for key in plans}
    present = [(key.uuid, host_uuid, spec) for key, one in plans.items() for host_uuid, spec in one.present.items()]
    absent = [(key.uuid, host_uuid) for key, one in plans.items() for host_uuid in one.absent]
    forget = [(key.uuid, host_uuid) for key, one in plans.items() for host_uuid in one.forget]
    specs = {(uuid, host_uuid): spec for uuid, host_uuid, spec in present}
    rows: list[tuple[Any, bool]] = []
    if present:
        fresh = await connection.fetch(
            _PRESENT,
            [uuid for uuid, _, _ in present],
            [host_uuid for _, host_uuid, _ in present],
            [spec for _, _, spec in present],
            [hosts[host_uuid].reachable for _, host_uuid, _ in present],
        )
        rows += [(row, True) for row in fresh]
    if absent:
        rows += [(row, False) for row in await connection.fetch(_ABSENT, *_columns(absent))]
    if forget:
        await connection.execute(_FORGET, *_columns(forget))
    return [
        ServiceOrder(
            row["service_uuid"],
            kinds[row["service_uuid"]],
            row["host_uuid"],
            is_present,
            row["generation"],
            specs.get((row["service_uuid"], row["host_uuid"]), {}),
            hosts[row["host_uuid"]].reachable,
        )
        for row, is_present in rows
    ]


async def set_problems(connection: Connection, problems: Mapping[UUID, ErrorBody | None]) -> None:
    """By instance why it is nowhere although it is wanted, or cannot be looked at; None if nothing is wrong."""
    bodies = [None if one is None else one.model_dump(mode="json") for one in problems.values()]
    await connection.execute(_PROBLEMS, list(problems), bodies)


async def gone(connection: Connection, service_uuids: Collection[UUID]) -> list[UUID]:
    """Those that no host has, or was told to have."""
    return [row["uuid"] for row in await connection.fetch(_ABSENT_EVERYWHERE, list(service_uuids))]


async def purge(connection: Connection, service_uuids: Collection[UUID], looked_at: Collection[int]) -> None:
    """Forget instances of which nothing is left.

    Args:
        looked_at: marks that do not keep them.
    """
    await connection.execute(_PURGE, list(service_uuids), list(looked_at))


async def undesire_on_host(connection: Connection, host_uuid: UUID) -> list[UUID]:
    """The host is to have nothing any more; return what it has, or may have."""
    return [row["service_uuid"] for row in await connection.fetch(_UNDESIRE_HOST, host_uuid)]


async def wanted(
    connection: Connection, *, service_uuids: Sequence[UUID] | None = None, host_uuid: UUID | None = None
) -> list[ServiceOrder]:
    """What hosts should have, as they were told it last; all, of some instances, or of one host."""
    rows = await connection.fetch(_SPECS, None if service_uuids is None else list(service_uuids), host_uuid)
    return [
        ServiceOrder(row["service_uuid"], row["kind"], row["host_uuid"], True, row["generation"], row["spec"])
        for row in rows
    ]


async def using_l2(connection: Connection, cluster_uuid: UUID, l2_uuids: Collection[UUID]) -> dict[UUID, bool]:
    """Instances that may be plugged into one of the L2 networks on hosts of a cluster, some of them; true for those
    that are on their way out already."""
    rows = await connection.fetch(_USING_L2, cluster_uuid, list(l2_uuids))
    return {row["service_uuid"]: row["leaving"] for row in rows}


async def query(connection: Connection, request: QueryServices) -> Page[ServiceInventory]:
    page = await list_page(connection, _LISTING, request, request.filters)
    return Page(items=[ServiceInventory.model_validate(dict(row)) for row in page.rows], after=page.after)


async def of_services(connection: Connection, service_uuids: Collection[UUID]) -> list[ServiceInventory]:
    rows = await connection.fetch(_OF_SERVICES, list(service_uuids))
    return [ServiceInventory.model_validate(dict(row)) for row in rows]


async def of_subject(connection: Connection, subject_uuid: UUID) -> list[UUID]:
    """The instances that are for it, those on their way out included."""
    return [row["uuid"] for row in await connection.fetch(_OF_SUBJECT, subject_uuid)]


def _columns(pairs: list[tuple[UUID, UUID]]) -> tuple[list[UUID], list[UUID]]:
    return [uuid for uuid, _ in pairs], [host_uuid for _, host_uuid in pairs]
