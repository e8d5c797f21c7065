"""`host.*`."""

from typing import Any

from viaduct_common.bus import BusError, RequestContext
from viaduct_common.errors import InUse, InvalidRequest
from viaduct_common.messages.base import Page
from viaduct_common.messages.host import (
    CreateHost,
    DeleteHost,
    GetHost,
    HostInventory,
    QueryHosts,
    SetHostMaintenance,
    UpdateHost,
)
from viaduct_common.postgres.idempotency import Pending
from viaduct_common.postgres.pool import Connection
from viaduct_manager import announce, conductor, peers, service_orders
from viaduct_manager.enrolment import Enrolment, EnrolmentFailed
from viaduct_manager.handlers.new import fresh_uuid
from viaduct_manager.model import moves
from viaduct_manager.network_services.api import Change
from viaduct_manager.network_services.registry import NetworkServices
from viaduct_manager.store import hosts, nics, operations, realizations, revocations, services
from viaduct_manager.store.steps import NewStep


class HostHandlers:
    def __init__(self, enrolment: Enrolment, services: NetworkServices) -> None:
        self._enrolment = enrolment
        self._services = services

    async def create(self, request: CreateHost, connection: Connection, context: RequestContext) -> HostInventory:
        """The row first (it refuses what is wrong), then the broker (which can be repeated), then the commit."""
        host = await hosts.create(connection, fresh_uuid(request.uuid, context, "host"), request)
        await revocations.cancel(connection, host.uuid)  # of a former host of this uuid
        try:
            credentials = await self._enrolment.enrol(host.uuid)
        except BusError as error:
            raise EnrolmentFailed(f"the host's queue could not be declared: {error}") from error
        await announce.event(connection, "host.created", host)
        return host.model_copy(update={"credentials": credentials})

    async def get(self, request: GetHost, connection: Connection, context: RequestContext) -> HostInventory:
        return await hosts.get(connection, request.uuid)

    async def query(self, request: QueryHosts, connection: Connection, context: RequestContext) -> Page[HostInventory]:
        return await hosts.query(connection, request)

    async def update(self, request: UpdateHost, connection: Connection, context: RequestContext) -> HostInventory:
        if request.tunnel_ip is not None:
            # What its cluster has must not change between the new end and the marks.
            await hosts.hold_cluster(connection, request.uuid)
        host = await hosts.update(connection, request)
        if request.tunnel_ip is not None:
            await peers.mark_host(connection, host.uuid)
        if request.labels is not None:  # what may be on it, and what it may have, can hang on them
            await self._services.changed(connection, Change(host_uuids=frozenset({host.uuid})))
        await announce.event(connection, "host.updated", host)
        return host

    async def set_maintenance(
        self, request: SetHostMaintenance, connection: Connection, context: RequestContext
    ) -> HostInventory:
        await hosts.hold_cluster(connection, request.uuid)
        host = await hosts.set_maintenance(connection, request.uuid, request.maintenance)
        if request.maintenance:
            await conductor.skip_host(connection, host.uuid, "the host was put into maintenance")
        elif host.state == "connected":
            new = await realizations.desire_on_host(connection, host.uuid)
            await peers.mark_stale(connection, new, at_once=True)
            await announce.sync(connection, host.uuid)
            await service_orders.sync_if_any(connection, host.uuid)
        await self._services.changed(connection, Change(host_uuids=frozenset({host.uuid})))
        await announce.event(connection, "host.updated", host)
        return host

    async def delete(self, request: DeleteHost, connection: Connection, context: RequestContext) -> Any:
        await hosts.hold_cluster(connection, request.uuid)
        host = await hosts.find_locked(connection, request.uuid)
        if host is None:
            return None
        if users := await nics.on_host(connection, host.uuid):
            raise InUse(
                f"VMs have NICs on host {host.name}: release or migrate them first, also if the host is lost",
                hostUuid=str(host.uuid),
                nicUuids=[str(nic_uuid) for nic_uuid, _ in users],
                vmUuids=[str(vm_uuid) for vm_uuid in dict.fromkeys(vm_uuid for _, vm_uuid in users)],
            )
        await hosts.mark_deleting(connection, host.uuid)
        await realizations.undesire_on_host(connection, host.uuid)
        await peers.mark_host(connection, host.uuid)
        await self._services.changed(connection, Change(host_uuids=frozenset({host.uuid})))
        served = await services.undesire_on_host(connection, host.uuid)
        operation = await operations.create(
            connection,
            fresh_uuid(None, context, "operation"),
            moves.DELETE_HOST,
            phase=moves.RELEASE,
            timeout_seconds=request.timeout_seconds,
            host_uuid=host.uuid,
        )
        if served and host.state == "connected":
            command_id = await service_orders.sync(connection, host.uuid, operation_uuid=operation.uuid)
            asked = NewStep(host.uuid, "pending", command_id)
            operation = await conductor.begin(connection, operation, moves.SERVICES, [asked])
        else:
            operation = await conductor.release_host(connection, operation, host)
        if not await conductor.advance(connection, operation):
            return host
        if not context.may_defer:
            raise InvalidRequest.of_field("type", "a connected host cannot be removed inside a batch")
        return Pending(operation.uuid)
