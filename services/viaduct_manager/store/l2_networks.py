"""L2 networks and their attachments in Postgres."""

from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import asyncpg

from viaduct_common.errors import AlreadyExists, InUse, L2Conflict, NotFound
from viaduct_common.messages.base import Page
from viaduct_common.messages.l2 import L2NetworkInventory, QueryL2, UpdateL2
from viaduct_common.postgres.paging import Column, Listing, list_page
from viaduct_common.postgres.pool import Connection
from viaduct_manager.store.rows import creating, require_updated

KIND = "L2 network"

_INSERT = """
    INSERT INTO l2_network (uuid, zone_uuid, name, description, type, physical_interface, mtu, own_fields,
                            bridge_name, device_names, at_vm_time, parent_uuid, account_uuid, vni)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
"""
_SELECT = """
    SELECT l2_network.*, ARRAY(
        SELECT cluster_uuid FROM attachment
        WHERE l2_uuid = coalesce(l2_network.parent_uuid, l2_network.uuid)
          AND state IN ('attached', 'degraded', 'detaching')
        ORDER BY attachment.created_at, cluster_uuid
    ) AS attached_cluster_uuids
    FROM l2_network
"""
_GET = _SELECT + "WHERE uuid = $1 AND NOT deleted"
_GET_MANY = _SELECT + "WHERE uuid = ANY($1::uuid[])"
_LOCK = "SELECT uuid FROM l2_network WHERE uuid = $1 AND NOT deleted FOR UPDATE"
_LOCK_SHARED = "SELECT uuid FROM l2_network WHERE uuid = $1 AND NOT deleted FOR SHARE"
_REVISION = "SELECT revision FROM l2_network WHERE uuid = $1 AND NOT deleted"
_UPDATE = """
    UPDATE l2_network SET name = coalesce($2, name), description = coalesce($3, description),
                          revision = revision + 1, updated_at = now()
    WHERE uuid = $1 AND NOT deleted AND ($4::int IS NULL OR revision = $4) RETURNING uuid
"""
_USERS = """
    SELECT (SELECT array_agg(cluster_uuid) FROM attachment WHERE l2_uuid = $1) AS clusters,
           (SELECT array_agg(uuid) FROM l3_network WHERE l2_uuid = $1) AS l3_networks
"""
# The inventory takes any other as the type's own.
_NOT_ON_THE_WIRE = {"own_fields", "deleted", "at_vm_time", "parent_uuid", "account_uuid", "vni", "sort_", "key_"}
_MARK_DELETED = "UPDATE l2_network SET deleted = true WHERE uuid = $1"
_PURGE = """
    DELETE FROM l2_network
    WHERE deleted AND ($1::uuid IS NULL OR uuid = $1)
      AND NOT EXISTS (SELECT FROM realization WHERE l2_uuid = l2_network.uuid)
      AND NOT EXISTS (SELECT FROM nic WHERE l2_uuid = l2_network.uuid)
      AND NOT EXISTS (SELECT FROM l2_network AS of_account WHERE of_account.parent_uuid = l2_network.uuid)
"""
_LISTING = Listing(
    select=_SELECT + "WHERE NOT deleted",
    columns={
        "uuid": Column("uuid", "uuid"),
        "name": Column("name", "text"),
        "zoneUuid": Column("zone_uuid", "uuid"),
        "type": Column("type", "text"),
        "physicalInterface": Column("physical_interface", "text"),
        "createdAt": Column("created_at", "timestamptz"),
        "clusterUuid": Column(
            "uuid",
            "uuid",
            "EXISTS (SELECT FROM attachment WHERE l2_uuid = page.uuid AND cluster_uuid = ANY({}))",
        ),
    },
    key=Column("uuid", "uuid"),
    default_sort="createdAt",
    where="page.parent_uuid IS NULL",
)
_LISTING_BY_UUID = replace(_LISTING, where="true")

