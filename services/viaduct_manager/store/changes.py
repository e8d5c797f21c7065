"""Changes of L2 networks in Postgres: what they alter, their claims on clusters, and the hosts that have them.

From the begin of a change to its end a network claims the names of both its states, so that nobody can take the place
that it may have to go back to. A VLAN's device is named after its interface and id: who holds the name holds the VLAN.
"""

from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

import asyncpg

from viaduct_common.errors import L2Conflict, ViaductError
from viaduct_common.messages.l2 import L2NetworkInventory
from viaduct_common.postgres.pool import Connection
from viaduct_manager.store import rivals
from viaduct_manager.store.realizations import Ordered
from viaduct_manager.store.rivals import Claim

_LOCK_CLUSTERS = """
    SELECT uuid FROM cluster WHERE uuid IN (SELECT cluster_uuid FROM attachment WHERE l2_uuid = $1)
    ORDER BY uuid FOR UPDATE
"""
_KEEP = "UPDATE operation SET change = $2 WHERE uuid = $1"
_KEPT = "SELECT change FROM operation WHERE uuid = $1"
_CLAIM_KEY = "UPDATE attachment SET conflict_key = $2, operation_uuid = $3 WHERE l2_uuid = $1"
_CLAIM_NAMES = """
    INSERT INTO attachment_name (cluster_uuid, device_name, l2_uuid)
    SELECT attachment.cluster_uuid, name, attachment.l2_uuid
    FROM attachment CROSS JOIN unnest($2::text[]) AS name
    WHERE attachment.l2_uuid = $1 AND NOT EXISTS (
        SELECT FROM attachment_name AS mine
        WHERE mine.cluster_uuid = attachment.cluster_uuid AND mine.device_name = name AND mine.l2_uuid = $1)
"""
_DISCLAIM_NAMES = "DELETE FROM attachment_name WHERE l2_uuid = $1 AND device_name <> ALL($2::text[])"
_PUT = """
    UPDATE l2_network SET mtu = $2, own_fields = $3, device_names = $4, revision = revision + 1, updated_at = now()
    WHERE uuid = $1
"""
_ACCOUNTS = "SELECT count(*) FROM l2_network WHERE parent_uuid = $1 AND NOT deleted"
# Ports of a VLAN-aware bridge carry the tag themselves: who made them would have to change it.
_TAGGED_NICS = """
    SELECT nic.uuid FROM nic JOIN host ON host.uuid = nic.host_uuid JOIN cluster ON cluster.uuid = host.cluster_uuid
    WHERE nic.l2_uuid = $1 AND cluster.backends ->> 'L2VlanNetwork' = 'vlanAwareBridge'
    ORDER BY nic.uuid LIMIT 100
"""
_REACHABLE = """
    SELECT host.uuid FROM realization JOIN host ON host.uuid = realization.host_uuid
    WHERE realization.l2_uuid = $1 AND realization.desired = 'present'
      AND host.state = 'connected' AND NOT host.maintenance AND NOT host.deleting
"""
# A host that cannot be told keeps its state, but for `realized`: that it is no more.
_RENEW = """
    UPDATE realization
    SET generation = nextval('generation'), error = NULL, attempts = 0, retry_at = NULL, since = now(), told = NULL,
        state = CASE WHEN host.state = 'connected' AND NOT host.maintenance THEN 'realizing'
                     WHEN realization.state = 'realized' THEN 'pending' ELSE realization.state END
    FROM host
    WHERE realization.l2_uuid = $1 AND realization.desired = 'present' AND host.uuid = realization.host_uuid
    RETURNING realization.host_uuid, realization.generation,
              host.state = 'connected' AND NOT host.maintenance AS reachable
"""


@dataclass(frozen=True)
class Values:
    """What a change may alter of a network; `own_fields` are the type's own, as they stand on the wire."""

    mtu: int
    own_fields: dict[str, Any]
    device_names: list[str]
    conflict_key: str

    def of(self, network: L2NetworkInventory) -> L2NetworkInventory:
        """The network with these values."""
        return network.model_copy(update={**self.own_fields, "mtu": self.mtu, "device_names": self.device_names})


@dataclass(frozen=True)
class Change:
    former: Values
    wanted: Values


async def lock_clusters(connection: Connection, l2_uuid: UUID) -> list[UUID]:
    """Those that the network is attached to, locked for whoever changes what their hosts must have."""
    return [row["uuid"] for row in await connection.fetch(_LOCK_CLUSTERS, l2_uuid)]


async def claim(
    connection: Connection, network: L2NetworkInventory, cluster_uuids: list[UUID], change: Change, operation_uuid: UUID
) -> None:
    """Commit to the intent: claim the new place beside the old one, on every cluster, for this operation.

    Raises:
        L2Conflict: another network has it; `details.l2NetworkUuid` names it.
    """
    wanted = change.wanted
    try:
        async with connection.transaction():
            await connection.execute(_CLAIM_KEY, network.uuid, wanted.conflict_key, operation_uuid)
            await connection.execute(_CLAIM_NAMES, network.uuid, wanted.device_names)
    except asyncpg.UniqueViolationError as error:
        # Spans are numbers that no change alters.
        claimed = Claim(network.uuid, wanted.conflict_key, wanted.device_names, ())
        found = await rivals.find(connection, cluster_uuids, claimed)
        raise next(iter(found.values()), None) or L2Conflict(
            "another network was faster in taking this place", l2NetworkUuid=str(network.uuid)
        ) from error
    await connection.execute(_KEEP, operation_uuid, asdict(change))


async def disclaim(connection: Connection, l2_uuid: UUID, values: Values) -> None:
    """Give up every place but that of `values`; the attachments are free for other operations."""
    await connection.execute(_CLAIM_KEY, l2_uuid, values.conflict_key, None)
    await connection.execute(_DISCLAIM_NAMES, l2_uuid, values.device_names)


async def of_operation(connection: Connection, operation_uuid: UUID) -> Change:
    kept = await connection.fetchval(_KEPT, operation_uuid)
    if kept is None:
        raise ViaductError(f"operation {operation_uuid} does not say what it changes")
    return Change(Values(**kept["former"]), Values(**kept["wanted"]))


async def put(connection: Connection, l2_uuid: UUID, values: Values) -> None:
    await connection.execute(_PUT, l2_uuid, values.mtu, values.own_fields, values.device_names)


async def accounts(connection: Connection, l2_uuid: UUID) -> int:
    """How many accounts have a part of it that is a network of its own on the hosts."""
    return int(await connection.fetchval(_ACCOUNTS, l2_uuid))


async def tagged_nics(connection: Connection, l2_uuid: UUID) -> list[UUID]:
    """VMs' NICs whose port has the VLAN of this network as its tag; at most 100."""
    return [row["uuid"] for row in await connection.fetch(_TAGGED_NICS, l2_uuid)]


async def reachable(connection: Connection, l2_uuid: UUID) -> list[UUID]:
    """Hosts that should have the network and can be told, whatever their cluster."""
    return [row["uuid"] for row in await connection.fetch(_REACHABLE, l2_uuid)]


async def renew(connection: Connection, l2_uuid: UUID) -> list[Ordered]:
    """A new generation for every host that should have the network."""
    return [
        Ordered(l2_uuid, row["host_uuid"], "present", row["generation"], row["reachable"])
        for row in await connection.fetch(_RENEW, l2_uuid)
    ]
