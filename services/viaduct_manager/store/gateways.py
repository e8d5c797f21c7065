"""Hosts for routers in Postgres: which there are, what they have, and where routers are now."""

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from viaduct_common.messages.services.specs import VIRTUAL_ROUTER
from viaduct_common.postgres.pool import Connection
from viaduct_manager.network_services.virtual_router.gateways import CAPABILITY, LABEL, Candidate

_CURRENT = """
    SELECT service.uuid, service_on_host.host_uuid
    FROM service JOIN service_on_host ON service_on_host.service_uuid = service.uuid
    WHERE service.uuid = ANY($1::uuid[]) AND service_on_host.desired = 'present'
    ORDER BY service_on_host.generation
"""
_CANDIDATES = """
    SELECT host.uuid, host.name, cluster.zone_uuid, cluster.backends,
           coalesce(host.labels ->> $2, '') = 'true' AS labelled, host.state = 'connected' AS connected,
           host.maintenance OR host.deleting AS leaving, host.capabilities ? $3 AS capable,
           ARRAY(SELECT l2_uuid FROM attachment
                 WHERE cluster_uuid = host.cluster_uuid AND l2_uuid = ANY($4::uuid[])
                   AND state IN ('attached', 'degraded')) AS attached,
           ARRAY(SELECT l2_uuid FROM realization
                 WHERE host_uuid = host.uuid AND l2_uuid = ANY($4::uuid[])
                   AND desired = 'present' AND state = 'realized') AS realized,
           (SELECT count(*) FROM service_on_host JOIN service ON service.uuid = service_uuid
            WHERE host_uuid = host.uuid AND kind = $5 AND desired = 'present') AS routers
    FROM host JOIN cluster ON cluster.uuid = host.cluster_uuid
    WHERE host.labels ->> $2 = 'true' OR host.uuid = ANY($1::uuid[])
    ORDER BY host.uuid
"""


@dataclass(frozen=True)
class Gateways:
    """`backends` of each host's cluster, by L2 type."""

    candidates: tuple[Candidate, ...]
    backends: dict[UUID, dict[str, str]]


async def current(connection: Connection, service_uuids: Collection[UUID]) -> dict[UUID, UUID]:
    """The host of each router that has one."""
    return {row["uuid"]: row["host_uuid"] for row in await connection.fetch(_CURRENT, list(service_uuids))}


async def load(connection: Connection, hosts: Collection[UUID], l2_uuids: Collection[UUID]) -> Gateways:
    """Every host that is labelled, and these; as far as these L2 networks go."""
    rows = await connection.fetch(_CANDIDATES, list(hosts), LABEL, CAPABILITY, list(l2_uuids), VIRTUAL_ROUTER)
    candidates = tuple(
        Candidate(
            uuid=row["uuid"],
            name=row["name"],
            zone_uuid=row["zone_uuid"],
            labelled=row["labelled"],
            connected=row["connected"],
            leaving=row["leaving"],
            capable=row["capable"],
            attached=frozenset(row["attached"]),
            realized=frozenset(row["realized"]),
            routers=row["routers"],
        )
        for row in rows
    )
    return Gateways(candidates, {row["uuid"]: row["backends"] for row in rows})
