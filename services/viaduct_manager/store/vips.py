"""VIPs in Postgres, and the addresses of former ones that IPAM is still to take back."""

from typing import Any
from uuid import UUID

from viaduct_common.errors import NotFound
from viaduct_common.messages.base import Page
from viaduct_common.messages.ipam import UsedIpInventory
from viaduct_common.messages.services.vips import QueryVips, UpdateVip, VipInventory
from viaduct_common.postgres.paging import Column, Listing, list_page
from viaduct_common.postgres.pool import Connection
from viaduct_manager.model.public_addresses import PublicVip
from viaduct_manager.store.rows import creating, deleting, require_updated

KIND = "VIP"

_ROW = "vip.*, l3_uuid AS l3_network_uuid"
_INSERT = f"""
    INSERT INTO vip (uuid, name, description, l3_uuid, ip, ip_version, prefix_length, gateway, used_ip_uuid, used_for,
                     serves_l3_uuid)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
    RETURNING {_ROW}
"""
_SELECT = f"SELECT {_ROW} FROM vip"
_GET = _SELECT + " WHERE uuid = $1"
_REVISION = "SELECT revision FROM vip WHERE uuid = $1"
_UPDATE = f"""
    UPDATE vip SET name = coalesce($2, name), description = coalesce($3, description), enabled = coalesce($4, enabled),
                   revision = revision + 1, updated_at = now()
    WHERE uuid = $1 AND ($5::int IS NULL OR revision = $5) RETURNING {_ROW}
"""
_DELETE = f"""
    WITH deleted AS (DELETE FROM vip WHERE uuid = $1 RETURNING *),
    told AS (INSERT INTO vip_gone (used_ip_uuid, vip_uuid) SELECT used_ip_uuid, uuid FROM deleted)
    SELECT {_ROW.replace("vip.", "deleted.")} FROM deleted
"""
_LOCK_PUBLIC = "SELECT FROM vip WHERE uuid = $1 FOR UPDATE"
_PUBLIC = """
    SELECT vip.uuid, vip.l3_uuid, l3_network.l2_uuid, vip.ip, vip.used_for, vip.system
    FROM vip JOIN l3_network ON l3_network.uuid = vip.l3_uuid WHERE vip.uuid = $1
"""
_USE = "UPDATE vip SET used_for = $2 WHERE uuid = $1 AND used_for IS DISTINCT FROM $2"
_UNUSED = """
    UPDATE vip SET used_for = NULL
    WHERE uuid = $1 AND serves_l3_uuid IS NULL AND NOT EXISTS (SELECT FROM eip WHERE vip_uuid = $1)
      AND NOT EXISTS (SELECT FROM port_forwarding WHERE vip_uuid = $1)
"""
_USERS = """
    SELECT serves_l3_uuid AS uuid FROM vip WHERE uuid = $1 AND serves_l3_uuid IS NOT NULL
    UNION ALL SELECT uuid FROM eip WHERE vip_uuid = $1
    UNION ALL (SELECT uuid FROM port_forwarding WHERE vip_uuid = $1 ORDER BY uuid LIMIT 100)
"""
_ON_L3 = "SELECT uuid FROM vip WHERE l3_uuid = $1 ORDER BY uuid LIMIT 100"
_OF_SERVICE = _SELECT + " WHERE serves_l3_uuid = $1 AND used_for = $2"
# Whoever claims one keeps it until his transaction ends; if he dies, Postgres frees it.
_CLAIM_GONE = """
    SELECT used_ip_uuid FROM vip_gone WHERE due_at <= now() ORDER BY due_at LIMIT 256 FOR UPDATE SKIP LOCKED
"""
_ANY_GONE = "SELECT EXISTS (SELECT FROM vip_gone WHERE due_at <= now())"
_FORGET_GONE = "DELETE FROM vip_gone WHERE used_ip_uuid = ANY($1::uuid[])"
_OR_NONE = "coalesce({}, '')"
_LISTING = Listing(
    select=_SELECT,
    columns={
        "uuid": Column("uuid", "uuid"),
        "name": Column("name", "text"),
        "l3NetworkUuid": Column("l3_uuid", "uuid"),
        "ip": Column("ip", "inet"),
        "usedFor": Column(_OR_NONE.format("used_for"), "text"),
        "createdAt": Column("created_at", "timestamptz"),
    },
    key=Column("uuid", "uuid"),
    default_sort="createdAt",
)


