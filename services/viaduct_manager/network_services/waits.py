"""`service.await`: who waits for services is answered when they have settled. Nothing is held meanwhile.

Any number of managers may run the duty. What is waited for stands in Postgres; who asked stands there, too, and asks
again should his question have been lost.
"""

from collections.abc import Callable
from uuid import UUID

from viaduct_common.errors import DeadlineExceeded
from viaduct_common.messages.base import ErrorReply
from viaduct_common.postgres.idempotency import ok_reply
from viaduct_common.postgres.pool import Connection, Pool, transaction
from viaduct_common.postgres.wakeful import Wakeful
from viaduct_manager import conductor
from viaduct_manager.store import operations, service_waits, services

POLL_SECONDS = 0.5
AT_ONCE = 64


class ServiceWaits:
    """Args:
    committed: called after each commit (wakes the outbox relay).
    """

    def __init__(self, pool: Pool, committed: Callable[[], None]) -> None:
        self._pool = pool
        self._committed = committed
        self._waiting = False
        self._loop = Wakeful("service waits", self._look, poll_seconds=POLL_SECONDS)

    def wake(self) -> None:
        """Something was committed: if anybody waits, look at once."""
        if self._waiting:
            self._loop.wake()

    async def run(self) -> None:
        """Until cancelled."""
        await self._loop.run()

    async def _look(self) -> bool:
        async with transaction(self._pool) as connection:
            self._waiting, due = await service_waits.awaited(connection, AT_ONCE)
        for operation_uuid in due:
            async with transaction(self._pool) as connection:
                await end_if_settled(connection, operation_uuid)
            self._committed()
        return False


async def end_if_settled(connection: Connection, operation_uuid: UUID) -> None:
    operation = await operations.lock(connection, operation_uuid)
    if operation is None:
        return
    stands = await service_waits.look(connection, operation_uuid)
    if not stands.unsettled:
        found = await services.of_services(connection, await service_waits.awaited_by(connection, operation_uuid))
        await operations.finish(connection, operation_uuid, "succeeded", None)
        await conductor.tell(connection, operation, ok_reply(found))
    elif operation.seconds_left <= 0:
        error = DeadlineExceeded("services have not settled within the request's time").to_body()
        await operations.finish(connection, operation_uuid, "failed", error)
        await conductor.tell(connection, operation, ErrorReply(error=error).to_json())
