"""What is still to be done about NICs at IPAM, and the addresses that they have.

`todo` is `allocate` or `release`; `addresses` is `none` (IPAM was never asked), `asked` (it may have given some that
are not recorded), `held` (what it gave is recorded).
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any
from uuid import UUID

from viaduct_common.messages.base import ErrorBody
from viaduct_common.messages.ipam import UsedIpInventory
from viaduct_common.postgres.pool import Connection

Address = IPv4Address | IPv6Address

BATCH = 64

_ALLOCATE = """
    UPDATE nic SET todo = 'allocate', addresses = 'asked', due_at = now() WHERE operation_uuid = $1
"""
_RELEASE = """
    UPDATE nic SET state = 'releasing', todo = 'release', due_at = now(), error = NULL, migrating_to_host_uuid = NULL,
                   operation_uuid = $2
    WHERE uuid = ANY($1::uuid[])
"""
# Whoever claims one keeps it until his transaction ends; if he dies, Postgres frees it.
_CLAIM = """
    SELECT uuid, l3_uuid, l2_uuid, mac::text AS mac, todo, addresses, required_ips,
           ARRAY(SELECT uuid FROM nic_ip WHERE nic_uuid = nic.uuid) AS allocations
    FROM nic WHERE todo IS NOT NULL AND due_at <= now()
    ORDER BY due_at LIMIT $1
    FOR UPDATE SKIP LOCKED
"""
_RECORD = """
    INSERT INTO nic_ip (uuid, nic_uuid, ip, prefix_length, netmask, gateway) VALUES ($1, $2, $3, $4, $5, $6)
"""
# A NIC without a name gets one of its first address; should another be named so, one that is its own for sure.
_HELD = """
    WITH derived AS (SELECT ip_host_name(min(ip)) AS name FROM nic_ip WHERE nic_uuid = $1)
    UPDATE nic
    SET todo = NULL, addresses = 'held',
        host_name = coalesce(host_name, CASE WHEN EXISTS (
                SELECT FROM nic AS other
                WHERE other.l3_uuid = nic.l3_uuid AND lower(other.host_name) = derived.name
                  AND other.state <> 'releasing')
            THEN derived.name || '-' || left(nic.uuid::text, 8) ELSE derived.name END)
    FROM derived WHERE uuid = $1
"""
_REFUSED = "UPDATE nic SET todo = NULL, error = $2 WHERE uuid = $1"
_POSTPONE = "UPDATE nic SET due_at = now() + make_interval(secs => $2) WHERE uuid = $1"
_REMOVE = "DELETE FROM nic WHERE uuid = $1"


@dataclass(frozen=True)
class Claimed:
    """A NIC of which something is to be done; `allocations` are the uuids of its addresses at IPAM."""

    uuid: UUID
    l3_uuid: UUID
    l2_uuid: UUID
    mac: str
    todo: str
    addresses: str
    required_ips: tuple[Address, ...]
    allocations: tuple[UUID, ...]

    @property
    def asks_for_versions(self) -> bool:
        """What it is to get, or may have got, hangs on the IP versions of its L3 network."""
        return not self.required_ips and (self.todo == "allocate" or self.addresses == "asked")


async def allocate(connection: Connection, operation_uuid: UUID) -> None:
    """The NICs of an operation are to get their addresses."""
    await connection.execute(_ALLOCATE, operation_uuid)


async def release(connection: Connection, nic_uuids: list[UUID], operation_uuid: UUID) -> None:
    """The NICs are to go, and their addresses to be given back, whatever became of them."""
    await connection.execute(_RELEASE, nic_uuids, operation_uuid)


async def claim(connection: Connection) -> list[Claimed]:
    """Some of which something is to be done now, and nobody else is at it."""
    return [_claimed(row) for row in await connection.fetch(_CLAIM, BATCH)]


async def record(connection: Connection, nic_uuid: UUID, given: list[UsedIpInventory]) -> None:
    """The NIC has these addresses, and all that it should have."""
    rows = [(one.uuid, nic_uuid, one.ip, one.prefix_length, one.netmask, one.gateway) for one in given]
    await connection.executemany(_RECORD, rows)
    await connection.execute(_HELD, nic_uuid)


async def refuse(connection: Connection, nic_uuid: UUID, error: ErrorBody) -> None:
    """IPAM does not give it what it should have."""
    await connection.execute(_REFUSED, nic_uuid, error.model_dump(mode="json"))


async def postpone(connection: Connection, nic_uuid: UUID, seconds: float) -> None:
    await connection.execute(_POSTPONE, nic_uuid, seconds)


async def remove(connection: Connection, nic_uuid: UUID) -> None:
    """Nothing is left of it."""
    await connection.execute(_REMOVE, nic_uuid)


def _claimed(row: Any) -> Claimed:
    return Claimed(
        uuid=row["uuid"],
        l3_uuid=row["l3_uuid"],
        l2_uuid=row["l2_uuid"],
        mac=row["mac"],
        todo=row["todo"],
        addresses=row["addresses"],
        required_ips=tuple(row["required_ips"]),
        allocations=tuple(row["allocations"]),
    )