_ATTACH = """
    INSERT INTO attachment (l2_uuid, cluster_uuid, conflict_key, state, operation_uuid)
    VALUES ($1, $2, $3, 'attaching', $4)
"""
_CLAIM_NAMES = """
    INSERT INTO attachment_name (cluster_uuid, device_name, l2_uuid) SELECT $1, unnest($2::text[]), $3
"""
_ATTACHMENT = "SELECT * FROM attachment WHERE l2_uuid = $1 AND cluster_uuid = $2 FOR UPDATE"
_ATTACHED_TO = "SELECT cluster_uuid, state FROM attachment WHERE l2_uuid = $1"
_RIVALS = """
    SELECT attachment.cluster_uuid, attachment.l2_uuid, l2_network.name, 'interface and tag' AS about
    FROM attachment JOIN l2_network ON l2_network.uuid = attachment.l2_uuid
    WHERE attachment.cluster_uuid = ANY($1::uuid[]) AND attachment.conflict_key = $2 AND attachment.l2_uuid <> $4
    UNION ALL
    SELECT attachment_name.cluster_uuid, attachment_name.l2_uuid, l2_network.name,
           'device name ' || attachment_name.device_name
    FROM attachment_name JOIN l2_network ON l2_network.uuid = attachment_name.l2_uuid
    WHERE attachment_name.cluster_uuid = ANY($1::uuid[]) AND attachment_name.device_name = ANY($3::text[])
      AND attachment_name.l2_uuid <> $4
"""
_SET_ATTACHMENT = "UPDATE attachment SET state = $3, operation_uuid = $4 WHERE l2_uuid = $1 AND cluster_uuid = $2"
_DEGRADE = """
    UPDATE attachment SET state = 'degraded'
    FROM host WHERE host.uuid = $2 AND attachment.cluster_uuid = host.cluster_uuid AND attachment.l2_uuid = $1
      AND attachment.state = 'attached'
"""
_HEAL = """
    UPDATE attachment SET state = 'attached'
    FROM host WHERE host.uuid = $2 AND attachment.cluster_uuid = host.cluster_uuid AND attachment.l2_uuid = $1
      AND attachment.state = 'degraded'
      AND NOT EXISTS (
          SELECT FROM realization JOIN host AS peer ON peer.uuid = realization.host_uuid
          WHERE realization.l2_uuid = $1 AND peer.cluster_uuid = attachment.cluster_uuid
            AND realization.state = 'failed')
"""
_DETACH = "DELETE FROM attachment WHERE l2_uuid = $1 AND cluster_uuid = $2"


@dataclass(frozen=True)
class Attachment:
    l2_uuid: UUID
    cluster_uuid: UUID
    state: str
    operation_uuid: UUID | None


@dataclass(frozen=True)
class OfAccount:
    """What an account has of a network with a VNI range."""

    parent_uuid: UUID
    account_uuid: UUID
    vni: int


async def create(
    connection: Connection, network: L2NetworkInventory, *, at_vm_time: bool = False, of: OfAccount | None = None
) -> L2NetworkInventory:
    """`at_vm_time`: it is realised only where VMs have NICs on it; `of`: what an account has of another one."""
    with creating(KIND, network.uuid):
        await connection.execute(
            _INSERT,
            network.uuid,
            network.zone_uuid,
            network.name,
            network.description,
            network.type,
            network.physical_interface,
            network.mtu,
            network.own_fields(),
            network.bridge_name,
            network.device_names,
            at_vm_time,
            None if of is None else of.parent_uuid,
            None if of is None else of.account_uuid,
            None if of is None else of.vni,
        )
    return await get(connection, network.uuid)


async def get(connection: Connection, uuid: UUID) -> L2NetworkInventory:
    """Raises:
    NotFound: there is none.
    """
    row = await connection.fetchrow(_GET, uuid)
    if row is None:
        raise NotFound.of(KIND, uuid)
    return _inventory(row)


async def get_many(connection: Connection, uuids: list[UUID]) -> dict[UUID, L2NetworkInventory]:
    """By uuid, those deleted but not yet released everywhere included."""
    return {row["uuid"]: _inventory(row) for row in await connection.fetch(_GET_MANY, uuids)}


async def hold(connection: Connection, uuid: UUID) -> L2NetworkInventory:
    """The network, safe from being deleted until the transaction ends.

    Raises:
        NotFound: there is none.
    """
    await connection.fetchrow(_LOCK_SHARED, uuid)
    return await get(connection, uuid)


async def query(connection: Connection, request: QueryL2) -> Page[L2NetworkInventory]:
    listing = _LISTING if request.filters.uuid is None else _LISTING_BY_UUID
    page = await list_page(connection, listing, request, request.filters)
    return Page(items=[_inventory(row) for row in page.rows], after=page.after)


async def update(connection: Connection, request: UpdateL2) -> L2NetworkInventory:
    row = await connection.fetchrow(_UPDATE, request.uuid, request.name, request.description, request.revision)
    await require_updated(connection, row, KIND, request.uuid, exists_sql=_REVISION, revision=request.revision)
    return await get(connection, request.uuid)


