"""Port forwardings in Postgres."""

from collections.abc import Collection
from typing import Any
from uuid import UUID

import asyncpg

from viaduct_common.errors import Conflict, NotFound, ViaductError
from viaduct_common.messages.base import Page
from viaduct_common.messages.services.port_forwarding import (
    CreatePortForwarding,
    PortForwardingInventory,
    QueryPortForwardings,
    UpdatePortForwarding,
)
from viaduct_common.postgres.paging import Column, Listing, list_page
from viaduct_common.postgres.pool import Connection
from viaduct_manager.model.public_addresses import Address, ForwardedPorts, PublicVip, TargetNic
from viaduct_manager.store.rows import creating, require_updated

KIND = "port forwarding"

_SELECT = """
    SELECT rule.uuid, rule.name, rule.description, rule.vip_uuid, vip.ip AS vip_ip, rule.protocol,
           lower(rule.vip_ports) AS vip_port_start, upper(rule.vip_ports) - 1 AS vip_port_end, rule.private_port_start,
           rule.private_port_start + upper(rule.vip_ports) - lower(rule.vip_ports) - 1 AS private_port_end,
           rule.allowed_cidr, rule.nic_uuid,
           CASE WHEN rule.nic_uuid IS NOT NULL THEN rule.private_ip END AS private_ip, rule.enabled, rule.revision,
           rule.created_at, rule.updated_at
    FROM port_forwarding AS rule JOIN vip ON vip.uuid = rule.vip_uuid
"""
_GET = _SELECT + " WHERE rule.uuid = ANY($1::uuid[]) ORDER BY rule.uuid"
_INSERT = """
    INSERT INTO port_forwarding (uuid, name, description, vip_uuid, ip_version, protocol, vip_ports, private_port_start,
                                 allowed_cidr, nic_uuid, l3_uuid, private_ip)
    VALUES ($1, $2, $3, $4, $5, $6, int4range($7, $8, '[]'), $9, $10, $11, $12, $13)
"""
_REVISION = "SELECT revision FROM port_forwarding WHERE uuid = $1"
_LOCK = "SELECT FROM port_forwarding WHERE uuid = $1 FOR UPDATE"
_UPDATE = """
    UPDATE port_forwarding
    SET name = coalesce($2, name), description = coalesce($3, description), enabled = coalesce($4, enabled),
        revision = revision + 1, updated_at = now()
    WHERE uuid = $1 AND ($5::int IS NULL OR revision = $5) RETURNING uuid
"""
_LEAD = """
    UPDATE port_forwarding SET nic_uuid = $2, l3_uuid = $3, private_ip = $4, revision = revision + 1, updated_at = now()
    WHERE uuid = $1
"""
_LEAVE_NICS = """
    UPDATE port_forwarding SET nic_uuid = NULL, l3_uuid = NULL, private_ip = NULL, revision = revision + 1,
                               updated_at = now()
    WHERE nic_uuid = ANY($1::uuid[]) RETURNING uuid
"""
_DELETE = "DELETE FROM port_forwarding WHERE uuid = $1"
_ON_L3 = """
    SELECT rule.uuid FROM port_forwarding AS rule JOIN nic ON nic.uuid = rule.nic_uuid
    WHERE nic.l3_uuid = $1 ORDER BY 1 LIMIT 100
"""
_OVERLAPPING = """
    SELECT uuid FROM port_forwarding
    WHERE vip_uuid = $1 AND protocol = $2 AND vip_ports && int4range($3, $4, '[]') ORDER BY uuid LIMIT 1
"""
_ELSEWHERE = """
    SELECT (SELECT vip_uuid FROM port_forwarding
            WHERE nic_uuid = $1 AND ip_version = $3 AND vip_uuid <> $2 LIMIT 1) AS vip_uuid,
           (SELECT l3_uuid FROM port_forwarding
            WHERE vip_uuid = $2 AND nic_uuid IS NOT NULL AND l3_uuid <> $4 LIMIT 1) AS l3_uuid
"""
_LISTING = Listing(
    select=_SELECT,
    columns={
        "uuid": Column("uuid", "uuid"),
        "name": Column("name", "text"),
        "vipUuid": Column("vip_uuid", "uuid"),
        "nicUuid": Column("coalesce(nic_uuid, '00000000-0000-0000-0000-000000000000')", "uuid", "nic_uuid = ANY({})"),
        "protocol": Column("protocol", "text"),
        "createdAt": Column("created_at", "timestamptz"),
    },
    key=Column("uuid", "uuid"),
    default_sort="createdAt",
)


