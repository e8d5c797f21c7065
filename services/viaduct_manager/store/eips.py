"""EIPs in Postgres."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import asyncpg

from viaduct_common.errors import NotFound, ServiceConflict
from viaduct_common.messages.base import Page
from viaduct_common.messages.services.eips import CreateEip, EipInventory, QueryEips, UpdateEip
from viaduct_common.postgres.paging import Column, Listing, list_page
from viaduct_common.postgres.pool import Connection
from viaduct_manager.model.public_addresses import ON_NICS_HOSTS, Address, PublicVip, second_eip
from viaduct_manager.store.rows import creating, require_updated

KIND = "EIP"

_SELECT = """
    SELECT eip.uuid, eip.name, eip.description, eip.vip_uuid, vip.ip AS vip_ip, eip.nic_uuid,
           CASE WHEN eip.nic_uuid IS NOT NULL THEN eip.private_ip END AS private_ip, eip.enabled, eip.revision,
           eip.created_at, eip.updated_at
    FROM eip JOIN vip ON vip.uuid = eip.vip_uuid
"""
_GET = _SELECT + " WHERE eip.uuid = ANY($1::uuid[]) ORDER BY eip.uuid"
_INSERT = """
    INSERT INTO eip (uuid, name, description, vip_uuid, ip_version, nic_uuid, private_ip)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
"""
_REVISION = "SELECT revision FROM eip WHERE uuid = $1"
_LOCK = "SELECT FROM eip WHERE uuid = $1 FOR UPDATE"
_UPDATE = """
    UPDATE eip SET name = coalesce($2, name), description = coalesce($3, description), enabled = coalesce($4, enabled),
                   revision = revision + 1, updated_at = now()
    WHERE uuid = $1 AND ($5::int IS NULL OR revision = $5) RETURNING uuid
"""
_LEAD = """
    UPDATE eip SET nic_uuid = $2, private_ip = $3, revision = revision + 1, updated_at = now() WHERE uuid = $1
"""
_LEAVE_NICS = """
    UPDATE eip SET nic_uuid = NULL, private_ip = NULL, revision = revision + 1, updated_at = now()
    WHERE nic_uuid = ANY($1::uuid[]) RETURNING uuid
"""
_DELETE = "DELETE FROM eip WHERE uuid = $1"
_ON_L3 = "SELECT eip.uuid FROM eip JOIN nic ON nic.uuid = eip.nic_uuid WHERE nic.l3_uuid = $1 ORDER BY 1 LIMIT 100"
_LACKING = """
    SELECT eip.uuid, public.l2_uuid
    FROM eip JOIN nic ON nic.uuid = eip.nic_uuid JOIN vip ON vip.uuid = eip.vip_uuid
    JOIN l3_network AS public ON public.uuid = vip.l3_uuid
    JOIN l3_service ON l3_service.l3_uuid = nic.l3_uuid AND l3_service.service_type = 'EIP'
    JOIN service_provider AS provider ON provider.uuid = l3_service.provider_uuid AND provider.name = ANY($3::text[])
    WHERE nic.uuid = ANY($1::uuid[]) AND NOT EXISTS (
        SELECT FROM attachment WHERE attachment.l2_uuid = public.l2_uuid AND cluster_uuid = $2
          AND state IN ('attached', 'degraded'))
