"""The typed client, for other teams.

    async with ViaductClient("amqp://compute:secret@broker/viaduct") as net:
        zone = await net.zone.create(name="zone1")
        l2 = await net.l2.create(
            zone_uuid=zone.uuid, name="blue", type="L2VlanNetwork", physical_interface="eth1", vlan=10
        )
        await net.l2.attach(l2_network_uuid=l2.uuid, cluster_uuid=cluster.uuid)

Every method takes the fields of its message (see `viaduct_common.messages`) as keyword arguments, and beside them
`message_id`, to repeat a request safely. A refusal is raised as the error of its code (`viaduct_common.errors`).
"""

import logging
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import UUID

import structlog
from pydantic import ValidationError

from viaduct_common.bus import Bus
from viaduct_common.errors import InvalidRequest
from viaduct_common.messages import cluster, host, ipam, l2, l3, operation, owner, realization, vm, zone
from viaduct_common.messages.agent import Orphan
from viaduct_common.messages.base import Page, Request
from viaduct_common.messages.batch import Batch
from viaduct_common.messages.services import eips, instances, port_forwarding, providers, vips

V = TypeVar("V")


class ViaductClient:
    """Async context manager around one bus; entering it waits for the broker.

    Args:
        url: `amqp://user:password@host:port/vhost`.
        name: who calls; shown in the broker's pages.
        timeout_seconds: how long a call waits for its reply, when its request has no `timeout_seconds` of its own.
    """

    def __init__(self, url: str, *, name: str = "viaduct-client", timeout_seconds: float = 60.0) -> None:
        if not structlog.is_configured():
            # A library inside somebody's program: what it has to say is in its errors, not on their terminal.
            structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
        self._bus = Bus(url, name=name)
        self._timeout_seconds = timeout_seconds
        self.zone = Zones(self)
        self.cluster = Clusters(self)
        self.host = Hosts(self)
        self.l2 = L2Networks(self)
        self.l3 = L3Networks(self)
        self.service_provider = ServiceProviders(self)
        self.service = Services(self)
        self.vip = Vips(self)
        self.eip = Eips(self)
        self.port_forwarding = PortForwardings(self)
        self.operation = Operations(self)
        self.realization = Realizations(self)
        self.owner = Owners(self)
        self.vm = Vms(self)
        self.nic = Nics(self)
        self.placement = Placements(self)
        self.scope = Scopes(self)
        self.range = Ranges(self)
        self.reservation = Reservations(self)
        self.ip = Ips(self)
        self.import_ = Imports(self)

    async def __aenter__(self) -> Self:
        await self._bus.__aenter__()
        try:
            await self._bus.ready()
        except BaseException:
            await self._bus.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._bus.__aexit__(kind, error, trace)

    async def call(
        self, request: Request[V], *, message_id: UUID | None = None, timeout_seconds: float | None = None
    ) -> V:
        """Send any request of the contract.

        Args:
            timeout_seconds: how long to wait for the reply, where that is not as long as for every call.

        Raises:
            ViaductError: the service refused, or DeadlineExceeded: no reply.
        """
        own = getattr(request, "timeout_seconds", None)
        # The operation's own deadline ends first, so that the caller hears of it instead of giving up before.
        if timeout_seconds is None:
            timeout_seconds = self._timeout_seconds if own is None else own * 2 + 10
        return await self._bus.call(request, timeout_seconds=timeout_seconds, message_id=message_id)

    async def batch(self, request: Batch) -> list[dict[str, Any]]:
        """Many requests in one message; the replies in the same order, as they stand on the wire."""
        return await self.call(request)


class _Family:
    """The requests of one entity. The client is all that it knows."""

    def __init__(self, client: ViaductClient) -> None:
        self._client = client

    async def _send(
        self, request_type: type[Request[V]], fields: dict[str, Any], *, timeout_seconds: float | None = None
    ) -> V:
        message_id = fields.pop("message_id", None)
        try:
            request = request_type(**fields)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise InvalidRequest.of_field(".".join(map(str, first["loc"])), first["msg"]) from error
        return await self._client.call(request, message_id=message_id, timeout_seconds=timeout_seconds)


