"""L2 networks and their attachments in Postgres."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from viaduct_common.errors import AlreadyExists, InUse, L2Conflict, NotFound
from viaduct_common.messages.base import Page
from viaduct_common.messages.l2 import L2NetworkInventory, QueryL2, UpdateL2
from viaduct_common.postgres.paging import Column, Listing, list_page
from viaduct_common.postgres.pool import Connection
from viaduct_manager.model.tunnels import Cidr
from viaduct_manager.store import rivals
from viaduct_manager.store.rivals import Claim
from viaduct_manager.store.rows import creating, require_updated

KIND = "L2 network"

_INSERT = """
    INSERT INTO l2_network (uuid, zone_uuid, name, description, type, physical_interface, mtu, own_fields,
                            bridge_name, device_names, tunnelled, at_vm_time)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
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
_HOLD = _GET + " FOR SHARE"
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
_NOT_ON_THE_WIRE = {"own_fields", "deleted", "account_uuid", "vni", "tunnelled", "at_vm_time", "sort_", "key_"}
_MARK_DELETED = "UPDATE l2_network SET deleted = true WHERE uuid = $1 OR parent_uuid = $1"
# A network after what accounts had of it.
_PURGE = """
    DELETE FROM l2_network
    WHERE deleted AND NOT EXISTS (SELECT FROM realization WHERE l2_uuid = l2_network.uuid)
      AND NOT EXISTS (SELECT FROM nic WHERE l2_uuid = l2_network.uuid)
      AND NOT EXISTS (SELECT FROM l2_network AS child WHERE child.parent_uuid = l2_network.uuid)
    RETURNING parent_uuid
"""
_OF_ACCOUNTS = """
    SELECT DISTINCT l2_network.uuid
    FROM l2_network JOIN realization ON realization.l2_uuid = l2_network.uuid
    JOIN host ON host.uuid = realization.host_uuid
    WHERE l2_network.parent_uuid = $1 AND host.cluster_uuid = $2 AND realization.desired = 'present'
    ORDER BY l2_network.uuid
"""
_NICS_ON = """
    SELECT nic.uuid
    FROM nic JOIN l2_network ON l2_network.uuid = nic.l2_uuid
    JOIN host ON host.uuid IN (nic.host_uuid, nic.migrating_to_host_uuid)
    WHERE (l2_network.uuid = $1 OR l2_network.parent_uuid = $1) AND host.cluster_uuid = $2
      AND nic.state <> 'releasing'
    LIMIT 100
"""
_LISTING = Listing(
    select=_SELECT + "WHERE NOT deleted AND parent_uuid IS NULL",
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
)

_ATTACHMENT = "SELECT * FROM attachment WHERE l2_uuid = $1 AND cluster_uuid = $2 FOR UPDATE"
_ATTACHED_TO = "SELECT cluster_uuid, state FROM attachment WHERE l2_uuid = $1"
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


async def create(
    connection: Connection, network: L2NetworkInventory, *, tunnelled: bool, at_vm_time: bool
) -> L2NetworkInventory:
    """`tunnelled` and `at_vm_time`: as its type says of it."""
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
            tunnelled,
            at_vm_time,
        )
    return await get(connection, network.uuid)


async def get(connection: Connection, uuid: UUID) -> L2NetworkInventory:
    """Raises:
    NotFound: there is none.
    """
    network = await find(connection, uuid)
    if network is None:
        raise NotFound.of(KIND, uuid)
    return network


async def find(connection: Connection, uuid: UUID) -> L2NetworkInventory | None:
    row = await connection.fetchrow(_GET, uuid)
    return None if row is None else _inventory(row)


async def get_many(connection: Connection, uuids: list[UUID]) -> dict[UUID, L2NetworkInventory]:
    """By uuid, those deleted but not yet released everywhere included."""
    return {row["uuid"]: _inventory(row) for row in await connection.fetch(_GET_MANY, uuids)}


async def hold(connection: Connection, uuid: UUID) -> L2NetworkInventory:
    """The network, safe from being changed or deleted until the transaction ends.

    Raises:
        NotFound: there is none.
    """
    row = await connection.fetchrow(_HOLD, uuid)
    if row is None:
        raise NotFound.of(KIND, uuid)
    return _inventory(row)


async def lock(connection: Connection, uuid: UUID) -> L2NetworkInventory:
    """The network, locked for whoever changes it: no attach or detach of it begins meanwhile.

    Raises:
        NotFound: there is none.
    """
    await connection.fetchrow(_LOCK, uuid)
    return await get(connection, uuid)


async def query(connection: Connection, request: QueryL2) -> Page[L2NetworkInventory]:
    page = await list_page(connection, _LISTING, request, request.filters)
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


async def purge(connection: Connection) -> None:
    """Forget deleted networks that no host holds any more."""
    while any(row["parent_uuid"] for row in await connection.fetch(_PURGE)):
        pass  # the last that an account had of a network may be gone now, so the network itself can go


async def of_accounts(connection: Connection, uuid: UUID, cluster_uuid: UUID) -> list[UUID]:
    """What accounts have of a network with a VNI range and hosts of the cluster should have."""
    return [row["uuid"] for row in await connection.fetch(_OF_ACCOUNTS, uuid, cluster_uuid)]


async def nics_on(connection: Connection, uuid: UUID, cluster_uuid: UUID) -> list[UUID]:
    """Some of the VMs' NICs that use the network, or what an account has of it, on the cluster's hosts."""
    return [row["uuid"] for row in await connection.fetch(_NICS_ON, uuid, cluster_uuid)]


# ---- attachments -------------------------------------------------------------------------------------------------


async def attach(
    connection: Connection,
    network: L2NetworkInventory,
    cluster_uuid: UUID,
    claim: Claim,
    operation_uuid: UUID,
    *,
    tunnel_cidr: Cidr | None = None,
) -> None:
    """Commit to the intent: of several at the same moment that conflict, one gets through. Who is refused has to roll
    back.

    Raises:
        AlreadyExists: it is attached, or being attached. L2Conflict: `details.l2NetworkUuid` names the other.
    """
    if await rivals.stake(connection, cluster_uuid, claim, operation_uuid, tunnel_cidr):
        return
    former = await find_attachment(connection, network.uuid, cluster_uuid)
    if former is not None and former.operation_uuid != operation_uuid:
        raise AlreadyExists(
            f"L2 network {network.name} is {former.state} to this cluster already",
            state=former.state,
            l2NetworkUuid=str(network.uuid),
            clusterUuid=str(cluster_uuid),
        )
    found = await rivals.find(connection, [cluster_uuid], claim)
    raise found.get(cluster_uuid) or L2Conflict(
        "another attach of this network to this cluster was faster", l2NetworkUuid=str(network.uuid)
    )


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
    fields["owner_account_uuid"] = row["account_uuid"]
    own_fields = row["own_fields"] if row["vni"] is None else row["own_fields"] | {"vni": row["vni"], "vniRange": None}
    return L2NetworkInventory.model_validate(fields | own_fields)
