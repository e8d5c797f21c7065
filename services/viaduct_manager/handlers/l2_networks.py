"""`l2.create`, `.get`, `.query`, `.update`, `.delete`, `.candidateClusters`: nothing here touches a host."""

from datetime import UTC, datetime

from viaduct_common.bus import RequestContext
from viaduct_common.errors import AlreadyExists, InvalidRequest, L2Conflict, UnsupportedType, ViaductError
from viaduct_common.messages.base import Page
from viaduct_common.messages.cluster import ClusterInventory
from viaduct_common.messages.l2 import (
    CandidateClusters,
    CreateL2,
    DeleteL2,
    GetCandidateClusters,
    GetL2,
    L2NetworkInventory,
    QueryL2,
    RefusedCluster,
    UpdateL2,
)
from viaduct_common.postgres.pool import Connection
from viaduct_manager import announce
from viaduct_manager.handlers.new import fresh_uuid
from viaduct_manager.l2_types.registry import L2Types
from viaduct_manager.model.tunnels import Cidr
from viaduct_manager.network_services import association
from viaduct_manager.network_services.registry import NetworkServices
from viaduct_manager.store import clusters, l2_networks
from viaduct_manager.store.rivals import Claim
from viaduct_manager.store.rivals import find as find_rivals


def refuse_of_account(network: L2NetworkInventory | None, field: str) -> None:
    """Raises:
    InvalidRequest: it is what an account has of a network, which is the one to be attached, detached and deleted.
    """
    if network is not None and network.parent_uuid is not None:
        raise InvalidRequest.of_field(
            field,
            f"this is what account {network.owner_account_uuid} has of L2 network {network.parent_uuid}: name that one",
            parentUuid=str(network.parent_uuid),
        )


class L2Handlers:
    def __init__(self, l2_types: L2Types, services: NetworkServices) -> None:
        self._types = l2_types
        self._services = services

    async def create(self, request: CreateL2, connection: Connection, context: RequestContext) -> L2NetworkInventory:
        own_fields = self._types.parse_fields(request.type, request.own_fields())
        l2_type = self._types.get(request.type)
        now = datetime.now(UTC)  # the row's own times replace it
        network = L2NetworkInventory.model_validate(
            {
                "uuid": fresh_uuid(request.uuid, context, "l2"),
                "name": request.name,
                "description": request.description,
                "zone_uuid": request.zone_uuid,
                "physical_interface": request.physical_interface,
                "type": request.type,
                "mtu": request.mtu or l2_type.default_mtu(own_fields),
                "bridge_name": l2_type.bridge_name(request.physical_interface, own_fields),
                "device_names": l2_type.device_names(request.physical_interface, own_fields),
                "created_at": now,
                "updated_at": now,
                **own_fields,
            }
        )
        created = await l2_networks.create(
            connection, network, tunnelled=l2_type.tunnelled, at_vm_time=l2_type.at_vm_time(own_fields)
        )
        await association.associate(connection, self._services, created)
        await announce.event(connection, "l2.created", created)
        return created

    async def get(self, request: GetL2, connection: Connection, context: RequestContext) -> L2NetworkInventory:
        return await l2_networks.get(connection, request.uuid)

    async def query(
        self, request: QueryL2, connection: Connection, context: RequestContext
    ) -> Page[L2NetworkInventory]:
        return await l2_networks.query(connection, request)

    async def update(self, request: UpdateL2, connection: Connection, context: RequestContext) -> L2NetworkInventory:
        network = await l2_networks.update(connection, request)
        await announce.event(connection, "l2.updated", network)
        return network

    async def delete(
        self, request: DeleteL2, connection: Connection, context: RequestContext
    ) -> L2NetworkInventory | None:
        refuse_of_account(await l2_networks.find(connection, request.uuid), "uuid")
        network = await l2_networks.delete(connection, request.uuid)
        if network is not None:
            await announce.event(connection, "l2.deleted", network)
        return network

    async def candidate_clusters(
        self, request: GetCandidateClusters, connection: Connection, context: RequestContext
    ) -> CandidateClusters:
        network = await l2_networks.get(connection, request.l2_network_uuid)
        refuse_of_account(network, "l2NetworkUuid")
        everywhere = await clusters.of_zone(connection, network.zone_uuid)
        attached = await l2_networks.attached_to(connection, network.uuid)
        rivals = await find_rivals(connection, [cluster.uuid for cluster in everywhere], self.claim(network))
        good, refused = [], []
        for cluster in everywhere:
            error: ViaductError | None
            if cluster.uuid in attached:
                error = AlreadyExists(f"it is {attached[cluster.uuid]} to this cluster already")
            else:
                error = self.unfit(network, cluster) or rivals.get(cluster.uuid)
            if error is None:
                good.append(cluster)
            else:
                refused.append(RefusedCluster(cluster=cluster, error=error.to_body()))
        return CandidateClusters(clusters=good, refused=refused)

    def claim(self, network: L2NetworkInventory) -> Claim:
        """What it takes on a cluster, so that no other network can be attached there that takes the same."""
        l2_type, own_fields = self._types.get(network.type), network.own_fields()
        key = l2_type.conflict_key(network.physical_interface, own_fields)
        return Claim(network.uuid, key, network.device_names, l2_type.spans(own_fields))

    def at_vm_time(self, network: L2NetworkInventory) -> bool:
        """True: hosts do not realise it when it is attached, so there is nothing to ask them either."""
        return self._types.get(network.type).at_vm_time(network.own_fields())

    def is_tunnelled(self, network: L2NetworkInventory) -> bool:
        return self._types.get(network.type).tunnelled

    def check_tunnel_cidr(self, network: L2NetworkInventory, cidr: Cidr | None) -> None:
        """Raises:
        InvalidRequest: the type has no tunnels.
        """
        if cidr is not None and not self.is_tunnelled(network):
            raise InvalidRequest.of_field("tunnelCidr", f"{network.type} has no tunnels", type=network.type)

    def unfit(self, network: L2NetworkInventory, cluster: ClusterInventory) -> ViaductError | None:
        """Why this network can never be attached to this cluster; None if it can."""
        if network.zone_uuid != cluster.zone_uuid:
            return L2Conflict(
                f"L2 network {network.name} and cluster {cluster.name} lie in different zones",
                field="clusterUuid",
                l2ZoneUuid=str(network.zone_uuid),
                clusterZoneUuid=str(cluster.zone_uuid),
            )
        if cluster.hypervisor_type not in self._types.get(network.type).hypervisor_types:
            return UnsupportedType(
                f"no backend of {network.type} for {cluster.hypervisor_type}",
                type=network.type,
                hypervisorType=cluster.hypervisor_type,
            )
        return None
