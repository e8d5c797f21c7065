"""What hosts must have of security groups, as it is in Postgres.

A NIC counts as soon as it has addresses and until it is released, on its host and on the one that it is being moved to.
"""

from collections import defaultdict
from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address
from typing import Any
from uuid import UUID

from viaduct_common.messages.services.security_specs import SECURITY_MEMBERS, SECURITY_NIC
from viaduct_common.postgres.pool import Connection
from viaduct_manager.network_services.api import ServiceKey
from viaduct_manager.network_services.security_group.facts import GuardedNic

_COUNTS = "nic.state IN ('preparing', 'ready') AND EXISTS (SELECT FROM nic_ip WHERE nic_ip.nic_uuid = nic.uuid)"
_NICS = """
    SELECT nic.uuid, nic.l2_uuid, host_uuid, migrating_to_host_uuid, device_name, mac::text AS mac,
           coalesce(policy.ingress, 'drop') AS ingress, coalesce(policy.egress, 'allow') AS egress,
           ARRAY(SELECT ip FROM nic_ip WHERE nic_uuid = nic.uuid ORDER BY family(ip), ip) AS ips,
           ARRAY(SELECT group_uuid FROM security_group_member WHERE nic_uuid = nic.uuid ORDER BY place) AS groups
    FROM nic JOIN l3_service ON l3_service.l3_uuid = nic.l3_uuid AND service_type = 'SecurityGroup'
         LEFT JOIN nic_security_policy AS policy ON policy.nic_uuid = nic.uuid
    WHERE nic.uuid = ANY($1::uuid[]) AND l3_service.provider_uuid = $2 AND nic.state IN ('preparing', 'ready')
"""
# On which hosts there are members, by group.
_HOSTS_OF = f"""
    SELECT DISTINCT member.group_uuid, host.host_uuid
    FROM security_group_member AS member JOIN nic ON nic.uuid = member.nic_uuid
         CROSS JOIN LATERAL (VALUES (nic.host_uuid), (nic.migrating_to_host_uuid)) AS host(host_uuid)
    WHERE member.group_uuid = ANY($1::uuid[]) AND host.host_uuid IS NOT NULL AND {_COUNTS}
"""
_NAMING = """
    SELECT DISTINCT remote_group_uuid, group_uuid FROM security_group_rule
    WHERE remote_group_uuid = ANY($1::uuid[]) AND enabled
"""
_MEMBERS = """
    SELECT member.group_uuid, member.nic_uuid, ARRAY(SELECT ip FROM nic_ip WHERE nic_uuid = nic.uuid) AS ips
    FROM security_group_member AS member JOIN nic ON nic.uuid = member.nic_uuid
    WHERE member.group_uuid = ANY($1::uuid[]) AND nic.state IN ('preparing', 'ready')
"""
_NAMED = """
    SELECT remote_group_uuid AS uuid FROM security_group_rule
    WHERE group_uuid = ANY($1::uuid[]) AND remote_group_uuid IS NOT NULL AND (enabled OR NOT $2)
"""
_TOLD = """
    SELECT service.subject_uuid, service.part, host_uuid
    FROM service JOIN service_on_host ON service_uuid = service.uuid
    WHERE service.subject_uuid = ANY($1::uuid[]) AND service.kind = $2 AND desired = 'present'
"""
_NICS_OF_L3 = f"""
    SELECT nic.uuid FROM nic WHERE nic.l3_uuid = ANY($1::uuid[]) AND {_COUNTS} AND EXISTS (
        SELECT FROM l3_service WHERE l3_service.l3_uuid = nic.l3_uuid AND provider_uuid = $2)
    UNION SELECT nic.uuid FROM nic JOIN service ON subject_uuid = nic.uuid AND kind = $3
          WHERE nic.l3_uuid = ANY($1::uuid[])
"""
_NICS_OF = """
    SELECT nic.uuid, nic.host_uuid, nic.migrating_to_host_uuid,
           ARRAY(SELECT group_uuid FROM security_group_member WHERE nic_uuid = nic.uuid) AS groups
    FROM nic WHERE nic.uuid = ANY($1::uuid[]) AND (
        EXISTS (SELECT FROM l3_service WHERE l3_service.l3_uuid = nic.l3_uuid AND provider_uuid = $2)
        OR EXISTS (SELECT FROM service WHERE subject_uuid = nic.uuid AND kind = $3))
"""
_GROUPS = """
    SELECT uuid FROM security_group WHERE uuid = ANY($1::uuid[])
    UNION SELECT subject_uuid FROM service WHERE subject_uuid = ANY($1::uuid[]) AND kind = $2
"""


