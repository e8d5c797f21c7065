"""What a request that began an operation is answered with."""

from typing import Any
from uuid import UUID

from viaduct_common.bus import RequestContext
from viaduct_common.messages.base import WireModel
from viaduct_common.postgres.idempotency import Pending
from viaduct_common.postgres.pool import Connection
from viaduct_manager.store import operations


async def outcome(
    connection: Connection,
    operation_uuid: UUID,
    context: RequestContext,
    *,
    wait: bool,
    value: WireModel | None = None,
) -> Any:
    """`Pending` for a caller who waits for an end that is still to come; else `value`, by default the operation."""
    running = await operations.lock(connection, operation_uuid) is not None
    if running and wait and context.may_defer:
        return Pending(operation_uuid)
    return value if value is not None else await operations.get(connection, operation_uuid)
