"""Which handler does which request."""

from collections.abc import Mapping
from functools import partial

from viaduct_common.bus import RequestContext
from viaduct_common.messages.base import Page
from viaduct_common.messages.operation import GetOperation, OperationInventory, QueryOperations
from viaduct_common.messages.realization import QueryRealizations, RealizationInventory
from viaduct_common.postgres.idempotency import Handler
from viaduct_common.postgres.pool import Connection
from viaduct_manager.handlers import membership, orphans, owners, zones
from viaduct_manager.handlers.attachments import AttachmentHandlers
from viaduct_manager.handlers.changes import ChangeHandlers
from viaduct_manager.handlers.clusters import ClusterHandlers
from viaduct_manager.handlers.eips import EipHandlers
from viaduct_manager.handlers.hosts import HostHandlers
from viaduct_manager.handlers.l2_networks import L2Handlers
from viaduct_manager.handlers.l3_networks import L3Handlers
from viaduct_manager.handlers.nics import NicHandlers, find_placement
from viaduct_manager.handlers.port_forwardings import PortForwardingHandlers
from viaduct_manager.handlers.service_instances import ServiceInstanceHandlers
from viaduct_manager.handlers.services import ServiceHandlers
from viaduct_manager.handlers.vips import VipHandlers
from viaduct_manager.handlers.vm_networks import VmNetworkHandlers
from viaduct_manager.network_services.registry import NetworkServices
from viaduct_manager.store import operations, realizations


def handlers_by_type(
    *,
    cluster: ClusterHandlers,
    host: HostHandlers,
    l2: L2Handlers,
    attachment: AttachmentHandlers,
    change: ChangeHandlers,
    l3: L3Handlers,
    vm: VmNetworkHandlers,
    nic: NicHandlers,
    services: NetworkServices,
    service: ServiceHandlers,
    instance: ServiceInstanceHandlers,
    vip: VipHandlers,
    eip: EipHandlers,
    port_forwarding: PortForwardingHandlers,
) -> Mapping[str, Handler]:
    return {
        "zone.create": zones.create,
        "zone.get": zones.get,
        "zone.query": zones.query,
        "zone.update": zones.update,
        "zone.delete": zones.delete,
        "cluster.create": cluster.create,
        "cluster.get": cluster.get,
        "cluster.query": cluster.query,
        "cluster.update": cluster.update,
        "cluster.delete": cluster.delete,
        "host.create": host.create,
        "host.get": host.get,
        "host.query": host.query,
        "host.update": host.update,
        "host.setMaintenance": host.set_maintenance,
        "host.delete": host.delete,
        "host.move": partial(membership.move, services=services),
        "host.orphans": orphans.list_orphans,
        "host.sweepOrphans": orphans.sweep,
        "l2.create": l2.create,
        "l2.get": l2.get,
        "l2.query": l2.query,
        "l2.update": l2.update,
        "l2.delete": l2.delete,
        "l2.candidateClusters": l2.candidate_clusters,
        "l2.attach": attachment.attach,
        "l2.detach": attachment.detach,
        "l2.check": attachment.check,
        "l2.plan": attachment.plan,
        "l2.changeVlan": change.vlan,
        "l2.changeMtu": change.mtu,
        "l3.create": l3.create,
        "l3.get": l3.get,
        "l3.query": l3.query,
        "l3.update": l3.update,
        "l3.delete": l3.delete,
        "serviceProvider.query": service.query,
        "l3.attachServices": service.attach,
        "l3.detachServices": service.detach,
        "l3.configureService": service.configure,
        "service.query": instance.query,
        "service.check": instance.check,
        "service.await": instance.wait,
        "vm.prepareNetworks": vm.prepare,
        "vm.releaseNetworks": vm.release,
        "vm.migrateNetworks": vm.migrate,
        "nic.query": nic.query,
        "placement.hosts": find_placement,
        "vip.create": vip.create,
        "vip.get": vip.get,
        "vip.query": vip.query,
        "vip.update": vip.update,
        "vip.delete": vip.delete,
        "eip.create": eip.create,
        "eip.get": eip.get,
        "eip.query": eip.query,
        "eip.update": eip.update,
        "eip.attach": eip.attach,
        "eip.detach": eip.detach,
        "eip.delete": eip.delete,
        "portForwarding.create": port_forwarding.create,
        "portForwarding.get": port_forwarding.get,
        "portForwarding.query": port_forwarding.query,
        "portForwarding.update": port_forwarding.update,
        "portForwarding.attach": port_forwarding.attach,
        "portForwarding.detach": port_forwarding.detach,
        "portForwarding.delete": port_forwarding.delete,
        "operation.get": _get_operation,
        "operation.query": _query_operations,
        "realization.query": _query_realizations,
        "owner.lookup": owners.look_up,
    }


async def _get_operation(request: GetOperation, connection: Connection, context: RequestContext) -> OperationInventory:
    return await operations.get(connection, request.uuid)


async def _query_operations(
    request: QueryOperations, connection: Connection, context: RequestContext
) -> Page[OperationInventory]:
    return await operations.query(connection, request)


async def _query_realizations(
    request: QueryRealizations, connection: Connection, context: RequestContext
) -> Page[RealizationInventory]:
    return await realizations.query(connection, request)