async def nics(connection: Connection, uuids: Collection[UUID], provider_uuid: UUID) -> dict[UUID, GuardedNic]:
    """Those that count; the others are missing."""
    rows = await connection.fetch(_NICS, list(uuids), provider_uuid)
    return {row["uuid"]: _nic(row) for row in rows if row["ips"]}


async def hosts_of(connection: Connection, group_uuids: Collection[UUID]) -> dict[UUID, set[UUID]]:
    """The hosts with NICs in each of the groups."""
    found: dict[UUID, set[UUID]] = defaultdict(set)
    for row in await connection.fetch(_HOSTS_OF, list(group_uuids)):
        found[row["group_uuid"]].add(row["host_uuid"])
    return found


async def hosts_naming(connection: Connection, group_uuids: Collection[UUID]) -> dict[UUID, set[UUID]]:
    """The hosts with NICs whose groups' rules name each of the groups."""
    rows = await connection.fetch(_NAMING, list(group_uuids))
    hosts = await hosts_of(connection, {row["group_uuid"] for row in rows})
    found: dict[UUID, set[UUID]] = defaultdict(set)
    for row in rows:
        found[row["remote_group_uuid"]] |= hosts.get(row["group_uuid"], set())
    return found


async def members(
    connection: Connection, group_uuids: Collection[UUID]
) -> list[tuple[UUID, UUID, list[IPv4Address | IPv6Address]]]:
    """(Group, NIC, its addresses) of those that count."""
    rows = await connection.fetch(_MEMBERS, list(group_uuids))
    return [(row["group_uuid"], row["nic_uuid"], row["ips"]) for row in rows if row["ips"]]


async def named_by(connection: Connection, group_uuids: Collection[UUID], *, enabled: bool = False) -> set[UUID]:
    """Groups that rules of these groups name.

    Args:
        enabled: leave out what only rules name that are switched off.
    """
    return {row["uuid"] for row in await connection.fetch(_NAMED, list(group_uuids), enabled)}


async def slices_told(connection: Connection, group_uuids: Collection[UUID]) -> dict[ServiceKey, set[UUID]]:
    """Which hosts were told of which slices of these groups' members."""
    found: dict[ServiceKey, set[UUID]] = defaultdict(set)
    for row in await connection.fetch(_TOLD, list(group_uuids), SECURITY_MEMBERS):
        found[ServiceKey(SECURITY_MEMBERS, row["subject_uuid"], row["part"])].add(row["host_uuid"])
    return found


async def nics_of_l3(connection: Connection, l3_uuids: Collection[UUID], provider_uuid: UUID) -> list[UUID]:
    """NICs of L3 networks that are guarded, or still were."""
    rows = await connection.fetch(_NICS_OF_L3, list(l3_uuids), provider_uuid, SECURITY_NIC)
    return [row["uuid"] for row in rows]


async def guarded(
    connection: Connection, nic_uuids: Collection[UUID], provider_uuid: UUID
) -> dict[UUID, tuple[list[UUID], list[UUID]]]:
    """Those of the NICs that are guarded, or still were: their hosts and groups."""
    rows = await connection.fetch(_NICS_OF, list(nic_uuids), provider_uuid, SECURITY_NIC)
    return {
        row["uuid"]: (
            [one for one in (row["host_uuid"], row["migrating_to_host_uuid"]) if one is not None],
            list(row["groups"]),
        )
        for row in rows
    }


async def groups(connection: Connection, uuids: Collection[UUID], kind: str) -> list[UUID]:
    """Those of the uuids that are groups', or were as far as hosts are concerned."""
    return [row["uuid"] for row in await connection.fetch(_GROUPS, list(uuids), kind)]


def _nic(row: Any) -> GuardedNic:
    return GuardedNic(
        uuid=row["uuid"],
        l2_uuid=row["l2_uuid"],
        hosts=tuple(one for one in (row["host_uuid"], row["migrating_to_host_uuid"]) if one is not None),
        device_name=row["device_name"],
        mac=row["mac"],
        ips=tuple(row["ips"]),
        groups=tuple(row["groups"]),
        ingress=row["ingress"],
        egress=row["egress"],
    )
