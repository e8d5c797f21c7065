"""VMs' NICs in Postgres.

    preparing ─► ready ─► releasing ─► gone
        └────────────────────┘ when preparing fails

`store.nic_addresses` keeps what is still to be done about them at IPAM.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any
from uuid import UUID

import asyncpg

from viaduct_common.errors import Conflict
from viaduct_common.messages.l2 import L2NetworkInventory
from viaduct_common.messages.vm import NicIp, QueryNics
from viaduct_common.postgres.paging import Column, Listing, list_page
from viaduct_common.postgres.pool import Connection
from viaduct_manager.store import l2_networks

Address = IPv4Address | IPv6Address

# After so many choices that were taken the MACs are not the trouble.
MAC_ATTEMPTS = 32

_IPS = """
    (SELECT coalesce(jsonb_agg(jsonb_build_object(
                'uuid', uuid, 'ip', host(ip), 'ipVersion', family(ip), 'prefixLength', prefix_length,
                'netmask', host(netmask), 'gateway', host(gateway)) ORDER BY family(ip), ip), '[]')
     FROM nic_ip WHERE nic_uuid = nic.uuid) AS ips
"""
_PLACED = (
    "SELECT nic.*, nic.l3_uuid AS l3_network_uuid, nic.l2_uuid AS l2_network_uuid, cluster.backends, "
    "EXISTS (SELECT FROM l3_service WHERE l3_service.l3_uuid = nic.l3_uuid) AS served, "
    + _IPS
    + "FROM nic JOIN cluster ON cluster.uuid = (SELECT cluster_uuid FROM host WHERE host.uuid = {})"
)
_AT_HOST = _PLACED.format("nic.host_uuid")
_AT_DESTINATION = _PLACED.format("coalesce(nic.migrating_to_host_uuid, nic.host_uuid)")
_OF_VM = _AT_HOST + " WHERE nic.vm_uuid = $1 ORDER BY nic.device_index, nic.created_at, nic.uuid"
_GET_AT_HOST = _AT_HOST + " WHERE nic.uuid = ANY($1::uuid[])"
_GET_AT_DESTINATION = _AT_DESTINATION + " WHERE nic.uuid = ANY($1::uuid[])"
_OF_OPERATION = _AT_HOST + " WHERE nic.operation_uuid = $1 ORDER BY nic.device_index, nic.uuid"
_LISTING = Listing(
    select=_AT_HOST,
    columns={
        "uuid": Column("uuid", "uuid"),
        "vmUuid": Column("vm_uuid", "uuid"),
        "hostUuid": Column("host_uuid", "uuid"),
        "accountUuid": Column("account_uuid", "uuid"),
        "l3NetworkUuid": Column("l3_uuid", "uuid"),
        "l2NetworkUuid": Column("l2_uuid", "uuid"),
        "mac": Column("mac", "macaddr"),
        "createdAt": Column("created_at", "timestamptz"),
    },
    key=Column("uuid", "uuid"),
    default_sort="createdAt",
    where="page.state = 'ready'",
)
_ADD = """
    INSERT INTO nic (uuid, vm_uuid, host_uuid, account_uuid, l3_uuid, l2_uuid, device_index, device_name, mac, state,
                     operation_uuid, required_ips, is_default, host_name, created_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::text::macaddr, 'preparing', $10, $11, $12, $13, clock_timestamp())
    ON CONFLICT (l2_uuid, mac) WHERE state <> 'releasing' DO NOTHING
    RETURNING mac::text
"""
_READY = "UPDATE nic SET state = 'ready', operation_uuid = NULL WHERE operation_uuid = $1"
_BEGIN_MIGRATION = "UPDATE nic SET migrating_to_host_uuid = $2, operation_uuid = $3 WHERE uuid = ANY($1::uuid[])"
_END_OPERATION = "UPDATE nic SET operation_uuid = NULL WHERE operation_uuid = $1"
_MOVE = "UPDATE nic SET host_uuid = migrating_to_host_uuid, migrating_to_host_uuid = NULL WHERE uuid = ANY($1::uuid[])"
_STAY = "UPDATE nic SET migrating_to_host_uuid = NULL WHERE uuid = ANY($1::uuid[])"
_SET_DEFAULT = """
    UPDATE nic SET is_default = uuid = $2 WHERE vm_uuid = $1 AND state <> 'releasing' AND is_default <> (uuid = $2)
    RETURNING uuid