class Zones(_Family):
    async def create(self, **fields: Any) -> zone.ZoneInventory:
        return await self._send(zone.CreateZone, fields)

    async def get(self, **fields: Any) -> zone.ZoneInventory:
        return await self._send(zone.GetZone, fields)

    async def query(self, **fields: Any) -> Page[zone.ZoneInventory]:
        return await self._send(zone.QueryZones, fields)

    async def update(self, **fields: Any) -> zone.ZoneInventory:
        return await self._send(zone.UpdateZone, fields)

    async def delete(self, **fields: Any) -> zone.ZoneInventory | None:
        return await self._send(zone.DeleteZone, fields)


class Clusters(_Family):
    async def create(self, **fields: Any) -> cluster.ClusterInventory:
        return await self._send(cluster.CreateCluster, fields)

    async def get(self, **fields: Any) -> cluster.ClusterInventory:
        return await self._send(cluster.GetCluster, fields)

    async def query(self, **fields: Any) -> Page[cluster.ClusterInventory]:
        return await self._send(cluster.QueryClusters, fields)

    async def update(self, **fields: Any) -> cluster.ClusterInventory:
        return await self._send(cluster.UpdateCluster, fields)

    async def delete(self, **fields: Any) -> cluster.ClusterInventory | None:
        return await self._send(cluster.DeleteCluster, fields)


class Hosts(_Family):
    async def create(self, **fields: Any) -> host.HostInventory:
        return await self._send(host.CreateHost, fields)

    async def get(self, **fields: Any) -> host.HostInventory:
        return await self._send(host.GetHost, fields)

    async def query(self, **fields: Any) -> Page[host.HostInventory]:
        return await self._send(host.QueryHosts, fields)

    async def update(self, **fields: Any) -> host.HostInventory:
        return await self._send(host.UpdateHost, fields)

    async def set_maintenance(self, **fields: Any) -> host.HostInventory:
        return await self._send(host.SetHostMaintenance, fields)

    async def delete(self, **fields: Any) -> host.HostInventory | None:
        return await self._send(host.DeleteHost, fields)

    async def move(self, **fields: Any) -> host.HostInventory:
        return await self._send(host.MoveHost, fields)

    async def orphans(self, **fields: Any) -> list[Orphan]:
        return await self._send(host.ListOrphans, fields)

    async def sweep_orphans(self, **fields: Any) -> list[Orphan]:
        return await self._send(host.SweepOrphans, fields)


class L2Networks(_Family):
    async def create(self, **fields: Any) -> l2.L2NetworkInventory:
        return await self._send(l2.CreateL2, fields)

    async def get(self, **fields: Any) -> l2.L2NetworkInventory:
        return await self._send(l2.GetL2, fields)

    async def query(self, **fields: Any) -> Page[l2.L2NetworkInventory]:
        return await self._send(l2.QueryL2, fields)

    async def update(self, **fields: Any) -> l2.L2NetworkInventory:
        return await self._send(l2.UpdateL2, fields)

    async def delete(self, **fields: Any) -> l2.L2NetworkInventory | None:
        return await self._send(l2.DeleteL2, fields)

    async def attach(self, **fields: Any) -> operation.OperationInventory:
        return await self._send(l2.AttachL2, fields)

    async def detach(self, **fields: Any) -> operation.OperationInventory:
        return await self._send(l2.DetachL2, fields)

    async def change_vlan(self, **fields: Any) -> operation.OperationInventory:
        return await self._send(l2.ChangeL2Vlan, fields)

    async def change_mtu(self, **fields: Any) -> operation.OperationInventory:
        return await self._send(l2.ChangeL2Mtu, fields)

    async def check(self, **fields: Any) -> list[l2.HostCheck]:
        return await self._send(l2.CheckL2, fields)

    async def plan(self, **fields: Any) -> l2.L2Plan:
        return await self._send(l2.PlanL2, fields)

    async def candidate_clusters(self, **fields: Any) -> l2.CandidateClusters:
        return await self._send(l2.GetCandidateClusters, fields)


class L3Networks(_Family):
    async def create(self, **fields: Any) -> l3.L3NetworkInventory:
        return await self._send(l3.CreateL3, fields)

    async def get(self, **fields: Any) -> l3.L3NetworkInventory:
        return await self._send(l3.GetL3, fields)

    async def query(self, **fields: Any) -> Page[l3.L3NetworkInventory]:
        return await self._send(l3.QueryL3, fields)

    async def update(self, **fields: Any) -> l3.L3NetworkInventory:
        return await self._send(l3.UpdateL3, fields)

    async def delete(self, **fields: Any) -> l3.L3NetworkInventory | None:
        return await self._send(l3.DeleteL3, fields)

    async def attach_services(self, **fields: Any) -> l3.L3NetworkInventory:
        return await self._send(providers.AttachServices, fields)

    async def detach_services(self, **fields: Any) -> l3.L3NetworkInventory:
        return await self._send(providers.DetachServices, fields)

    async def configure_service(self, **fields: Any) -> l3.L3NetworkInventory:
        return await self._send(providers.ConfigureService, fields)


