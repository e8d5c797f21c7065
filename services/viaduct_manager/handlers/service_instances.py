"""`service.query`, `service.check`, `service.await`: nothing here changes anything."""

from typing import Any
from uuid import UUID, uuid4

from viaduct_common.bus import RequestContext
from viaduct_common.errors import InvalidRequest
from viaduct_common.messages.base import Page
from viaduct_common.messages.services.instances import AwaitServices, CheckServices, QueryServices, ServiceInventory
from viaduct_common.postgres.idempotency import Pending
from viaduct_common.postgres.pool import Connection
from viaduct_manager import conductor, service_orders
from viaduct_manager.model import moves
from viaduct_manager.network_services.api import Change
from viaduct_manager.network_services.registry import NetworkServices
from viaduct_manager.network_services.waits import end_if_settled
from viaduct_manager.store import hosts, operations, service_inquiries, service_marks, service_waits, services, steps
from viaduct_manager.store.steps import NewStep


class ServiceInstanceHandlers:
    def __init__(self, services_: NetworkServices) -> None:
        self._services = services_

    async def query(
        self, request: QueryServices, connection: Connection, context: RequestContext
    ) -> Page[ServiceInventory]:
        return await services.query(connection, request)

    async def check(self, request: CheckServices, connection: Connection, context: RequestContext) -> Any:
        uuids = await self._asked(connection, request)
        asked = await services.wanted(connection, service_uuids=uuids, host_uuid=request.host_uuid)
        if not asked:
            return []
        if not context.may_defer:
            raise InvalidRequest.of_field("type", "hosts cannot be asked inside a batch")
        operation = await operations.create(
            connection,
            uuid4(),  # a question that is repeated is asked anew
            moves.CHECK_SERVICES,
            phase=moves.INQUIRE,
            timeout_seconds=request.timeout_seconds,
            host_uuid=request.host_uuid,
        )
        there = await hosts.states(connection)
        commands = await service_orders.inquire(
            connection,
            [one for one in asked if there.get(one.host_uuid) == "connected"],
            lifetime_seconds=operation.seconds_left,
            operation_uuid=operation.uuid,
        )
        await service_inquiries.add(connection, operation.uuid, asked, commands)
        reached = {host_uuid for host_uuid, _ in commands}
        begun = [
            NewStep(host_uuid, "pending" if host_uuid in reached else "skipped")
            for host_uuid in sorted({one.host_uuid for one in asked})
        ]
        await steps.begin_phase(connection, operation.uuid, moves.INQUIRE, begun)
        await conductor.advance(connection, operation.uuid)
        if await operations.lock(connection, operation.uuid) is None:
            return await service_inquiries.answers(connection, operation.uuid)
        return Pending(operation.uuid)

    async def wait(self, request: AwaitServices, connection: Connection, context: RequestContext) -> Any:
        uuids = await self._of_subject(connection, request.subject_uuid)
        if not uuids:
            return []
        operation = await operations.create(
            connection,
            uuid4(),
            moves.AWAIT_SERVICES,
            phase=moves.SERVICES,
            timeout_seconds=request.timeout_seconds,
        )
        await service_waits.add(connection, operation.uuid, uuids, await service_marks.last(connection, uuids))
        await end_if_settled(connection, operation.uuid)
        if await operations.lock(connection, operation.uuid) is None:
            return await services.of_services(connection, uuids)
        if not context.may_defer:
            raise InvalidRequest.of_field("type", "services cannot be waited for inside a batch")
        return Pending(operation.uuid)

    # ---- parts ---------------------------------------------------------------------------------------------------

    async def _asked(self, connection: Connection, request: CheckServices) -> list[UUID] | None:
        """None: all of the host.

        Raises:
            InvalidRequest: nothing says which.
        """
        if request.subject_uuid is not None:
            found = await self._of_subject(connection, request.subject_uuid)
            return found if request.service_uuid is None else [one for one in found if one == request.service_uuid]
        if request.service_uuid is not None:
            return [request.service_uuid]
        if request.host_uuid is None:
            raise InvalidRequest.of_field("subjectUuid", "one of serviceUuid, subjectUuid and hostUuid is needed")
        return None

    async def _of_subject(self, connection: Connection, subject_uuid: UUID) -> list[UUID]:
        """The instances that are for it, those that providers say it concerns, and those that are still there."""
        one = frozenset({subject_uuid})
        touched = await self._services.touched(connection, Change(l3_uuids=one, nic_uuids=one, subjects=one))
        return sorted({key.uuid for key in touched} | set(await services.of_subject(connection, subject_uuid)))
