"""`host.move`: the host is of another cluster from one moment to the next, and converges to what that one has."""

from typing import Any
from uuid import UUID

from viaduct_common.bus import RequestContext
from viaduct_common.errors import Conflict, InUse, NotFound, PreconditionFailed
from viaduct_common.messages.cluster import ClusterInventory
from viaduct_common.messages.host import HostInventory, MoveHost
from viaduct_common.postgres.pool import Connection
from viaduct_manager import announce, conductor, peers
from viaduct_manager.handlers.new import fresh_uuid
from viaduct_manager.handlers.outcomes import outcome
from viaduct_manager.model import moves
from viaduct_manager.network_services.api import Change
from viaduct_manager.network_services.registry import NetworkServices
from viaduct_manager.store import clusters, hosts, membership, operations, steps
from viaduct_manager.store.steps import NewStep


async def move(request: MoveHost, connection: Connection, context: RequestContext, *, services: NetworkServices) -> Any:
    """One transaction moves the host; an operation of one step follows what it does about that."""
    found = await hosts.get(connection, request.uuid)
    # Exclusively, so that neither cluster's networks, nor any host of them, changes meanwhile.
    locked = {
        uuid: await clusters.lock(connection, uuid) for uuid in sorted({found.cluster_uuid, request.cluster_uuid})
    }
    host = await hosts.find_locked(connection, request.uuid)
    if host is None:
        raise NotFound.of("host", request.uuid)
    if host.cluster_uuid == request.cluster_uuid:
        return host
    former, latter = locked.get(host.cluster_uuid), locked[request.cluster_uuid]
    if former is None:
        raise Conflict(f"host {host.name} is being moved by another request", clusterUuid=str(host.cluster_uuid))
    _refuse_unfit(former, latter)
    await _refuse_busy(connection, host, latter.uuid)
    host = await hosts.move(connection, host.uuid, latter.uuid)
    changed = await membership.resettle(connection, host.uuid, former.uuid, latter.uuid)
    await peers.mark_stale(connection, changed, at_once=True)
    await services.changed(connection, Change(host_uuids=frozenset({host.uuid})))
    operation = await operations.create(
        connection,
        fresh_uuid(None, context, "operation"),
        moves.MOVE_HOST,
        phase=moves.REALIZE,
        timeout_seconds=request.timeout_seconds,
        cluster_uuid=latter.uuid,
        host_uuid=host.uuid,
    )
    asked = NewStep(host.uuid, "skipped")  # it converges when it returns
    if host.state == "connected" and not host.maintenance:
        asked = NewStep(host.uuid, "pending", await announce.sync(connection, host.uuid, operation_uuid=operation.uuid))
    await steps.begin_phase(connection, operation.uuid, moves.REALIZE, [asked])
    await announce.event(connection, "host.updated", host)
    await conductor.advance(connection, operation.uuid)
    return await outcome(connection, operation.uuid, context, wait=request.wait, value=host)


def _refuse_unfit(former: ClusterInventory, latter: ClusterInventory) -> None:
    if former.zone_uuid != latter.zone_uuid:
        raise PreconditionFailed(
            f"cluster {latter.name} lies in another zone",
            field="clusterUuid",
            zoneUuid=str(former.zone_uuid),
            clusterZoneUuid=str(latter.zone_uuid),
        )
    if former.hypervisor_type != latter.hypervisor_type:
        raise PreconditionFailed(
            f"cluster {latter.name} is of {latter.hypervisor_type}",
            field="clusterUuid",
            hypervisorType=former.hypervisor_type,
        )


async def _refuse_busy(connection: Connection, host: HostInventory, latter_uuid: UUID) -> None:
    under_way = await steps.changing_host(connection, host.uuid, moves.INQUIRIES)
    if under_way:
        raise Conflict(
            f"host {host.name} is busy with {len(under_way)} operations: wait for them",
            operationUuids=[str(uuid) for uuid in under_way],
        )
    stranded = await membership.stranded_nics(connection, host.uuid, host.cluster_uuid, latter_uuid)
    if stranded:
        raise InUse(
            f"{len(stranded)} NICs on host {host.name} are in networks that cluster has not, or builds otherwise",
            nicUuids=[str(nic) for nic, _ in stranded],
            l2NetworkUuids=sorted({str(l2) for _, l2 in stranded}),
        )
