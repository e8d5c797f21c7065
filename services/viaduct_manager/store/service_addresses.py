"""Addresses of service instances in Postgres, and those that IPAM is still to take back."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any
from uuid import UUID

from viaduct_common.messages.ipam import UsedIpInventory
from viaduct_common.postgres.pool import Connection

Address = IPv4Address | IPv6Address

_HELD = "SELECT * FROM service_address WHERE service_uuid = $1 ORDER BY purpose, ip_version"
_KNOWN = """
    SELECT used_ip_uuid FROM service_address WHERE service_uuid = $1
    UNION ALL SELECT used_ip_uuid FROM service_address_gone WHERE service_uuid = $1
"""
_EPOCH = "SELECT address_epoch FROM service WHERE uuid = $1"
_ADD = """
    INSERT INTO service_address (service_uuid, purpose, ip_version, l3_uuid, used_ip_uuid, ip, prefix_length, gateway)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""
_GIVE_UP = """
    WITH given_up AS (
        DELETE FROM service_address
        WHERE service_uuid = $1 AND ($2::text IS NULL OR purpose = $2) AND ($3::int[] IS NULL OR ip_version = ANY($3))
        RETURNING used_ip_uuid, service_uuid, l3_uuid
    ), renewed AS (
        UPDATE service SET address_epoch = nextval('generation')
        WHERE uuid = $1 AND EXISTS (SELECT FROM given_up)
    )
    INSERT INTO service_address_gone (used_ip_uuid, service_uuid, l3_uuid)
    SELECT used_ip_uuid, service_uuid, l3_uuid FROM given_up
    ON CONFLICT DO NOTHING
"""
# Whoever claims one keeps it until his transaction ends; if he dies, Postgres frees it.
_CLAIM_GONE = """
    SELECT used_ip_uuid FROM service_address_gone WHERE due_at <= now() ORDER BY due_at LIMIT 256
    FOR UPDATE SKIP LOCKED
"""
_FORGET_GONE = "DELETE FROM service_address_gone WHERE used_ip_uuid = ANY($1::uuid[])"
_ON_L3 = """
    SELECT DISTINCT service_uuid FROM (
        SELECT service_uuid FROM service_address WHERE l3_uuid = $1
        UNION ALL SELECT service_uuid FROM service_address_gone WHERE l3_uuid = $1) AS found
    LIMIT 100
"""


@dataclass(frozen=True)
class ServiceAddress:
    """An address of an instance; `used_ip_uuid` is that of the allocation at IPAM."""

    purpose: str
    ip_version: int
    l3_uuid: UUID
    used_ip_uuid: UUID
    ip: Address
    prefix_length: int
    gateway: Address | None


async def held(connection: Connection, service_uuid: UUID) -> list[ServiceAddress]:
    return [_address(row) for row in await connection.fetch(_HELD, service_uuid)]


async def known(connection: Connection, service_uuid: UUID) -> set[UUID]:
    """Allocations that it has, or that IPAM is still to take back."""
    return {row["used_ip_uuid"] for row in await connection.fetch(_KNOWN, service_uuid)}


async def epoch(connection: Connection, service_uuid: UUID) -> int:
    """Part of the ids of requests to IPAM; see `service.address_epoch`."""
    found: int = await connection.fetchval(_EPOCH, service_uuid)
    return found


async def add(connection: Connection, service_uuid: UUID, purpose: str, given: UsedIpInventory) -> None:
    await connection.execute(
        _ADD,
        service_uuid,
        purpose,
        given.ip_version,
        given.l3_network_uuid,
        given.uuid,
        given.ip,
        given.prefix_length,
        given.gateway,
    )


async def give_up(
    connection: Connection, service_uuid: UUID, *, purpose: str | None = None, versions: list[int] | None = None
) -> None:
    """It has them no more; IPAM is told after the commit. None stands for all."""
    await connection.execute(_GIVE_UP, service_uuid, purpose, versions)


async def claim_gone(connection: Connection) -> list[UUID]:
    """Allocations that IPAM is to take back now, and nobody else tells it."""
    return [row["used_ip_uuid"] for row in await connection.fetch(_CLAIM_GONE)]


async def forget_gone(connection: Connection, used_ip_uuids: list[UUID]) -> None:
    """IPAM has them back."""
    await connection.execute(_FORGET_GONE, used_ip_uuids)


async def on_l3(connection: Connection, l3_uuid: UUID) -> list[UUID]:
    """Instances that have addresses of an L3 network, or have had and IPAM is not told yet; some of them."""
    return [row["service_uuid"] for row in await connection.fetch(_ON_L3, l3_uuid)]


def _address(row: Any) -> ServiceAddress:
    return ServiceAddress(
        purpose=row["purpose"],
        ip_version=row["ip_version"],
        l3_uuid=row["l3_uuid"],
        used_ip_uuid=row["used_ip_uuid"],
        ip=row["ip"],
        prefix_length=row["prefix_length"],
        gateway=row["gateway"],
    )
