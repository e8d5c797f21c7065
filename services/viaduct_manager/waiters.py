"""Who waits for the end of an operation."""

from uuid import UUID

from viaduct_common.bus import RequestContext
from viaduct_common.postgres.pool import Connection
from viaduct_manager.store import operations


class OperationWaiters:
    async def add(self, connection: Connection, operation_uuid: UUID, context: RequestContext) -> None:
        await operations.add_waiter(
            connection, operation_uuid, context.reply_to or "", context.correlation_id or str(context.message_id)
        )
