"""What it means for a host to be of another cluster, in Postgres."""

from uuid import UUID

from viaduct_common.postgres.pool import Connection
from viaduct_manager.store import realizations

# What an account has of a network is attached where its parent is.
_LOST = """
    NOT EXISTS (
        SELECT FROM attachment
        WHERE attachment.l2_uuid = coalesce(network.parent_uuid, network.uuid) AND attachment.cluster_uuid = $2
          AND attachment.state IN ('attaching', 'attached', 'degraded'))
"""
# A host that was never told has nothing to release.
_FORGET_UNTOLD = f"""
    DELETE FROM realization USING l2_network AS network
    WHERE realization.host_uuid = $1 AND network.uuid = realization.l2_uuid
      AND realization.state = 'pending' AND realization.observed_generation IS NULL AND {_LOST}
    RETURNING realization.l2_uuid
"""
_UNDESIRE = f"""
    UPDATE realization
    SET desired = 'absent', generation = nextval('generation'), state = 'releasing', error = NULL, attempts = 0,
        retry_at = NULL, forced = false, since = now()
    FROM l2_network AS network
    WHERE realization.host_uuid = $1 AND network.uuid = realization.l2_uuid AND realization.desired = 'present'
      AND {_LOST}
    RETURNING realization.l2_uuid
"""
# On its way out of the old cluster, and of the new one all the same.
_DESIRE_AGAIN = """
    UPDATE realization
    SET desired = 'present', generation = nextval('generation'), state = 'pending', error = NULL, attempts = 0,
        retry_at = NULL, forced = false, since = now(), told = NULL
    FROM attachment
    WHERE realization.host_uuid = $1 AND realization.desired = 'absent'
      AND attachment.l2_uuid = realization.l2_uuid AND attachment.cluster_uuid = $2
      AND attachment.state IN ('attaching', 'attached', 'degraded')
    RETURNING realization.l2_uuid
"""
# What both have is left alone, unless it is built in another way there, or by other tunnels' ends.
_RENEW_OTHERWISE_BUILT = """
    UPDATE realization
    SET generation = nextval('generation'), state = 'pending', error = NULL, attempts = 0, retry_at = NULL,
        since = now(), told = NULL
    FROM l2_network AS network, attachment AS former, attachment AS latter, cluster AS old, cluster AS new
    WHERE realization.host_uuid = $1 AND realization.desired = 'present' AND network.uuid = realization.l2_uuid
      AND former.l2_uuid = coalesce(network.parent_uuid, network.uuid) AND former.cluster_uuid = $2
      AND latter.l2_uuid = former.l2_uuid AND latter.cluster_uuid = $3 AND old.uuid = $2 AND new.uuid = $3
      AND (former.tunnel_cidr IS DISTINCT FROM latter.tunnel_cidr
           OR old.backends ->> network.type IS DISTINCT FROM new.backends ->> network.type)
    RETURNING realization.l2_uuid
"""
_HAS = "SELECT l2_uuid FROM realization WHERE host_uuid = $1"
# Another backend has other bridges than the one that the NIC is plugged into.
_STRANDED = f"""
    SELECT nic.uuid, nic.l2_uuid
    FROM nic JOIN l2_network AS network ON network.uuid = nic.l2_uuid, cluster AS new, cluster AS old
    WHERE (nic.host_uuid = $1 OR nic.migrating_to_host_uuid = $1) AND new.uuid = $2 AND old.uuid = $3
      AND (old.backends ->> network.type IS DISTINCT FROM new.backends ->> network.type OR {_LOST})
    ORDER BY nic.uuid LIMIT 100
"""


async def resettle(connection: Connection, host_uuid: UUID, former_uuid: UUID, latter_uuid: UUID) -> list[UUID]:
    """Undesire on the host what its new cluster has not, desire what it has; return the networks concerned.

    The host's row names its new cluster already. It is told by the sync that follows.
    """
    changed: set[UUID] = set()
    # First, while what both have is all that is left alone.
    rows = await connection.fetch(_RENEW_OTHERWISE_BUILT, host_uuid, former_uuid, latter_uuid)
    changed |= {row["l2_uuid"] for row in rows}
    before = {row["l2_uuid"] for row in await connection.fetch(_HAS, host_uuid)}
    for statement in (_FORGET_UNTOLD, _UNDESIRE, _DESIRE_AGAIN):
        changed |= {row["l2_uuid"] for row in await connection.fetch(statement, host_uuid, latter_uuid)}
    await realizations.desire_on_host(connection, host_uuid)
    changed |= {row["l2_uuid"] for row in await connection.fetch(_HAS, host_uuid)} - before
    return sorted(changed)


async def stranded_nics(
    connection: Connection, host_uuid: UUID, former_uuid: UUID, latter_uuid: UUID
) -> list[tuple[UUID, UUID]]:
    """(NIC, L2 network) of VMs on the host, or coming to it, whose network the latter cluster has not, or builds in
    another way than the former; at most 100."""
    rows = await connection.fetch(_STRANDED, host_uuid, latter_uuid, former_uuid)
    return [(row["uuid"], row["l2_uuid"]) for row in rows]
