"""L3 networks in Postgres."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from viaduct_common.errors import NotFound
from viaduct_common.messages.base import Page
from viaduct_common.messages.l3 import CreateL3, L3HostRoute, L3NetworkInventory, QueryL3, UpdateL3
from viaduct_common.postgres.paging import Column, Listing, list_page
from viaduct_common.postgres.pool import Connection
from viaduct_manager.store.rows import creating, deleting, require_updated

KIND = "L3 network"

_ROW = """
    l3_network.*, l2_uuid AS l2_network_uuid,
    (SELECT coalesce(jsonb_agg(jsonb_build_object(
                'serviceType', service_type, 'providerUuid', provider_uuid, 'provider', service_provider.name,
                'config', config) ORDER BY service_type), '[]')
     FROM l3_service JOIN service_provider ON service_provider.uuid = provider_uuid
     WHERE l3_uuid = l3_network.uuid) AS services
"""
_INSERT = f"""
    INSERT INTO l3_network (uuid, l2_uuid, zone_uuid, name, description, category, dns_domain, dns, ip_version,
                            strategy, mtu, host_routes, enabled)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
    RETURNING {_ROW}
"""
_SELECT = f"SELECT {_ROW} FROM l3_network"
_GET = _SELECT + " WHERE uuid = $1"
# Also against those who hold it because of its NICs; see `l3_services.hold_served`.
_LOCK = "SELECT FROM l3_network WHERE uuid = $1 FOR UPDATE"
_L2_OF = "SELECT uuid, l2_uuid, enabled FROM l3_network WHERE uuid = ANY($1::uuid[])"
_L2_MTU = (
    "SELECT mtu FROM l2_network WHERE uuid = (SELECT l2_uuid FROM l3_network WHERE l3_network.uuid = $1) FOR SHARE"
)
_WIDER = "SELECT uuid FROM l3_network WHERE l2_uuid = $1 AND mtu > $2 ORDER BY uuid LIMIT 100"
_REVISION = "SELECT revision FROM l3_network WHERE uuid = $1"
_UPDATE = f"""
    UPDATE l3_network SET name = coalesce($2, name), description = coalesce($3, description),
                          dns_domain = coalesce($4, dns_domain), dns = coalesce($5, dns),
                          strategy = coalesce($6, strategy), mtu = coalesce($8, mtu),
                          host_routes = coalesce($9, host_routes), enabled = coalesce($10, enabled),
                          category = coalesce($11, category), revision = revision + 1, updated_at = now()
    WHERE uuid = $1 AND ($7::int IS NULL OR revision = $7) RETURNING {_ROW}
"""
_TOUCH = f"UPDATE l3_network SET revision = revision + 1, updated_at = now() WHERE uuid = $1 RETURNING {_ROW}"
_DELETE = f"DELETE FROM l3_network WHERE uuid = $1 RETURNING {_ROW}"
_LISTING = Listing(
    select=_SELECT,
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


@dataclass(frozen=True)
class L3Place:
    """The L2 network that an L3 network lies on, and whether it gets new NICs."""

    l2_uuid: UUID
    enabled: bool


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
            request.mtu,
            _as_json(request.host_routes),
            request.enabled,
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


async def lock(connection: Connection, uuid: UUID) -> L3NetworkInventory:
    """Its services, and its NICs as far as services go, do not change until the transaction ends.

    Raises:
        NotFound: there is none.
    """
    await connection.execute(_LOCK, uuid)
    return await get(connection, uuid)  # by a statement of its own: it sees what we waited for


async def find_locked(connection: Connection, uuid: UUID) -> L3NetworkInventory | None:
    """As `lock`; None if there is none."""
    await connection.execute(_LOCK, uuid)
    row = await connection.fetchrow(_GET, uuid)
    return None if row is None else _inventory(row)


async def touch(connection: Connection, uuid: UUID) -> L3NetworkInventory:
    """What is told of it has changed, though the row has not."""
    return _inventory(await connection.fetchrow(_TOUCH, uuid))


async def places_of(connection: Connection, uuids: list[UUID]) -> dict[UUID, L3Place]:
    """Where L3 networks lie; those that do not exist are missing."""
    rows = await connection.fetch(_L2_OF, uuids)
    return {row["uuid"]: L3Place(row["l2_uuid"], row["enabled"]) for row in rows}


async def l2_mtu(connection: Connection, uuid: UUID) -> int | None:
    """The MTU of the L2 network that it lies on, which does not change until the transaction ends; None if there is no
    such L3 network."""
    found: int | None = await connection.fetchval(_L2_MTU, uuid)
    return found


async def wider_than(connection: Connection, l2_uuid: UUID, mtu: int) -> list[UUID]:
    """L3 networks on an L2 network whose own MTU is larger; some of them."""
    return [row["uuid"] for row in await connection.fetch(_WIDER, l2_uuid, mtu)]


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
        request.mtu,
        None if request.host_routes is None else _as_json(request.host_routes),
        request.enabled,
        request.category,
    )
    return _inventory(
        await require_updated(connection, row, KIND, request.uuid, exists_sql=_REVISION, revision=request.revision)
    )


async def delete(connection: Connection, uuid: UUID) -> L3NetworkInventory | None:
    with deleting(KIND, uuid):
        row = await connection.fetchrow(_DELETE, uuid)
    return None if row is None else _inventory(row)


def _as_json(routes: list[L3HostRoute]) -> list[Any]:
    return [route.model_dump(mode="json") for route in routes]


def _inventory(row: Any) -> L3NetworkInventory:
    return L3NetworkInventory.model_validate(dict(row))