async def create(
    connection: Connection,
    uuid: UUID,
    request: CreatePortForwarding,
    *,
    ports: ForwardedPorts,
    vip: PublicVip,
    nic: TargetNic | None,
    private_ip: Address | None,
) -> PortForwardingInventory:
    """The VIP is locked, and marked as used for it.

    Raises:
        Conflict: another rule has the ports, the VIP or the NIC.
    """
    try:
        async with connection.transaction():  # a savepoint: who was there first is looked up after
            with creating(KIND, uuid):
                await connection.execute(
                    _INSERT,
                    uuid,
                    request.name,
                    request.description,
                    vip.uuid,
                    vip.ip.version,
                    request.protocol,
                    ports.vip_start,
                    ports.vip_end,
                    ports.private_start,
                    request.allowed_cidr,
                    request.nic_uuid,
                    None if nic is None else nic.l3_uuid,
                    private_ip,
                )
    except asyncpg.ExclusionViolationError as error:
        if error.constraint_name == "port_forwarding_overlap":
            raise await _overlap(connection, vip, request.protocol, ports) from error
        raise await _elsewhere(connection, vip, nic) from error
    return await get(connection, uuid)


async def get(connection: Connection, uuid: UUID) -> PortForwardingInventory:
    """Raises:
    NotFound: there is none.
    """
    found = await find(connection, uuid)
    if found is None:
        raise NotFound.of(KIND, uuid)
    return found


async def find(connection: Connection, uuid: UUID) -> PortForwardingInventory | None:
    found = await get_many(connection, [uuid])
    return found[0] if found else None


async def get_many(connection: Connection, uuids: Collection[UUID]) -> list[PortForwardingInventory]:
    return [_inventory(row) for row in await connection.fetch(_GET, list(uuids))]


async def get_locked(connection: Connection, uuid: UUID) -> PortForwardingInventory:
    """Where it leads does not change until the transaction ends.

    Raises:
        NotFound: there is none.
    """
    found = await find_locked(connection, uuid)
    if found is None:
        raise NotFound.of(KIND, uuid)
    return found


async def find_locked(connection: Connection, uuid: UUID) -> PortForwardingInventory | None:
    """As `get_locked`; None if there is none."""
    await connection.execute(_LOCK, uuid)
    return await find(connection, uuid)


async def query(connection: Connection, request: QueryPortForwardings) -> Page[PortForwardingInventory]:
    page = await list_page(connection, _LISTING, request, request.filters)
    return Page(items=[_inventory(row) for row in page.rows], after=page.after)


async def update(connection: Connection, request: UpdatePortForwarding) -> PortForwardingInventory:
    row = await connection.fetchrow(
        _UPDATE, request.uuid, request.name, request.description, request.enabled, request.revision
    )
    await require_updated(connection, row, KIND, request.uuid, exists_sql=_REVISION, revision=request.revision)
    return await get(connection, request.uuid)


async def lead(
    connection: Connection, uuid: UUID, vip: PublicVip, nic: TargetNic, private_ip: Address
) -> PortForwardingInventory:
    """The ports are the NIC's from here on.

    Raises:
        Conflict: the VIP is another's, or the NIC has another.
    """
    try:
        async with connection.transaction():
            await connection.execute(_LEAD, uuid, nic.uuid, nic.l3_uuid, private_ip)
    except asyncpg.ExclusionViolationError as error:
        raise await _elsewhere(connection, vip, nic) from error
    return await get(connection, uuid)


async def leave(connection: Connection, uuid: UUID) -> PortForwardingInventory:
    """They are no NIC's."""
    await connection.execute(_LEAD, uuid, None, None, None)
    return await get(connection, uuid)


async def leave_nics(connection: Connection, nic_uuids: Collection[UUID]) -> list[PortForwardingInventory]:
    """These NICs go: return what was theirs, as it is now."""
    left = [row["uuid"] for row in await connection.fetch(_LEAVE_NICS, list(nic_uuids))]
    return await get_many(connection, left)


async def delete(connection: Connection, uuid: UUID) -> None:
    await connection.execute(_DELETE, uuid)


async def on_l3(connection: Connection, l3_uuid: UUID) -> list[UUID]:
    """Those of NICs on an L3 network, a hundred at most."""
    return [row["uuid"] for row in await connection.fetch(_ON_L3, l3_uuid)]


async def _overlap(connection: Connection, vip: PublicVip, protocol: str, ports: ForwardedPorts) -> ViaductError:
    other = await connection.fetchval(_OVERLAPPING, vip.uuid, protocol, ports.vip_start, ports.vip_end)
    return Conflict(
        f"{protocol} ports {ports.vip_start} to {ports.vip_end} of VIP {vip.ip} are not free",
        field="vipPortStart",
        portForwardingUuid=str(other),
    )


async def _elsewhere(connection: Connection, vip: PublicVip, nic: TargetNic | None) -> ViaductError:
    if nic is None:
        return ViaductError("a rule without a NIC is in nobody's way")
    other = await connection.fetchrow(_ELSEWHERE, nic.uuid, vip.uuid, vip.ip.version, nic.l3_uuid)
    if other["vip_uuid"] is not None:
        return Conflict(
            f"the NIC has forwarded ports of another VIP of IPv{vip.ip.version}",
            field="nicUuid",
            vipUuid=str(other["vip_uuid"]),
        )
    return Conflict(
        f"ports of VIP {vip.ip} are forwarded to another L3 network: its router has the address",
        field="nicUuid",
        l3NetworkUuid=str(other["l3_uuid"]),
    )


def _inventory(row: Any) -> PortForwardingInventory:
    return PortForwardingInventory.model_validate(dict(row))
