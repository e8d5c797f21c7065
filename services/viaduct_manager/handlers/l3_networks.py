"""`l3.*`: the manager keeps what an L3 network is, IPAM its ranges and addresses."""

from collections import defaultdict
from uuid import UUID

from viaduct_common.bus import Bus, RequestContext
from viaduct_common.errors import InUse
from viaduct_common.messages.base import Page
from viaduct_common.messages.ipam import DeleteScope, RegisterScope, Strategy
from viaduct_common.messages.l3 import CreateL3, DeleteL3, GetL3, L3NetworkInventory, QueryL3, UpdateL3
from viaduct_common.postgres.pool import Connection
from viaduct_manager import announce
from viaduct_manager.handlers.l2_networks import refuse_of_account
from viaduct_manager.handlers.new import fresh_uuid
from viaduct_manager.model.l3_options import check_dns, check_host_routes, check_mtu
from viaduct_manager.network_services.api import Change
from viaduct_manager.network_services.registry import NetworkServices
from viaduct_manager.store import l2_networks, l3_networks, nics, service_addresses, vips

IPAM_SECONDS = 10.0


class L3Handlers:
    """IPAM is asked inside the transaction: its requests may be repeated. What it did for a transaction that failed
    then is harmless (a scope that nobody knows), or made good by the repetition (another strategy)."""

    def __init__(self, bus: Bus, services: NetworkServices) -> None:
        self._bus = bus
        self._services = services

    async def create(self, request: CreateL3, connection: Connection, context: RequestContext) -> L3NetworkInventory:
        l2 = await l2_networks.hold(connection, request.l2_network_uuid)
        refuse_of_account(l2, "l2NetworkUuid")
        check_mtu(request.mtu, l2.mtu)
        check_dns(request.dns)
        check_host_routes(request.host_routes)
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
        check_dns(request.dns)
        check_host_routes(request.host_routes)
        if request.mtu is not None:
            l2_mtu = await l3_networks.l2_mtu(connection, request.uuid)
            if l2_mtu is not None:
                check_mtu(request.mtu, l2_mtu)
        if request.category == "private":
            await _require_no_vips(connection, request.uuid)
        network = await l3_networks.update(connection, request)
        await self._services.changed(connection, Change(l3_uuids=frozenset({network.uuid})))
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
        if (found := await l3_networks.find_locked(connection, request.uuid)) is not None:
            await self._leave_services(connection, found)
        network = await l3_networks.delete(connection, request.uuid)
        if network is not None:
            # IPAM refuses while an address is in use; the row stays then.
            await self._bus.call(DeleteScope(l3_network_uuid=network.uuid), timeout_seconds=IPAM_SECONDS)
            await announce.event(connection, "l3.deleted", network)
        return network

    async def _leave_services(self, connection: Connection, network: L3NetworkInventory) -> None:
        """Raises:
        InUse: something depends on what is served there, or service instances still have addresses of it.
        """
        types_by_provider: dict[UUID, list[str]] = defaultdict(list)
        for one in network.services:
            types_by_provider[one.provider_uuid].append(one.service_type)
        for provider_uuid, types in types_by_provider.items():
            provider = self._services.find(provider_uuid)
            if provider is not None:
                await provider.detaching(network, types, connection)
        await self._services.changed(connection, Change(l3_uuids=frozenset({network.uuid})))
        if holders := await service_addresses.on_l3(connection, network.uuid):
            error = InUse(
                f"service instances have addresses of L3 network {network.name}",
                l3NetworkUuid=str(network.uuid),
                serviceUuids=[str(uuid) for uuid in holders],
            )
            # Without NICs, and with nobody who depends on it, they are on their way out.
            error.retryable = True
            raise error

    async def _register(self, network: L3NetworkInventory, strategy: Strategy) -> None:
        """Make the network known to IPAM with this strategy, or give it this strategy there."""
        scope = RegisterScope(
            l3_network_uuid=network.uuid,
            l2_network_uuid=network.l2_network_uuid,
            zone_uuid=network.zone_uuid,
            strategy=strategy,
        )
        await self._bus.call(scope, timeout_seconds=IPAM_SECONDS)


async def _require_no_vips(connection: Connection, uuid: UUID) -> None:
    """None is made until the transaction ends: whoever makes one waits for the lock, and sees the new category.

    Raises:
        InUse: the L3 network has VIPs, which are of public ones.
    """
    network = await l3_networks.find_locked(connection, uuid)
    if network is not None and (found := await vips.on_l3(connection, uuid)):
        raise InUse(
            f"L3 network {network.name} has VIPs, and stays public",
            l3NetworkUuid=str(uuid),
            vipUuids=[str(vip) for vip in found],
        )
