"""What operations about VMs' networks have beside the others: their NICs, and whether something is to be done."""

from typing import Any
from uuid import UUID

import asyncpg

from viaduct_common.errors import Conflict
from viaduct_common.postgres.pool import Connection
from viaduct_manager.store import operations, service_waits
from viaduct_manager.store.operations import Operation

# Requests about one VM take turns.
_LOCK_VM = "SELECT pg_advisory_xact_lock(hashtextextended('vm ' || $1::text, 0))"
_RUNNING = "SELECT uuid FROM operation WHERE vm_uuid = $1 AND state = 'running'"
_SET_VM = "UPDATE operation SET vm_uuid = $2 WHERE uuid = $1"
_INSERT = "INSERT INTO vm_operation (operation_uuid, nic_uuids, released) VALUES ($1, $2, $3)"
_GET = "SELECT nic_uuids, released FROM vm_operation WHERE operation_uuid = $1"
# Asked of what there is, not of who was told: whatever changes it, nobody can forget to say so.
_DUE = f"""
    SELECT operation.uuid FROM operation
    WHERE operation.state = 'running' AND operation.vm_uuid IS NOT NULL
      AND (operation.deadline_at <= now()
           OR operation.phase = 'realize' AND (operation.pending = 0 OR NOT EXISTS (
               SELECT FROM nic JOIN realization
                   ON realization.l2_uuid = nic.l2_uuid AND realization.host_uuid = operation.host_uuid
               WHERE nic.operation_uuid = operation.uuid AND realization.desired = 'present'
                 AND realization.state IN ('pending', 'realizing')))
           OR operation.phase = 'services' AND EXISTS (
               SELECT FROM service_wait WHERE service_wait.operation_uuid = operation.uuid AND {service_waits.DUE})
           OR operation.phase IN ('allocate', 'release', 'rollback') AND NOT EXISTS (
               SELECT FROM nic WHERE nic.operation_uuid = operation.uuid AND nic.todo IS NOT NULL))
    LIMIT $1
"""


async def lock_vm(connection: Connection, vm_uuid: UUID) -> None:
    """Take the turn of a VM, until the transaction ends.

    Raises:
        Conflict: an operation about it runs; retryable, `details.operationUuid` names it.
    """
    await connection.execute(_LOCK_VM, str(vm_uuid))
    running = await connection.fetchval(_RUNNING, vm_uuid)
    if running is not None:
        raise _running(vm_uuid, running)


async def create(
    connection: Connection,
    uuid: UUID,
    type_: str,
    *,
    vm_uuid: UUID,
    host_uuid: UUID,
    phase: str,
    timeout_seconds: float,
    nic_uuids: list[UUID],
    action: str | None = None,
    released: list[Any] | None = None,
) -> Operation:
    """A new operation, running, locked by whoever made it.

    Args:
        nic_uuids: the NICs of its answer, in order.
        released: inventories that it is answered with, of NICs that will be gone then.
    """
    operation = await operations.create(
        connection, uuid, type_, phase=phase, timeout_seconds=timeout_seconds, host_uuid=host_uuid, action=action
    )
    try:
        await connection.execute(_SET_VM, uuid, vm_uuid)
    except asyncpg.UniqueViolationError as error:
        raise _running(vm_uuid, None) from error
    await connection.execute(_INSERT, uuid, nic_uuids, released)
    return operation


async def get(connection: Connection, uuid: UUID) -> tuple[list[UUID], list[Any] | None]:
    """(nic_uuids, released) as they were given to `create`."""
    row = await connection.fetchrow(_GET, uuid)
    return row["nic_uuids"], row["released"]


async def due(connection: Connection, limit: int) -> list[UUID]:
    """Running ones of which something is to be done: what they waited for is there, or will not come."""
    return [row["uuid"] for row in await connection.fetch(_DUE, limit)]


def _running(vm_uuid: UUID, operation_uuid: UUID | None) -> Conflict:
    error = Conflict(
        f"an operation about the networks of VM {vm_uuid} runs: repeat this when it has ended",
        vmUuid=str(vm_uuid),
        operationUuid=None if operation_uuid is None else str(operation_uuid),
    )
    error.retryable = True
    return error
