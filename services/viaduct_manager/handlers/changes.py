"""`l2.changeVlan`, `l2.changeMtu`: all hosts that have the network follow, or it stays as it is."""

from typing import Any

from viaduct_common.bus import RequestContext
from viaduct_common.errors import Conflict, InUse, InvalidRequest, PreconditionFailed
from viaduct_common.messages.l2 import L2_VLAN, ChangeL2Mtu, ChangeL2Vlan, L2NetworkInventory
from viaduct_common.postgres.pool import Connection
from viaduct_manager import conductor
from viaduct_manager.handlers.new import fresh_uuid
from viaduct_manager.handlers.outcomes import outcome
from viaduct_manager.l2_types.registry import L2Types
from viaduct_manager.model import moves
from viaduct_manager.store import changes, l2_networks, l3_networks, operations, steps
from viaduct_manager.store.changes import Change, Values


class ChangeHandlers:
    def __init__(self, l2_types: L2Types) -> None:
        self._types = l2_types

    async def vlan(self, request: ChangeL2Vlan, connection: Connection, context: RequestContext) -> Any:
        network = await l2_networks.lock(connection, request.l2_network_uuid)
        if network.type != L2_VLAN:
            raise InvalidRequest.of_field("l2NetworkUuid", f"a {network.type} has no VLAN", type=network.type)
        tagged = await changes.tagged_nics(connection, network.uuid)
        if tagged and network.own_fields().get("vlan") != request.vlan:
            raise InUse(
                f"{len(tagged)} NICs are ports of VLAN-aware bridges, with the VLAN of {network.name} as their tag",
                nicUuids=[str(uuid) for uuid in tagged],
            )
        own_fields = network.own_fields() | {"vlan": request.vlan}
        l2_type = self._types.get(network.type)
        place = network.physical_interface, own_fields
        # A recorded bridge keeps its name: VMs are plugged into it.
        derived = l2_type.bridge_name(*place)
        names = [network.bridge_name, *(name for name in l2_type.device_names(*place) if name != derived)]
        wanted = Values(network.mtu, own_fields, names, l2_type.conflict_key(*place))
        return await self._begin(request, connection, context, network, wanted)

    async def mtu(self, request: ChangeL2Mtu, connection: Connection, context: RequestContext) -> Any:
        network = await l2_networks.lock(connection, request.l2_network_uuid)
        if await changes.accounts(connection, network.uuid):
            raise PreconditionFailed(
                f"accounts have networks of {network.name}, and these have its MTU", field="l2NetworkUuid"
            )
        if wider := await l3_networks.wider_than(connection, network.uuid, request.mtu):
            raise InUse(
                f"VMs on L3 networks of {network.name} are told of a larger MTU: lower theirs first",
                l3NetworkUuids=[str(uuid) for uuid in wider],
            )
        former = self._values(network)
        wanted = Values(request.mtu, former.own_fields, former.device_names, former.conflict_key)
        return await self._begin(request, connection, context, network, wanted)

    def _values(self, network: L2NetworkInventory) -> Values:
        own_fields = network.own_fields()
        key = self._types.get(network.type).conflict_key(network.physical_interface, own_fields)
        return Values(network.mtu, own_fields, network.device_names, key)

    async def _begin(
        self,
        request: ChangeL2Vlan | ChangeL2Mtu,
        connection: Connection,
        context: RequestContext,
        network: L2NetworkInventory,
        wanted: Values,
    ) -> Any:
        await refuse_while_busy(connection, network)
        change = Change(former=self._values(network), wanted=wanted)
        operation = await operations.create(
            connection,
            fresh_uuid(None, context, "operation"),
            request.message_type,
            phase=moves.PREFLIGHT,
            timeout_seconds=request.timeout_seconds,
            l2_uuid=network.uuid,
        )
        if change.wanted == change.former:
            await steps.begin_phase(connection, operation.uuid, moves.PREFLIGHT, [])
            await operations.finish(connection, operation.uuid, "succeeded", None)
            return await operations.get(connection, operation.uuid)
        cluster_uuids = await changes.lock_clusters(connection, network.uuid)
        await changes.claim(connection, network, cluster_uuids, change, operation.uuid)
        reachable = await changes.reachable(connection, network.uuid)
        await conductor.inquire(
            connection,
            operation,
            wanted.of(network),
            phase=moves.PREFLIGHT,
            action="realize",
            host_states=dict.fromkeys(reachable, "connected"),
        )
        await conductor.advance(connection, operation.uuid)
        return await outcome(connection, operation.uuid, context, wait=request.wait)


async def refuse_while_busy(connection: Connection, network: L2NetworkInventory) -> None:
    """Attaches, detaches and changes of one network come one after the other, whatever their clusters.

    Raises:
        Conflict: `details.operationUuid` names the one that is under way.
    """
    types = [moves.ATTACH, moves.DETACH, *sorted(moves.CHANGES)]
    running = await operations.running_of_network(connection, network.uuid, types)
    if running is not None:
        raise Conflict(
            f"L2 network {network.name} is about to change: wait for its operation", operationUuid=str(running)
        )


async def refuse_during_change(connection: Connection, network: L2NetworkInventory) -> None:
    """What is attached now would miss the change, or its undoing.

    Raises:
        Conflict: `details.operationUuid` names the change that is under way.
    """
    running = await operations.running_of_network(connection, network.uuid, sorted(moves.CHANGES))
    if running is not None:
        raise Conflict(f"L2 network {network.name} is being changed: wait for it", operationUuid=str(running))
