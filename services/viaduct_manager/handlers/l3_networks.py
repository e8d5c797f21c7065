"""`l3.*`: the manager keeps what an L3 network is, IPAM its ranges and addresses."""

from viaduct_common.bus import Bus, RequestContext
from viaduct_common.errors import InUse
from viaduct_common.messages.base import Page
from viaduct_common.messages.ipam import DeleteScope, RegisterScope, Strategy
from viaduct_common.messages.l3 import CreateL3, DeleteL3, GetL3, L3NetworkInventory, QueryL3, UpdateL3
from viaduct_common.postgres.pool import Connection
from viaduct_manager import announce
from viaduct_manager.handlers.l2_networks import refuse_of_account
from viaduct_manager.handlers.new import fresh_uuid
from viaduct_manager.store import l2_networks, l3_networks, nics

IPAM_SECONDS = 10.0


class L3Handlers:
    """IPAM is asked inside the transaction: its requests may be repeated. What it did for a transaction that failed
    then is harmless (a scope that nobody knows), or made good by the repetition (another strategy)."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def create(self, request: CreateL3, connection: Connection, context: RequestContext) -> L3NetworkInventory:
        l2 = await l2_networks.hold(connection, request.l2_network_uuid)
        refuse_of_account(l2, "l2NetworkUuid")
        uuid = fresh_uuid(request.uuid, context, "l3")
        network = await l3_networks.create(connection, uuid, l2.zone_uuid, request)
        await self._register(network, request.strategy)
        await announce.event(connection, "l3.created", network)
        return network

    async def get(self, request: GetL3, connection: Connection, context: RequestContext) -> L3NetworkInventory:
        return await l3_networks.get(connection, request.uuid)

    async def query(
        self, request: QueryL3, connection: Connection, context: RequestContext
    ) -> Page[L3NetworkInventory]:
        return await l3_networks.query(connection, request)

    async def update(self, request: UpdateL3, connection: Connection, context: RequestContext) -> L3NetworkInventory:
        network = await l3_networks.update(connection, request)
        if request.strategy is not None:
            await self._register(network, request.strategy)
        await announce.event(connection, "l3.updated", network)
        return network

    async def delete(
        self, request: DeleteL3, connection: Connection, context: RequestContext
    ) -> L3NetworkInventory | None:
        if users := await nics.on_l3(connection, request.uuid):
            raise InUse(
                f"VMs have NICs on L3 network {request.uuid}",
                l3NetworkUuid=str(request.uuid),
                nicUuids=[str(uuid) for uuid in users],
            )
        network = await l3_networks.delete(connection, request.uuid)
        if network is not None:
            # IPAM refuses while an address is in use; the row stays then.
            await self._bus.call(DeleteScope(l3_network_uuid=network.uuid), timeout_seconds=IPAM_SECONDS)
            await announce.event(connection, "l3.deleted", network)
        return network

    async def _register(self, network: L3NetworkInventory, strategy: Strategy) -> None:
        """Make the network known to IPAM with this strategy, or give it this strategy there."""
        scope = RegisterScope(
            l3_network_uuid=network.uuid,
            l2_network_uuid=network.l2_network_uuid,
            zone_uuid=network.zone_uuid,
            strategy=strategy,
        )
        await self._bus.call(scope, timeout_seconds=IPAM_SECONDS)