"""
_LISTING = Listing(
    select=_SELECT,
    columns={
        "uuid": Column("uuid", "uuid"),
        "name": Column("name", "text"),
        "vipUuid": Column("vip_uuid", "uuid"),
        "nicUuid": Column("coalesce(nic_uuid, '00000000-0000-0000-0000-000000000000')", "uuid", "nic_uuid = ANY({})"),
        "createdAt": Column("created_at", "timestamptz"),
    },
    key=Column("uuid", "uuid"),
    default_sort="createdAt",
)


async def create(
    connection: Connection, uuid: UUID, request: CreateEip, vip: PublicVip, private_ip: Address | None
) -> EipInventory:
    """The VIP is locked, and marked as used for it."""
    with creating(KIND, uuid), _refusing(vip):
        await connection.execute(
            _INSERT,
            uuid,
            request.name,
            request.description,
            vip.uuid,
            vip.ip.version,
            request.nic_uuid,
            private_ip,
        )
    return await get(connection, uuid)


async def find(connection: Connection, uuid: UUID) -> EipInventory | None:
    found = await get_many(connection, [uuid])
    return found[0] if found else None


async def get(connection: Connection, uuid: UUID) -> EipInventory:
    """Raises:
    NotFound: there is none.
    """
    found = await find(connection, uuid)
    if found is None:
        raise NotFound.of(KIND, uuid)
    return found


async def get_many(connection: Connection, uuids: Collection[UUID]) -> list[EipInventory]:
    return [_inventory(row) for row in await connection.fetch(_GET, list(uuids))]


async def get_locked(connection: Connection, uuid: UUID) -> EipInventory:
    """Where it leads does not change until the transaction ends.

    Raises:
        NotFound: there is none.
    """
    found = await find_locked(connection, uuid)
    if found is None:
        raise NotFound.of(KIND, uuid)
    return found


async def find_locked(connection: Connection, uuid: UUID) -> EipInventory | None:
    """As `get_locked`; None if there is none."""
    await connection.execute(_LOCK, uuid)
    return await find(connection, uuid)


async def query(connection: Connection, request: QueryEips) -> Page[EipInventory]:
    page = await list_page(connection, _LISTING, request, request.filters)
    return Page(items=[_inventory(row) for row in page.rows], after=page.after)


async def update(connection: Connection, request: UpdateEip) -> EipInventory:
    row = await connection.fetchrow(
        _UPDATE, request.uuid, request.name, request.description, request.enabled, request.revision
    )
    await require_updated(connection, row, KIND, request.uuid, exists_sql=_REVISION, revision=request.revision)
    return await get(connection, request.uuid)


async def lead(connection: Connection, uuid: UUID, vip: PublicVip, nic_uuid: UUID, private_ip: Address) -> EipInventory:
    """It is the NIC's from here on."""
    with _refusing(vip):
        await connection.execute(_LEAD, uuid, nic_uuid, private_ip)
    return await get(connection, uuid)


async def leave(connection: Connection, uuid: UUID) -> EipInventory:
    """It is no NIC's."""
    await connection.execute(_LEAD, uuid, None, None)
    return await get(connection, uuid)


async def leave_nics(connection: Connection, nic_uuids: Collection[UUID]) -> list[EipInventory]:
    """These NICs go: return what was theirs, as it is now."""
    left = [row["uuid"] for row in await connection.fetch(_LEAVE_NICS, list(nic_uuids))]
    return await get_many(connection, left)


async def delete(connection: Connection, uuid: UUID) -> None:
    await connection.execute(_DELETE, uuid)


async def on_l3(connection: Connection, l3_uuid: UUID) -> list[UUID]:
    """Those of NICs on an L3 network, a hundred at most."""
    return [row["uuid"] for row in await connection.fetch(_ON_L3, l3_uuid)]


async def lacking_on(connection: Connection, nic_uuids: Collection[UUID], cluster_uuid: UUID) -> dict[UUID, UUID]:
    """EIPs of these NICs that are served on the NIC's own host, whose public L2 network a cluster does not have; with
    that network."""
    rows = await connection.fetch(_LACKING, list(nic_uuids), cluster_uuid, sorted(ON_NICS_HOSTS))
    return {row["uuid"]: row["l2_uuid"] for row in rows}


@contextmanager
def _refusing(vip: PublicVip) -> Iterator[None]:
    """What was not so when we looked."""
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        if error.constraint_name == "eip_of_nic":
            raise second_eip(vip.ip.version, None) from error
        if error.constraint_name == "eip_vip":
            raise ServiceConflict(
                f"VIP {vip.ip} is another EIP's", field="vipUuid", vipUuid=str(vip.uuid), usedFor="EIP"
            ) from error
        raise


def _inventory(row: Any) -> EipInventory:
    return EipInventory.model_validate(dict(row))