async def create(
    connection: Connection,
    uuid: UUID,
    given: UsedIpInventory,
    *,
    name: str,
    description: str | None = None,
    used_for: str | None = None,
    serves_l3_uuid: UUID | None = None,
) -> VipInventory:
    """Args:
    serves_l3_uuid: it is a provider's own, for this L3 network.
    """
    with creating(KIND, uuid):
        row = await connection.fetchrow(
            _INSERT,
            uuid,
            name,
            description,
            given.l3_network_uuid,
            given.ip,
            given.ip_version,
            given.prefix_length,
            given.gateway,
            given.uuid,
            used_for,
            serves_l3_uuid,
        )
    return _inventory(row)


async def get(connection: Connection, uuid: UUID) -> VipInventory:
    """Raises:
    NotFound: there is none.
    """
    row = await connection.fetchrow(_GET, uuid)
    if row is None:
        raise NotFound.of(KIND, uuid)
    return _inventory(row)


async def exists(connection: Connection, uuid: UUID) -> bool:
    return await connection.fetchval(_REVISION, uuid) is not None


async def query(connection: Connection, request: QueryVips) -> Page[VipInventory]:
    page = await list_page(connection, _LISTING, request, request.filters)
    return Page(items=[_inventory(row) for row in page.rows], after=page.after)


async def update(connection: Connection, request: UpdateVip) -> VipInventory:
    row = await connection.fetchrow(
        _UPDATE, request.uuid, request.name, request.description, request.enabled, request.revision
    )
    return _inventory(
        await require_updated(connection, row, KIND, request.uuid, exists_sql=_REVISION, revision=request.revision)
    )


async def find_locked(connection: Connection, uuid: UUID) -> VipInventory | None:
    """Who uses it does not change until the transaction ends."""
    await connection.execute(_LOCK_PUBLIC, uuid)
    row = await connection.fetchrow(_GET, uuid)
    return None if row is None else _inventory(row)


async def lock_public(connection: Connection, uuid: UUID) -> PublicVip:
    """As `find_locked`, with what the rules of its use go by.

    Raises:
        NotFound: there is none; `details.field` is `vipUuid`.
    """
    await connection.execute(_LOCK_PUBLIC, uuid)
    row = await connection.fetchrow(_PUBLIC, uuid)  # by a statement of its own: it sees what we waited for
    if row is None:
        missing = NotFound.of(KIND, uuid)
        missing.details["field"] = "vipUuid"
        raise missing
    return PublicVip(**dict(row))


async def use(connection: Connection, uuid: UUID, service_type: str) -> None:
    """The VIP is locked, and unused or used for this."""
    await connection.execute(_USE, uuid, service_type)


async def leave(connection: Connection, uuid: UUID) -> None:
    """Something that used it is gone; it is free if that was the last."""
    await connection.execute(_LOCK_PUBLIC, uuid)
    await connection.execute(_UNUSED, uuid)


async def users(connection: Connection, uuid: UUID) -> list[UUID]:
    """The EIP or the port forwardings that use it, or the L3 network that it serves; a hundred at most."""
    return [row["uuid"] for row in await connection.fetch(_USERS, uuid)]


async def on_l3(connection: Connection, l3_uuid: UUID) -> list[UUID]:
    """VIPs of a public L3 network, up to a hundred."""
    return [row["uuid"] for row in await connection.fetch(_ON_L3, l3_uuid)]


async def of_service(connection: Connection, l3_uuid: UUID, service_type: str) -> VipInventory | None:
    """A provider's own for a service of an L3 network."""
    row = await connection.fetchrow(_OF_SERVICE, l3_uuid, service_type)
    return None if row is None else _inventory(row)


async def delete(connection: Connection, uuid: UUID) -> VipInventory | None:
    """Forget it; IPAM is told after the commit, until it knows."""
    with deleting(KIND, uuid):
        row = await connection.fetchrow(_DELETE, uuid)
    return None if row is None else _inventory(row)


async def any_gone(connection: Connection) -> bool:
    """Whether IPAM is to take any back."""
    found: bool = await connection.fetchval(_ANY_GONE)
    return found


async def claim_gone(connection: Connection) -> list[UUID]:
    """Allocations that IPAM is to take back now, and nobody else tells it."""
    return [row["used_ip_uuid"] for row in await connection.fetch(_CLAIM_GONE)]


async def forget_gone(connection: Connection, used_ip_uuids: list[UUID]) -> None:
    """IPAM has them back."""
    await connection.execute(_FORGET_GONE, used_ip_uuids)


def _inventory(row: Any) -> VipInventory:
    return VipInventory.model_validate(dict(row))
