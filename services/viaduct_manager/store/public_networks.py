"""L3 networks that have public addresses to give."""

from dataclasses import dataclass
from uuid import UUID

from viaduct_common.errors import NotFound, PreconditionFailed
from viaduct_common.postgres.pool import Connection

# Not against `l3.update`: what is disabled a moment later would have been enabled a moment before.
_GET = """
    SELECT l3_network.uuid, l3_network.name, l3_network.zone_uuid, l3_network.category, l3_network.enabled,
           l2_network.at_vm_time
    FROM l3_network JOIN l2_network ON l2_network.uuid = l3_network.l2_uuid
    WHERE l3_network.uuid = $1 FOR KEY SHARE OF l3_network
"""
_IN_ZONE = """
    SELECT l3_network.uuid FROM l3_network JOIN l2_network ON l2_network.uuid = l3_network.l2_uuid
    WHERE l3_network.zone_uuid = $1 AND category = 'public' AND enabled AND NOT at_vm_time ORDER BY l3_network.uuid
"""


@dataclass(frozen=True)
class PublicNetwork:
    uuid: UUID
    name: str
    zone_uuid: UUID


async def require_public(connection: Connection, uuid: UUID, *, field: str) -> PublicNetwork:
    """An L3 network that addresses can be taken of; it does not go until the transaction ends.

    Raises:
        NotFound: there is none. PreconditionFailed: it is not public, or not enabled, or hosts have it for VMs alone.
    """
    row = await connection.fetchrow(_GET, uuid)
    if row is None:
        missing = NotFound.of("L3 network", uuid)
        missing.details["field"] = field
        raise missing
    problem = None
    if row["category"] != "public":
        problem = f"is of category {row['category']}, not public"
    elif not row["enabled"]:
        problem = "is not enabled"
    elif row["at_vm_time"]:
        problem = "has no place outside VMs: each account has a VNI of its own"
    if problem is not None:
        raise PreconditionFailed(f"L3 network {row['name']} {problem}", field=field, l3NetworkUuid=str(uuid))
    return PublicNetwork(uuid, row["name"], row["zone_uuid"])


async def in_zone(connection: Connection, zone_uuid: UUID) -> list[UUID]:
    """Those of a zone that addresses can be taken of."""
    return [row["uuid"] for row in await connection.fetch(_IN_ZONE, zone_uuid)]