"""
# When the default NIC goes, the first of those that stay takes its place.
_HEAL_DEFAULT = """
    UPDATE nic SET is_default = true
    WHERE uuid = (SELECT uuid FROM nic WHERE vm_uuid = $1 AND state <> 'releasing' ORDER BY device_index LIMIT 1)
      AND NOT EXISTS (SELECT FROM nic WHERE vm_uuid = $1 AND state <> 'releasing' AND is_default)
    RETURNING uuid
"""
_ON_HOST = """
    SELECT uuid, vm_uuid FROM nic WHERE host_uuid = $1 OR migrating_to_host_uuid = $1 ORDER BY uuid LIMIT $2
"""
_ON_L3 = "SELECT uuid FROM nic WHERE l3_uuid = $1 ORDER BY uuid LIMIT $2"
# As many as a refusal names.
NAMED = 100


@dataclass(frozen=True)
class NewNic:
    uuid: UUID
    vm_uuid: UUID
    host_uuid: UUID
    account_uuid: UUID
    l3_uuid: UUID
    l2_uuid: UUID
    device_index: int
    device_name: str
    operation_uuid: UUID
    required_ips: tuple[Address, ...] = ()
    default: bool = True
    host_name: str | None = None


@dataclass(frozen=True)
class Nic:
    """A NIC, and what of its network and cluster is needed to plug it in. `backends` by L2 type; `served`: its L3
    network has services."""

    uuid: UUID
    vm_uuid: UUID
    host_uuid: UUID
    migrating_to_host_uuid: UUID | None
    account_uuid: UUID
    l3_uuid: UUID
    device_index: int
    device_name: str
    default: bool
    host_name: str | None
    served: bool
    mac: str
    state: str
    operation_uuid: UUID | None
    addresses: str
    todo: str | None
    error: dict[str, Any] | None
    ips: tuple[NicIp, ...]
    network: L2NetworkInventory
    backends: dict[str, str]
    created_at: Any

    @property
    def l2_uuid(self) -> UUID:
        """Of the network that hosts realise."""
        return self.network.uuid


async def of_vm(connection: Connection, vm_uuid: UUID) -> list[Nic]:
    """All of a VM's, those included that only wait for IPAM, in the order of their places."""
    return await _nics(connection, await connection.fetch(_OF_VM, vm_uuid))


async def of_operation(connection: Connection, operation_uuid: UUID) -> list[Nic]:
    return await _nics(connection, await connection.fetch(_OF_OPERATION, operation_uuid))


async def get(connection: Connection, uuids: list[UUID], *, at_destination: bool = False) -> list[Nic]:
    """In the order in which they are named; those that are gone are left out.

    Args:
        at_destination: as they are plugged in on the host that they are being moved to.
    """
    found = await connection.fetch(_GET_AT_DESTINATION if at_destination else _GET_AT_HOST, uuids)
    nic_by_uuid = {nic.uuid: nic for nic in await _nics(connection, found)}
    return [nic_by_uuid[uuid] for uuid in uuids if uuid in nic_by_uuid]


async def query(connection: Connection, request: QueryNics) -> tuple[list[Nic], str | None]:
    """One page, and the cursor of the next."""
    page = await list_page(connection, _LISTING, request, request.filters)
    return await _nics(connection, page.rows), page.after