async def delete(connection: Connection, uuid: UUID) -> L2NetworkInventory | None:
    """Raises:
    InUse: it is attached, or carries an L3 network; the details name them.
    """
    if await connection.fetchval(_LOCK, uuid) is None:
        return None
    network = await get(connection, uuid)
    users = await connection.fetchrow(_USERS, uuid)
    clusters, l3_networks = users["clusters"] or [], users["l3_networks"] or []
    if clusters or l3_networks:
        raise InUse(
            f"L2 network {network.name} is attached to {len(clusters)} clusters and carries {len(l3_networks)} L3 "
            "networks",
            clusterUuids=[str(one) for one in clusters],
            l3NetworkUuids=[str(one) for one in l3_networks],
        )
    await connection.execute(_MARK_DELETED, uuid)
    await purge(connection)
    return network


async def purge(connection: Connection, uuid: UUID | None = None) -> None:
    """Forget deleted networks, or one of them, that no host holds any more."""
    await connection.execute(_PURGE, uuid)


# ---- attachments -------------------------------------------------------------------------------------------------


async def attach(
    connection: Connection, network: L2NetworkInventory, cluster_uuid: UUID, conflict_key: str, operation_uuid: UUID
) -> None:
    """Commit to the intent: of several at the same moment that conflict, one gets through.

    Raises:
        AlreadyExists: it is attached, or being attached. L2Conflict: `details.l2NetworkUuid` names the other.
    """
    former = await find_attachment(connection, network.uuid, cluster_uuid)
    if former is not None:
        raise AlreadyExists(
            f"L2 network {network.name} is {former.state} to this cluster already",
            state=former.state,
            l2NetworkUuid=str(network.uuid),
            clusterUuid=str(cluster_uuid),
        )
    try:
        async with connection.transaction():
            await connection.execute(_ATTACH, network.uuid, cluster_uuid, conflict_key, operation_uuid)
            await connection.execute(_CLAIM_NAMES, cluster_uuid, network.device_names, network.uuid)
    except asyncpg.UniqueViolationError as error:
        rivals = await find_rivals(connection, network, [cluster_uuid], conflict_key)
        raise rivals.get(cluster_uuid) or L2Conflict(
            "another attach of this network to this cluster was faster", l2NetworkUuid=str(network.uuid)
        ) from error


async def find_rivals(
    connection: Connection, network: L2NetworkInventory, cluster_uuids: list[UUID], conflict_key: str
) -> dict[UUID, L2Conflict]:
    """By cluster, the conflict with what is attached there."""
    rows = await connection.fetch(_RIVALS, cluster_uuids, conflict_key, network.device_names, network.uuid)
    return {
        row["cluster_uuid"]: L2Conflict(
            f"L2 network {row['name']} has the same {row['about']} on this cluster",
            l2NetworkUuid=str(row["l2_uuid"]),
            clusterUuid=str(row["cluster_uuid"]),
            about=row["about"],
        )
        for row in rows
    }


async def find_attachment(connection: Connection, l2_uuid: UUID, cluster_uuid: UUID) -> Attachment | None:
    """The attachment, locked."""
    row = await connection.fetchrow(_ATTACHMENT, l2_uuid, cluster_uuid)
    if row is None:
        return None
    return Attachment(row["l2_uuid"], row["cluster_uuid"], row["state"], row["operation_uuid"])


async def attached_to(connection: Connection, l2_uuid: UUID) -> dict[UUID, str]:
    """State by cluster."""
    return {row["cluster_uuid"]: row["state"] for row in await connection.fetch(_ATTACHED_TO, l2_uuid)}


async def set_attachment(
    connection: Connection, l2_uuid: UUID, cluster_uuid: UUID, state: str, operation_uuid: UUID | None
) -> None:
    await connection.execute(_SET_ATTACHMENT, l2_uuid, cluster_uuid, state, operation_uuid)


async def note_host(connection: Connection, l2_uuid: UUID, host_uuid: UUID, *, good: bool) -> None:
    """An attachment is degraded while one of its hosts failed, and whole again when none does."""
    await connection.execute(_HEAL if good else _DEGRADE, l2_uuid, host_uuid)


async def remove_attachment(connection: Connection, l2_uuid: UUID, cluster_uuid: UUID) -> None:
    await connection.execute(_DETACH, l2_uuid, cluster_uuid)


def _inventory(row: Any) -> L2NetworkInventory:
    fields = {name: value for name, value in row.items() if name not in _NOT_ON_THE_WIRE}
    return L2NetworkInventory.model_validate(fields | row["own_fields"])
