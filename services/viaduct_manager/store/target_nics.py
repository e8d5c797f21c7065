"""NICs that are to have a public address: what the rules go by."""

from collections.abc import Collection
from ipaddress import ip_interface
from uuid import UUID

from viaduct_common.errors import NotFound
from viaduct_common.postgres.pool import Connection
from viaduct_manager.model.public_addresses import TargetNic

# Held against `l3.detachServices`, which locks the whole row.
_HOLD_L3 = "SELECT FROM l3_network WHERE uuid = (SELECT l3_uuid FROM nic WHERE nic.uuid = $1) FOR KEY SHARE"
_LOCK = "SELECT FROM nic WHERE uuid = ANY($1::uuid[]) ORDER BY uuid FOR NO KEY UPDATE"
_GET = """
    SELECT nic.uuid, nic.l3_uuid,
           ARRAY(SELECT host(ip) || '/' || prefix_length FROM nic_ip WHERE nic_uuid = nic.uuid
                 ORDER BY family(ip), ip) AS ips,
           (SELECT coalesce(jsonb_object_agg(service_type, service_provider.name), '{}')
            FROM l3_service JOIN service_provider ON service_provider.uuid = provider_uuid
            WHERE l3_service.l3_uuid = nic.l3_uuid) AS providers,
           (SELECT coalesce(jsonb_object_agg(other.uuid, other.l3_uuid), '{}') FROM nic AS other
            WHERE other.vm_uuid = nic.vm_uuid AND other.uuid <> nic.uuid AND other.state <> 'releasing') AS siblings,
           ARRAY(SELECT l2_uuid FROM attachment JOIN host ON host.cluster_uuid = attachment.cluster_uuid
                 WHERE host.uuid = nic.host_uuid AND attachment.state IN ('attached', 'degraded')) AS cluster_l2s,
           (SELECT coalesce(jsonb_object_agg(ip_version, uuid), '{}') FROM eip WHERE nic_uuid = nic.uuid) AS eips,
           ARRAY(SELECT uuid FROM port_forwarding
                 WHERE nic_uuid = nic.uuid AND allowed_cidr IS NOT NULL ORDER BY uuid) AS guarded
    FROM nic WHERE nic.uuid = $1 AND nic.state = 'ready'
"""


async def lock(connection: Connection, uuids: Collection[UUID]) -> None:
    """NICs before what leads to them, and all in one order: so nobody waits for who waits for him."""
    await connection.execute(_LOCK, list(uuids))


async def get_locked(connection: Connection, uuid: UUID) -> TargetNic:
    """A NIC; what leads to it, and what is served on its L3 network, do not change until the transaction ends.

    Raises:
        NotFound: there is none, or it is not ready yet, or is being released; `details.field` is `nicUuid`.
    """
    await connection.execute(_HOLD_L3, uuid)
    await lock(connection, [uuid])
    row = await connection.fetchrow(_GET, uuid)  # by a statement of its own: it sees what we waited for
    if row is None:
        missing = NotFound.of("NIC", uuid)
        missing.details["field"] = "nicUuid"
        raise missing
    return TargetNic(
        uuid=row["uuid"],
        l3_uuid=row["l3_uuid"],
        ips=tuple(map(ip_interface, row["ips"])),
        providers=row["providers"],
        siblings={UUID(nic): UUID(l3) for nic, l3 in row["siblings"].items()},
        cluster_l2s=frozenset(row["cluster_l2s"]),
        eips={int(version): UUID(eip) for version, eip in row["eips"].items()},
        guarded=frozenset(row["guarded"]),
    )