class ServiceProviders(_Family):
    async def query(self, **fields: Any) -> Page[providers.ServiceProviderInventory]:
        return await self._send(providers.QueryServiceProviders, fields)


class Services(_Family):
    async def query(self, **fields: Any) -> Page[instances.ServiceInventory]:
        return await self._send(instances.QueryServices, fields)

    async def check(self, **fields: Any) -> list[instances.ServiceCheck]:
        return await self._send(instances.CheckServices, fields)

    async def wait(self, **fields: Any) -> list[instances.ServiceInventory]:
        """`service.await`; the word is Python's."""
        return await self._send(instances.AwaitServices, fields)


class Vips(_Family):
    async def create(self, **fields: Any) -> vips.VipInventory:
        return await self._send(vips.CreateVip, fields)

    async def get(self, **fields: Any) -> vips.VipInventory:
        return await self._send(vips.GetVip, fields)

    async def query(self, **fields: Any) -> Page[vips.VipInventory]:
        return await self._send(vips.QueryVips, fields)

    async def update(self, **fields: Any) -> vips.VipInventory:
        return await self._send(vips.UpdateVip, fields)

    async def delete(self, **fields: Any) -> vips.VipInventory | None:
        return await self._send(vips.DeleteVip, fields)


class Eips(_Family):
    async def create(self, **fields: Any) -> eips.EipInventory:
        return await self._send(eips.CreateEip, fields)

    async def get(self, **fields: Any) -> eips.EipInventory:
        return await self._send(eips.GetEip, fields)

    async def query(self, **fields: Any) -> Page[eips.EipInventory]:
        return await self._send(eips.QueryEips, fields)

    async def update(self, **fields: Any) -> eips.EipInventory:
        return await self._send(eips.UpdateEip, fields)

    async def attach(self, **fields: Any) -> eips.EipInventory:
        return await self._send(eips.AttachEip, fields)

    async def detach(self, **fields: Any) -> eips.EipInventory:
        return await self._send(eips.DetachEip, fields)

    async def delete(self, **fields: Any) -> eips.EipInventory | None:
        return await self._send(eips.DeleteEip, fields)


class PortForwardings(_Family):
    async def create(self, **fields: Any) -> port_forwarding.PortForwardingInventory:
        return await self._send(port_forwarding.CreatePortForwarding, fields)

    async def get(self, **fields: Any) -> port_forwarding.PortForwardingInventory:
        return await self._send(port_forwarding.GetPortForwarding, fields)

    async def query(self, **fields: Any) -> Page[port_forwarding.PortForwardingInventory]:
        return await self._send(port_forwarding.QueryPortForwardings, fields)

    async def update(self, **fields: Any) -> port_forwarding.PortForwardingInventory:
        return await self._send(port_forwarding.UpdatePortForwarding, fields)

    async def attach(self, **fields: Any) -> port_forwarding.PortForwardingInventory:
        return await self._send(port_forwarding.AttachPortForwarding, fields)

    async def detach(self, **fields: Any) -> port_forwarding.PortForwardingInventory:
        return await self._send(port_forwarding.DetachPortForwarding, fields)

    async def delete(self, **fields: Any) -> port_forwarding.PortForwardingInventory | None:
        return await self._send(port_forwarding.DeletePortForwarding, fields)


class Operations(_Family):
    async def get(self, **fields: Any) -> operation.OperationInventory:
        return await self._send(operation.GetOperation, fields)

    async def query(self, **fields: Any) -> Page[operation.OperationInventory]:
        return await self._send(operation.QueryOperations, fields)


class Realizations(_Family):
    async def query(self, **fields: Any) -> Page[realization.RealizationInventory]:
        return await self._send(realization.QueryRealizations, fields)


class Owners(_Family):
    async def look_up(self, **fields: Any) -> list[str]:
        return await self._send(owner.LookUpOwners, fields)


class Vms(_Family):
    async def prepare_networks(self, **fields: Any) -> list[vm.NicInventory]:
        return await self._send(vm.PrepareVmNetworks, fields)

    async def release_networks(self, **fields: Any) -> list[vm.NicInventory]:
        return await self._send(vm.ReleaseVmNetworks, fields)

    async def migrate_networks(self, **fields: Any) -> list[vm.NicInventory]:
        return await self._send(vm.MigrateVmNetworks, fields)


