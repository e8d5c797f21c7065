"""`cluster.*`."""

from viaduct_common.bus import RequestContext
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
from viaduct_manager.store import clusters


async def create(request: CreateCluster, connection: Connection, context: RequestContext) -> ClusterInventory:
    cluster = await clusters.create(connection, fresh_uuid(request.uuid, context, "cluster"), request)
    await announce.event(connection, "cluster.created", cluster)
    return cluster


async def get(request: GetCluster, connection: Connection, context: RequestContext) -> ClusterInventory:
    return await clusters.get(connection, request.uuid)


async def query(request: QueryClusters, connection: Connection, context: RequestContext) -> Page[ClusterInventory]:
    return await clusters.query(connection, request)


async def update(request: UpdateCluster, connection: Connection, context: RequestContext) -> ClusterInventory:
    cluster = await clusters.update(connection, request)
    await announce.event(connection, "cluster.updated", cluster)
    return cluster


async def delete(request: DeleteCluster, connection: Connection, context: RequestContext) -> ClusterInventory | None:
    cluster = await clusters.delete(connection, request.uuid)
    if cluster is not None:
        await announce.event(connection, "cluster.deleted", cluster)
    return cluster
