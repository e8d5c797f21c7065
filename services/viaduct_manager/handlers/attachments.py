"""`l2.attach`, `.detach`, `.check`, `.plan`: commit the intent, ask the hosts, answer when the operation ends."""

from typing import Any
from uuid import UUID, uuid4

from viaduct_common.bus import RequestContext
from viaduct_common.errors import Conflict, InUse, InvalidRequest, NotFound
from viaduct_common.messages.cluster import ClusterInventory
from viaduct_common.messages.l2 import AttachL2, CheckL2, DetachL2, L2NetworkInventory, L2Plan, PlanL2
from viaduct_common.postgres.idempotency import Pending
from viaduct_common.postgres.pool import Connection
from viaduct_manager import answers, conductor
from viaduct_manager.handlers.changes import refuse_during_change
from viaduct_manager.handlers.l2_networks import L2Handlers, refuse_of_account
from viaduct_manager.handlers.new import fresh_uuid
from viaduct_manager.handlers.outcomes import outcome
from viaduct_manager.model import moves
from viaduct_manager.store import clusters, hosts, l2_networks, operations, realizations, rivals, services
from viaduct_manager.store.operations import Operation


class AttachmentHandlers:
    def __init__(self, l2_handlers: L2Handlers) -> None:
        self._l2 = l2_handlers

    async def attach(self, request: AttachL2, connection: Connection, context: RequestContext) -> Any:
        network = await l2_networks.hold(connection, request.l2_network_uuid)
        refuse_of_account(network, "l2NetworkUuid")
        self._l2.check_tunnel_cidr(network, request.tunnel_cidr)
        await refuse_during_change(connection, network)
        cluster = await clusters.lock(connection, request.cluster_uuid)
        if (error := self._l2.unfit(network, cluster)) is not None:
            raise error
        operation = await self._begin(
            connection, context, request, moves.ATTACH, moves.PREFLIGHT, on_failure=request.on_failure
        )
        await l2_networks.attach(
            connection,
            network,
            cluster.uuid,
            self._l2.claim(network),
            operation.uuid,
            tunnel_cidr=request.tunnel_cidr,
        )
        operation = await self._ask_reachable(connection, operation, network, cluster.uuid, "realize")
        return await outcome(connection, operation, context, wait=request.wait)

    async def detach(self, request: DetachL2, connection: Connection, context: RequestContext) -> Any:
        network = await l2_networks.hold(connection, request.l2_network_uuid)
        refuse_of_account(network, "l2NetworkUuid")
        cluster = await clusters.lock(connection, request.cluster_uuid)
        attachment = await l2_networks.find_attachment(connection, network.uuid, cluster.uuid)
        if attachment is None:
            raise NotFound(
                f"L2 network {network.name} is not attached to cluster {cluster.name}",
                kind="attachment",
                l2NetworkUuid=str(network.uuid),
                clusterUuid=str(cluster.uuid),
            )
        if attachment.operation_uuid is not None:
            raise Conflict(
                f"L2 network {network.name} is {attachment.state} to this cluster: wait for its operation",
                operationUuid=str(attachment.operation_uuid),
                state=attachment.state,
            )
        if not request.force:
            await self._refuse_with_nics(connection, network, cluster)
            await self._refuse_with_services(connection, network, cluster)
        operation = await self._begin(connection, context, request, moves.DETACH, moves.PREFLIGHT, forced=request.force)
        await l2_networks.set_attachment(connection, network.uuid, cluster.uuid, "detaching", operation.uuid)
        if request.force:
            operation = await conductor.begin(connection, operation, moves.PREFLIGHT, [])
        else:
            operation = await self._ask_reachable(connection, operation, network, cluster.uuid, "release")
        return await outcome(connection, operation, context, wait=request.wait)

    async def check(self, request: CheckL2, connection: Connection, context: RequestContext) -> Any:
        network = await l2_networks.get(connection, request.l2_network_uuid)
        cluster_uuids = await self._clusters_to_check(connection, request, network)
        states = await hosts.states(connection, cluster_uuids=cluster_uuids, host_uuid=request.host_uuid)
        if network.parent_uuid is not None:  # not every host of the cluster has what an account has
            having = await realizations.hosts_of(connection, network.uuid)
            states = {host_uuid: state for host_uuid, state in states.items() if host_uuid in having}
        operation = await operations.create(
            connection,
            uuid4(),  # a question that is repeated is asked anew,
            moves.CHECK,
            phase=moves.INQUIRE,
            timeout_seconds=request.timeout_seconds,
            l2_uuid=network.uuid,
            cluster_uuid=request.cluster_uuid,
            host_uuid=request.host_uuid,
        )
        operation = await conductor.inquire(
            connection,
            operation,
            network,
            phase=moves.INQUIRE,
            action="realize",
            host_states=self._asked(network, states),
        )
        return await self._inquiry_outcome(connection, operation, context)

    async def plan(self, request: PlanL2, connection: Connection, context: RequestContext) -> Any:
        network = await l2_networks.get(connection, request.l2_network_uuid)
        refuse_of_account(network, "l2NetworkUuid")
        self._l2.check_tunnel_cidr(network, request.tunnel_cidr)
        cluster = await clusters.get(connection, request.cluster_uuid)
        if request.action == "attach":
            if (error := self._l2.unfit(network, cluster)) is not None:
                raise error
            conflicts = await rivals.find(connection, [cluster.uuid], self._l2.claim(network))
            if cluster.uuid in conflicts:
                raise conflicts[cluster.uuid]
        states = await hosts.states(connection, cluster_uuids=[cluster.uuid])
        operation = await operations.create(
            connection,
            uuid4(),
            moves.PLAN,
            phase=moves.INQUIRE,
            timeout_seconds=request.timeout_seconds,
            l2_uuid=network.uuid,
            cluster_uuid=cluster.uuid,
            action=request.action,
        )
        operation = await conductor.inquire(
            connection,
            operation,
            network,
            phase=moves.INQUIRE,
            action="realize" if request.action == "attach" else "release",
            host_states=self._asked(network, states),
            joining=cluster.uuid if request.action == "attach" else None,
            cidr=request.tunnel_cidr,
        )
        return await self._inquiry_outcome(connection, operation, context)

    # ---- parts ---------------------------------------------------------------------------------------------------

    async def _begin(
        self,
        connection: Connection,
        context: RequestContext,
        request: AttachL2 | DetachL2,
        type_: str,
        phase: str,
        **options: Any,
    ) -> Operation:
        return await operations.create(
            connection,
            fresh_uuid(None, context, "operation"),
            type_,
            phase=phase,
            timeout_seconds=request.timeout_seconds,
            l2_uuid=request.l2_network_uuid,
            cluster_uuid=request.cluster_uuid,
            **options,
        )

    async def _ask_reachable(
        self,
        connection: Connection,
        operation: Operation,
        network: L2NetworkInventory,
        cluster_uuid: UUID,
        action: str,
    ) -> Operation:
        """The pre-flight: every host that could be told to do it says first whether it can.

        A host that refuses does not touch anything: where there is one host, and no peer of it to be told of it, it is
        told at once.
        """
        reachable = await hosts.reachable(connection, cluster_uuids=[cluster_uuid])
        if action == "realize" and len(reachable) == 1 and not self._l2.is_tunnelled(network):
            return await conductor.begin(connection, operation, moves.PREFLIGHT, [])
        return await conductor.inquire(
            connection,
            operation,
            network,
            phase=moves.PREFLIGHT,
            action=action,
            host_states=self._asked(network, dict.fromkeys(reachable, "connected")),
            joining=cluster_uuid if action == "realize" else None,
        )

    def _asked(self, network: L2NetworkInventory, states: dict[UUID, str]) -> dict[UUID, str]:
        """Nobody, of a network that hosts realise only when a VM comes."""
        return {} if self._l2.at_vm_time(network) else states

    async def _refuse_with_nics(
        self, connection: Connection, network: L2NetworkInventory, cluster: ClusterInventory
    ) -> None:
        """Raises:
        InUse: NICs of VMs use it there; `details.nicUuids` has some of them.
        """
        nics = await l2_networks.nics_on(connection, network.uuid, cluster.uuid)
        if nics:
            raise InUse(
                f"NICs of VMs use L2 network {network.name} on cluster {cluster.name}",
                nicUuids=[str(uuid) for uuid in nics],
            )

    async def _refuse_with_services(
        self, connection: Connection, network: L2NetworkInventory, cluster: ClusterInventory
    ) -> None:
        """Raises:
        InUse: service instances are plugged into it there; retryable if they are all on their way out.
        """
        of_accounts = await l2_networks.of_accounts(connection, network.uuid, cluster.uuid)
        using = await services.using_l2(connection, cluster.uuid, [network.uuid, *of_accounts])
        if using:
            error = InUse(
                f"service instances use L2 network {network.name} on cluster {cluster.name}",
                serviceUuids=[str(uuid) for uuid in using],
            )
            error.retryable = all(using.values())
            raise error

    async def _clusters_to_check(
        self, connection: Connection, request: CheckL2, network: L2NetworkInventory
    ) -> list[UUID] | None:
        """All of the named cluster; else all that it is attached to; a named host stands for itself."""
        if request.cluster_uuid is not None:
            return [(await clusters.get(connection, request.cluster_uuid)).uuid]
        if request.host_uuid is not None:
            await hosts.get(connection, request.host_uuid)
            return None
        return list(await l2_networks.attached_to(connection, network.parent_uuid or network.uuid))

    async def _inquiry_outcome(self, connection: Connection, operation: Operation, context: RequestContext) -> Any:
        if not await conductor.advance(connection, operation):
            value = await answers.value_of(connection, operation, None)
            return value if value is not None else L2Plan(action=operation.action or "")
        if not context.may_defer:
            raise InvalidRequest.of_field("type", "hosts cannot be asked inside a batch")
        return Pending(operation.uuid)
