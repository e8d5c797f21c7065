"""`host.orphans`, `host.sweepOrphans`: what a host has and should not have."""

from typing import Any
from uuid import UUID, uuid4

from viaduct_common.bus import RequestContext
from viaduct_common.errors import HostUnreachable, InvalidRequest
from viaduct_common.messages.host import ListOrphans, SweepOrphans
from viaduct_common.postgres.idempotency import Pending
from viaduct_common.postgres.pool import Connection
from viaduct_manager import announce
from viaduct_manager.handlers.new import fresh_uuid
from viaduct_manager.model import moves
from viaduct_manager.store import hosts, operations, steps
from viaduct_manager.store.steps import NewStep


async def list_orphans(request: ListOrphans, connection: Connection, context: RequestContext) -> Any:
    # A question that is repeated is asked anew.
    return await _ask(connection, context, request, uuid4(), moves.ORPHANS)


async def sweep(request: SweepOrphans, connection: Connection, context: RequestContext) -> Any:
    uuid = fresh_uuid(None, context, "operation")
    return await _ask(connection, context, request, uuid, moves.SWEEP, sweep=True, force=request.force)


async def _ask(
    connection: Connection,
    context: RequestContext,
    request: ListOrphans | SweepOrphans,
    operation_uuid: UUID,
    type_: str,
    **options: bool,
) -> Pending:
    """Also of a host in maintenance: nothing is released there that it will have to have after."""
    if not context.may_defer:
        raise InvalidRequest.of_field("type", "a host cannot be asked inside a batch")
    host = await hosts.get(connection, request.uuid)
    if host.state != "connected":
        raise HostUnreachable(f"host {host.name} is {host.state}", hostUuid=str(host.uuid))
    operation = await operations.create(
        connection,
        operation_uuid,
        type_,
        phase=moves.INQUIRE,
        timeout_seconds=request.timeout_seconds,
        host_uuid=host.uuid,
        forced=options.get("force", False),
    )
    command_id = await announce.orphans(
        connection, host.uuid, lifetime_seconds=operation.seconds_left, operation_uuid=operation.uuid, **options
    )
    await steps.begin_phase(connection, operation.uuid, moves.INQUIRE, [NewStep(host.uuid, "pending", command_id)])
    return Pending(operation.uuid)
