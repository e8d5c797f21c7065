"""Where networks are for VMs: attachments, what hosts realise because of NICs, and where a VM could run."""

from dataclasses import dataclass
from uuid import UUID

from viaduct_common.messages.base import ErrorBody
from viaduct_common.messages.vm import Placement
from viaduct_common.postgres.pool import Connection
from viaduct_manager.store.realizations import Ordered

_UNATTACHED = """
    SELECT asked.l2_uuid FROM unnest($1::uuid[]) AS asked(l2_uuid)
    WHERE NOT EXISTS (
        SELECT FROM attachment WHERE attachment.l2_uuid = asked.l2_uuid AND cluster_uuid = $2
          AND state IN ('attached', 'degraded'))
"""
_ATTACHED_TO = """
    SELECT host.uuid, array_agg(attachment.l2_uuid) AS l2_uuids
    FROM host JOIN attachment ON attachment.cluster_uuid = host.cluster_uuid
    WHERE host.uuid = ANY($1::uuid[]) AND attachment.state IN ('attached', 'degraded')
    GROUP BY host.uuid
"""
_DESIRE = """
    INSERT INTO realization (l2_uuid, host_uuid, desired, generation, state)
    SELECT wanted.l2_uuid, host.uuid, 'present', nextval('generation'), 'realizing'
    FROM host, unnest($2::uuid[]) AS wanted(l2_uuid) WHERE host.uuid = $1 AND NOT host.deleting
    ON CONFLICT (host_uuid, l2_uuid) DO UPDATE
        SET desired = 'present', generation = excluded.generation, state = 'realizing', error = NULL, attempts = 0,
            retry_at = NULL, forced = false, since = now(), told = NULL
        WHERE realization.desired = 'absent' OR realization.state IN ('failed', 'pending')
    RETURNING l2_uuid, generation
"""
_STATES = """
    SELECT wanted.l2_uuid, realization.desired, realization.state, realization.error
    FROM unnest($2::uuid[]) AS wanted(l2_uuid)
    LEFT JOIN realization ON realization.l2_uuid = wanted.l2_uuid AND realization.host_uuid = $1
"""
# What is realised only where NICs are goes with the last of them; a NIC that waits for IPAM alone needs it no more.
# What services are still plugged into goes after them: their removal leads here again.
_LEAVE = """
    UPDATE realization
    SET desired = 'absent', generation = nextval('generation'), state = 'releasing', error = NULL, attempts = 0,
        retry_at = NULL, forced = false, since = now()
    FROM host, l2_network
    WHERE realization.host_uuid = $1 AND realization.l2_uuid = ANY($2::uuid[]) AND realization.desired = 'present'
      AND host.uuid = realization.host_uuid AND l2_network.uuid = realization.l2_uuid
      AND (l2_network.at_vm_time OR l2_network.parent_uuid IS NOT NULL)
      AND NOT EXISTS (
          SELECT FROM nic WHERE nic.l2_uuid = realization.l2_uuid AND nic.state <> 'releasing'
            AND realization.host_uuid IN (nic.host_uuid, nic.migrating_to_host_uuid))
      AND NOT EXISTS (
          SELECT FROM service_on_host
          WHERE service_on_host.host_uuid = $1 AND realization.l2_uuid = ANY(service_on_host.l2_uuids))
    RETURNING realization.l2_uuid, realization.generation,
              host.state = 'connected' AND NOT host.maintenance AS reachable
"""
_PLACEMENT = """
    WITH wanted AS (SELECT DISTINCT l2_uuid FROM l3_network WHERE uuid = ANY($1::uuid[])),
    fit AS (
        SELECT cluster_uuid FROM attachment JOIN wanted USING (l2_uuid)
        WHERE attachment.state IN ('attached', 'degraded')
        GROUP BY cluster_uuid HAVING count(*) = (SELECT count(*) FROM wanted))
    SELECT fit.cluster_uuid, host.uuid AS host_uuid
    FROM fit LEFT JOIN host ON host.cluster_uuid = fit.cluster_uuid AND host.state = 'connected'
        AND NOT host.maintenance AND NOT host.deleting
        AND NOT EXISTS (
            SELECT FROM realization JOIN wanted USING (l2_uuid)
            WHERE realization.host_uuid = host.uuid AND realization.state = 'failed')
    ORDER BY fit.cluster_uuid, host.uuid
"""


@dataclass(frozen=True)
class OnHost:
    """What a host has of a network; `state` is None where nothing is desired of it."""

    l2_uuid: UUID
    state: str | None
    error: ErrorBody | None


async def unattached(connection: Connection, l2_uuids: list[UUID], cluster_uuid: UUID) -> list[UUID]:
    """Those of the networks that are not attached to the cluster, in the order in which they are named."""
    rows = {row["l2_uuid"] for row in await connection.fetch(_UNATTACHED, l2_uuids, cluster_uuid)}
    return [uuid for uuid in l2_uuids if uuid in rows]


async def attached_to(connection: Connection, host_uuids: list[UUID]) -> dict[UUID, frozenset[UUID]]:
    """The networks that are attached to the clusters of these hosts, by host."""
    return {row["uuid"]: frozenset(row["l2_uuids"]) for row in await connection.fetch(_ATTACHED_TO, host_uuids)}


async def desire(connection: Connection, host_uuid: UUID, l2_uuids: list[UUID]) -> list[Ordered]:
    """Want the networks on a host that can be reached; return what it has to be told. What failed is tried again."""
    rows = await connection.fetch(_DESIRE, host_uuid, sorted(l2_uuids))
    return [Ordered(row["l2_uuid"], host_uuid, "present", row["generation"]) for row in rows]


async def on_host(connection: Connection, host_uuid: UUID, l2_uuids: list[UUID]) -> list[OnHost]:
    return [
        OnHost(
            row["l2_uuid"],
            row["state"] if row["desired"] == "present" else None,
            None if row["error"] is None else ErrorBody.model_validate(row["error"]),
        )
        for row in await connection.fetch(_STATES, host_uuid, l2_uuids)
    ]


async def leave(connection: Connection, host_uuid: UUID, l2_uuids: list[UUID]) -> list[Ordered]:
    """NICs on these networks have left the host: what it had for their sake only is to be released.

    The host is locked by the caller, so that no NIC comes meanwhile.
    """
    rows = await connection.fetch(_LEAVE, host_uuid, l2_uuids)
    return [Ordered(row["l2_uuid"], host_uuid, "absent", row["generation"], row["reachable"]) for row in rows]


async def placement(connection: Connection, l3_uuids: list[UUID]) -> Placement:
    """By attachments; only hosts of the clusters that fit are looked at."""
    rows = await connection.fetch(_PLACEMENT, l3_uuids)
    return Placement(
        cluster_uuids=list(dict.fromkeys(row["cluster_uuid"] for row in rows)),
        host_uuids=[row["host_uuid"] for row in rows if row["host_uuid"] is not None],
    )