class Nics(_Family):
    async def query(self, **fields: Any) -> Page[vm.NicInventory]:
        return await self._send(vm.QueryNics, fields)


class Placements(_Family):
    async def hosts(self, **fields: Any) -> vm.Placement:
        return await self._send(vm.FindPlacement, fields)


class Scopes(_Family):
    async def register(self, **fields: Any) -> ipam.ScopeInventory:
        return await self._send(ipam.RegisterScope, fields)

    async def get(self, **fields: Any) -> ipam.ScopeInventory:
        return await self._send(ipam.GetScope, fields)

    async def query(self, **fields: Any) -> Page[ipam.ScopeInventory]:
        return await self._send(ipam.QueryScopes, fields)

    async def delete(self, **fields: Any) -> ipam.ScopeInventory | None:
        return await self._send(ipam.DeleteScope, fields)


class Ranges(_Family):
    async def create(self, **fields: Any) -> list[ipam.RangeInventory]:
        return await self._send(ipam.CreateRange, fields)

    async def get(self, **fields: Any) -> ipam.RangeInventory:
        return await self._send(ipam.GetRange, fields)

    async def query(self, **fields: Any) -> Page[ipam.RangeInventory]:
        return await self._send(ipam.QueryRanges, fields)

    async def delete(self, **fields: Any) -> ipam.RangeInventory | None:
        return await self._send(ipam.DeleteRange, fields)


class Reservations(_Family):
    async def create(self, **fields: Any) -> ipam.ReservationInventory:
        return await self._send(ipam.CreateReservation, fields)

    async def query(self, **fields: Any) -> Page[ipam.ReservationInventory]:
        return await self._send(ipam.QueryReservations, fields)

    async def delete(self, **fields: Any) -> ipam.ReservationInventory | None:
        return await self._send(ipam.DeleteReservation, fields)


class Ips(_Family):
    async def allocate(self, **fields: Any) -> list[ipam.UsedIpInventory]:
        return await self._send(ipam.AllocateIp, fields)

    async def release(self, **fields: Any) -> list[ipam.UsedIpInventory]:
        return await self._send(ipam.ReleaseIp, fields)

    async def renew(self, **fields: Any) -> list[ipam.UsedIpInventory]:
        return await self._send(ipam.RenewIps, fields)

    async def get(self, **fields: Any) -> ipam.UsedIpInventory:
        return await self._send(ipam.GetIp, fields)

    async def query(self, **fields: Any) -> Page[ipam.UsedIpInventory]:
        return await self._send(ipam.QueryIps, fields)

    async def check(self, **fields: Any) -> ipam.IpAvailability:
        return await self._send(ipam.CheckIp, fields)

    async def capacity(self, **fields: Any) -> ipam.IpCapacity:
        return await self._send(ipam.GetIpCapacity, fields)

    async def free(self, **fields: Any) -> list[Any]:
        return await self._send(ipam.GetFreeIps, fields)

    async def history(self, **fields: Any) -> Page[ipam.IpHolding]:
        return await self._send(ipam.QueryHistory, fields)

    async def audit(self, **fields: Any) -> ipam.IpAudit:
        return await self._send(ipam.AuditIps, fields)

    async def reclaim(self, **fields: Any) -> list[ipam.UsedIpInventory]:
        return await self._send(ipam.ReclaimIps, fields)


class Imports(_Family):
    async def create(self, **fields: Any) -> ipam.ImportInventory:
        return await self._send(ipam.CreateImport, fields)

    async def add(self, **fields: Any) -> ipam.ImportAdded:
        return await self._send(ipam.AddToImport, fields)

    async def apply(self, *, timeout_seconds: float | None = None, **fields: Any) -> ipam.ImportResult:
        """Give a million rows minutes: `timeout_seconds` is how long the reply is waited for, and the work may take."""
        return await self._send(ipam.ApplyImport, fields, timeout_seconds=timeout_seconds)

    async def problems(self, **fields: Any) -> Page[ipam.ImportProblem]:
        return await self._send(ipam.GetImportProblems, fields)

    async def delete(self, *, timeout_seconds: float | None = None, **fields: Any) -> ipam.ImportInventory | None:
        return await self._send(ipam.DeleteImport, fields, timeout_seconds=timeout_seconds)