async def add(connection: Connection, nic: NewNic, macs: list[str]) -> str | None:
    """Record a NIC with the first of these MACs that is free on its network; None if none is.

    Raises:
        Conflict: its host name is another NIC's on the L3 network (`details.hostName`); or its place in the VM, or its
            device's name, was taken by another request just now.
    """
    for mac in macs:
        try:
            async with connection.transaction():
                given: str | None = await connection.fetchval(
                    _ADD,
                    nic.uuid,
                    nic.vm_uuid,
                    nic.host_uuid,
                    nic.account_uuid,
                    nic.l3_uuid,
                    nic.l2_uuid,
                    nic.device_index,
                    nic.device_name,
                    mac,
                    nic.operation_uuid,
                    list(nic.required_ips),
                    nic.default,
                    nic.host_name,
                )
        except asyncpg.UniqueViolationError as error:
            if error.constraint_name == "nic_host_name":
                raise Conflict(
                    f"host name {nic.host_name} is another NIC's on this L3 network",
                    hostName=nic.host_name,
                    l3NetworkUuid=str(nic.l3_uuid),
                ) from error
            raise Conflict(
                f"NIC {nic.device_index} of VM {nic.vm_uuid} is there already", vmUuid=nic.vm_uuid
            ) from error
        if given is not None:
            return given
    return None


async def set_default(connection: Connection, vm_uuid: UUID, nic_uuid: UUID) -> list[UUID]:
    """This NIC carries the VM's default route, and no other; return those of which that is news."""
    return [row["uuid"] for row in await connection.fetch(_SET_DEFAULT, vm_uuid, nic_uuid)]


async def heal_default(connection: Connection, vm_uuid: UUID) -> list[UUID]:
    """NICs of the VM are going: the first of those that stay is the default if none is; return it then."""
    return [row["uuid"] for row in await connection.fetch(_HEAL_DEFAULT, vm_uuid)]


async def mark_ready(connection: Connection, operation_uuid: UUID) -> None:
    await connection.execute(_READY, operation_uuid)


async def begin_migration(connection: Connection, uuids: list[UUID], host_uuid: UUID, operation_uuid: UUID) -> None:
    await connection.execute(_BEGIN_MIGRATION, uuids, host_uuid, operation_uuid)


async def end_operation(connection: Connection, operation_uuid: UUID) -> None:
    """The NICs are nobody's concern any more."""
    await connection.execute(_END_OPERATION, operation_uuid)


async def move(connection: Connection, uuids: list[UUID]) -> None:
    """From here on they are on the host that they were being moved to."""
    await connection.execute(_MOVE, uuids)


async def stay(connection: Connection, uuids: list[UUID]) -> None:
    """They are not being moved any more."""
    await connection.execute(_STAY, uuids)


async def on_host(connection: Connection, host_uuid: UUID) -> list[tuple[UUID, UUID]]:
    """(NIC, VM) of what is on a host or being moved to it, `NAMED` at most; those that wait for IPAM included."""
    return [(row["uuid"], row["vm_uuid"]) for row in await connection.fetch(_ON_HOST, host_uuid, NAMED)]


async def on_l3(connection: Connection, l3_uuid: UUID) -> list[UUID]:
    """NICs on an L3 network, `NAMED` at most; those that wait for IPAM included."""
    return [row["uuid"] for row in await connection.fetch(_ON_L3, l3_uuid, NAMED)]


async def _nics(connection: Connection, rows: list[Any]) -> list[Nic]:
    networks = await l2_networks.get_many(connection, list({row["l2_uuid"] for row in rows})) if rows else {}
    return [
        Nic(
            uuid=row["uuid"],
            vm_uuid=row["vm_uuid"],
            host_uuid=row["host_uuid"],
            migrating_to_host_uuid=row["migrating_to_host_uuid"],
            account_uuid=row["account_uuid"],
            l3_uuid=row["l3_uuid"],
            device_index=row["device_index"],
            device_name=row["device_name"],
            default=row["is_default"],
            host_name=row["host_name"],
            served=row["served"],
            mac=str(row["mac"]),
            state=row["state"],
            operation_uuid=row["operation_uuid"],
            addresses=row["addresses"],
            todo=row["todo"],
            error=row["error"],
            ips=tuple(NicIp.model_validate(ip) for ip in row["ips"]),
            network=networks[row["l2_uuid"]],
            backends=row["backends"],
            created_at=row["created_at"],
        )
        for row in rows
    ]
