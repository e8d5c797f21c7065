"""Which L3 networks' instances a change could concern."""

from uuid import UUID

from viaduct_common.postgres.pool import Connection
from viaduct_manager.network_services.api import Change

_DIRECT = """
    SELECT uuid FROM unnest($1::uuid[]) AS named(uuid)
    UNION SELECT l3_uuid FROM nic WHERE uuid = ANY($2::uuid[])
"""
_BY_PUBLIC_ADDRESS = """
    WITH named AS (
        SELECT uuid FROM vip WHERE uuid = ANY($2::uuid[])
        UNION SELECT uuid FROM vip WHERE l3_uuid = ANY($1::uuid[])
        UNION SELECT vip_uuid FROM eip WHERE uuid = ANY($2::uuid[])
        UNION SELECT vip_uuid FROM port_forwarding WHERE uuid = ANY($2::uuid[]))
    SELECT nic.l3_uuid AS uuid FROM named JOIN eip ON eip.vip_uuid = named.uuid JOIN nic ON nic.uuid = eip.nic_uuid
    UNION SELECT nic.l3_uuid FROM named JOIN port_forwarding AS rule ON rule.vip_uuid = named.uuid
          JOIN nic ON nic.uuid = rule.nic_uuid
    UNION SELECT serves_l3_uuid FROM vip WHERE serves_l3_uuid IS NOT NULL AND uuid IN (SELECT uuid FROM named)
"""
# Those that are there, and those that are nowhere because no host was fit.
_BY_HOST = """
    SELECT subject_uuid AS uuid FROM service_on_host JOIN service ON service.uuid = service_uuid
    WHERE host_uuid = ANY($1::uuid[]) AND kind = $2 AND desired = 'present'
    UNION SELECT subject_uuid FROM service WHERE kind = $2 AND problem IS NOT NULL
"""
_SERVED = """
    SELECT l3_uuid AS uuid FROM l3_service WHERE l3_uuid = ANY($1::uuid[]) AND provider_uuid = $2
    UNION SELECT subject_uuid FROM service WHERE subject_uuid = ANY($1::uuid[]) AND kind = $3
"""


async def l3_networks(
    connection: Connection, change: Change, *, provider_uuid: UUID, kind: str, by_host: bool
) -> list[UUID]:
    """L3 networks that the provider serves, or that still have an instance of this kind.

    Args:
        by_host: what hosts are like concerns the instances that are on them.
    """
    found = set()
    if change.l3_uuids or change.nic_uuids:
        found |= await _uuids(connection, _DIRECT, list(change.l3_uuids), list(change.nic_uuids))
    if change.subjects or change.l3_uuids:
        found |= await _uuids(connection, _BY_PUBLIC_ADDRESS, list(change.l3_uuids), list(change.subjects))
    if by_host and change.host_uuids:
        found |= await _uuids(connection, _BY_HOST, list(change.host_uuids), kind)
    return sorted(await _uuids(connection, _SERVED, list(found), provider_uuid, kind)) if found else []


async def _uuids(connection: Connection, sql: str, *arguments: object) -> set[UUID]:
    return {row["uuid"] for row in await connection.fetch(sql, *arguments)}
