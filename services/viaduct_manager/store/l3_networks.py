"""L3 networks in Postgres."""

from typing import Any
from uuid import UUID

from viaduct_common.errors import NotFound
from viaduct_common.messages.base import Page
from viaduct_common.messages.l3 import CreateL3, L3NetworkInventory, QueryL3, UpdateL3
from viaduct_common.postgres.paging import Column, Listing, list_page
from viaduct_common.postgres.pool import Connection
from viaduct_manager.store.rows import creating, deleting, require_updated

KIND = "L3 network"

_INSERT = """
    INSERT INTO l3_network (uuid, l2_uuid, zone_uuid, name, description, category, dns_domain, dns, ip_version,
                            strategy)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    RETURNING *, l2_uuid AS l2_network_uuid
"""
_GET = "SELECT *, l2_uuid AS l2_network_uuid FROM l3_network WHERE uuid = $1"
_L2_OF = "SELECT uuid, l2_uuid FROM l3_network WHERE uuid = ANY($1::uuid[])"
_REVISION = "SELECT revision FROM l3_network WHERE uuid = $1"
_UPDATE = """
    UPDATE l3_network SET name = coalesce($2, name), description = coalesce($3, description),
                          dns_domain = coalesce($4, dns_domain), dns = coalesce($5, dns),
                          strategy = coalesce($6, strategy), revision = revision + 1, updated_at = now()
    WHERE uuid = $1 AND ($7::int IS NULL OR revision = $7) RETURNING *, l2_uuid AS l2_network_uuid
"""
_DELETE = "DELETE FROM l3_network WHERE uuid = $1 RETURNING *, l2_uuid AS l2_network_uuid"
_LISTING = Listing(
    select="SELECT *, l2_uuid AS l2_network_uuid FROM l3_network",
    columns={
        "uuid": Column("uuid", "uuid"),
        "name": Column("name", "text"),
        "l2NetworkUuid": Column("l2_uuid", "uuid"),
        "zoneUuid": Column("zone_uuid", "uuid"),
        "category": Column("category", "text"),
        "createdAt": Column("created_at", "timestamptz"),
    },
    key=Column("uuid", "uuid"),
    default_sort="createdAt",
)


async def create(connection: Connection, uuid: UUID, zone_uuid: UUID, request: CreateL3) -> L3NetworkInventory:
    with creating(KIND, uuid):
        row = await connection.fetchrow(
            _INSERT,
            uuid,
            request.l2_network_uuid,
            zone_uuid,
            request.name,
            request.description,
            request.category,
            request.dns_domain,
            [str(server) for server in request.dns],
            request.ip_version,
            request.strategy,
        )
    return _inventory(row)


async def get(connection: Connection, uuid: UUID) -> L3NetworkInventory:
    """Raises:
    NotFound: there is none.
    """
    row = await connection.fetchrow(_GET, uuid)
    if row is None:
        raise NotFound.of(KIND, uuid)
    return _inventory(row)


async def l2_networks_of(connection: Connection, uuids: list[UUID]) -> dict[UUID, UUID]:
    """L2 network by L3 network, in the order in which they are named; those that do not exist are missing."""
    found = {row["uuid"]: row["l2_uuid"] for row in await connection.fetch(_L2_OF, uuids)}
    return {uuid: found[uuid] for uuid in uuids if uuid in found}


async def query(connection: Connection, request: QueryL3) -> Page[L3NetworkInventory]:
    page = await list_page(connection, _LISTING, request, request.filters)
    return Page(items=[_inventory(row) for row in page.rows], after=page.after)


async def update(connection: Connection, request: UpdateL3) -> L3NetworkInventory:
    dns = None if request.dns is None else [str(server) for server in request.dns]
    row = await connection.fetchrow(
        _UPDATE,
        request.uuid,
        request.name,
        request.description,
        request.dns_domain,
        dns,
        request.strategy,
        request.revision,
    )
    return _inventory(
        await require_updated(connection, row, KIND, request.uuid, exists_sql=_REVISION, revision=request.revision)
    )


async def delete(connection: Connection, uuid: UUID) -> L3NetworkInventory | None:
    with deleting(KIND, uuid):
        row = await connection.fetchrow(_DELETE, uuid)
    return None if row is None else _inventory(row)


def _inventory(row: Any) -> L3NetworkInventory:
    return L3NetworkInventory.model_validate(dict(row))
