"""`cluster.*`."""

from collections.abc import Mapping

from viaduct_common.bus import RequestContext
from viaduct_common.errors import InUse
from viaduct_common.messages.base import Page
from viaduct_common.messages.cluster import (
    ClusterInventory,
    CreateCluster,
    DeleteCluster,
    GetCluster,
    QueryClusters,
    UpdateCluster,
)
from viaduct_common.postgres.pool import Connection
from viaduct_manager import announce
from viaduct_manager.handlers.new import fresh_uuid
from viaduct_manager.l2_types.registry import L2Types
from viaduct_manager.store import clusters


class ClusterHandlers:
    def __init__(self, l2_types: L2Types) -> None:
        self._types = l2_types

    async def create(self, request: CreateCluster, connection: Connection, context: RequestContext) -> ClusterInventory:
        self._types.check_backends(request.backends)
        cluster = await clusters.create(connection, fresh_uuid(request.uuid, context, "cluster"), request)
        await announce.event(connection, "cluster.created", cluster)
        return cluster

    async def get(self, request: GetCluster, connection: Connection, context: RequestContext) -> ClusterInventory:
        return await clusters.get(connection, request.uuid)

    async def query(
        self, request: QueryClusters, connection: Connection, context: RequestContext
    ) -> Page[ClusterInventory]:
        return await clusters.query(connection, request)

    async def update(self, request: UpdateCluster, connection: Connection, context: RequestContext) -> ClusterInventory:
        if request.backends is not None:
            self._types.check_backends(request.backends)
            former = await clusters.lock(connection, request.uuid)  # as an attach does: one of the two is first
            await self._refuse_in_use(connection, former, request.backends)
        cluster = await clusters.update(connection, request)
        await announce.event(connection, "cluster.updated", cluster)
        return cluster

    async def delete(
        self, request: DeleteCluster, connection: Connection, context: RequestContext
    ) -> ClusterInventory | None:
        cluster = await clusters.delete(connection, request.uuid)
        if cluster is not None:
            await announce.event(connection, "cluster.deleted", cluster)
        return cluster

    async def _refuse_in_use(
        self, connection: Connection, cluster: ClusterInventory, backends: Mapping[str, str]
    ) -> None:
        """Raises:
        InUse: what one backend built, another would have to take over; `details.l2NetworkUuids` names the networks.
        """
        changed = self._types.changed_backends(cluster.backends, backends)
        users = await clusters.attached_of_types(connection, cluster.uuid, changed)
        if users:
            types = sorted(set(users.values()))
            raise InUse(
                f"cluster {cluster.name} has networks of type {', '.join(types)}: detach them first",
                field=f"backends.{types[0]}",
                l2NetworkUuids=[str(uuid) for uuid in users],
            )
