"""What a request that began an operation is answered with."""

from typing import Any

from viaduct_common.bus import RequestContext
from viaduct_common.messages.base import WireModel
from viaduct_common.postgres.idempotency import Pending
from viaduct_common.postgres.pool import Connection
from viaduct_manager import conductor
from viaduct_manager.store import operations
from viaduct_manager.store.operations import Operation


async def outcome(
    connection: Connection,
    operation: Operation,
    context: RequestContext,
    *,
    wait: bool,
    value: WireModel | None = None,
) -> Any:
    """Move the operation on. `Pending` for a caller who waits for an end that is still to come; else `value`, by
    default the operation."""
    if await conductor.advance(connection, operation) and wait and context.may_defer:
        return Pending(operation.uuid)
    return value if value is not None else await operations.get(connection, operation.uuid)
