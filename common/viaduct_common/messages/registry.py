"""Every request type by name, for each service: what the dispatchers, the client and the documents go by."""

from collections.abc import Iterable
from typing import Any

from viaduct_common.messages import batch, cluster, host, ipam, l2, l3, operation, owner, realization, vm, zone
from viaduct_common.messages.base import Request
from viaduct_common.messages.services import eips, instances, port_forwarding, providers, security_groups, vips

RequestType = type[Request[Any]]


def _by_type(request_types: Iterable[RequestType]) -> dict[str, RequestType]:
    return {request_type.message_type: request_type for request_type in request_types}


MANAGER_REQUESTS: dict[str, RequestType] = _by_type([
    zone.CreateZone, zone.GetZone, zone.QueryZones, zone.UpdateZone, zone.DeleteZone,
    cluster.CreateCluster, cluster.GetCluster, cluster.QueryClusters, cluster.UpdateCluster, cluster.DeleteCluster,
    host.CreateHost, host.GetHost, host.QueryHosts, host.UpdateHost, host.SetHostMaintenance, host.DeleteHost,
    host.MoveHost, host.ListOrphans, host.SweepOrphans,
    l2.CreateL2, l2.GetL2, l2.QueryL2, l2.UpdateL2, l2.DeleteL2,
    l2.AttachL2, l2.DetachL2, l2.CheckL2, l2.PlanL2, l2.GetCandidateClusters,
    l2.ChangeL2Vlan, l2.ChangeL2Mtu,
    l3.CreateL3, l3.GetL3, l3.QueryL3, l3.UpdateL3, l3.DeleteL3,
    providers.QueryServiceProviders, providers.AttachServices, providers.DetachServices, providers.ConfigureService,
    instances.QueryServices, instances.CheckServices, instances.AwaitServices,
    vips.CreateVip, vips.GetVip, vips.QueryVips, vips.UpdateVip, vips.DeleteVip,
    eips.CreateEip, eips.GetEip, eips.QueryEips, eips.UpdateEip, eips.DeleteEip, eips.AttachEip, eips.DetachEip,
    port_forwarding.CreatePortForwarding, port_forwarding.GetPortForwarding, port_forwarding.QueryPortForwardings,
    port_forwarding.UpdatePortForwarding, port_forwarding.DeletePortForwarding,
    port_forwarding.AttachPortForwarding, port_forwarding.DetachPortForwarding,
    security_groups.CreateSecurityGroup, security_groups.GetSecurityGroup, security_groups.QuerySecurityGroups,
    security_groups.UpdateSecurityGroup, security_groups.DeleteSecurityGroup,
    security_groups.AddSecurityGroupRules, security_groups.UpdateSecurityGroupRule,
    security_groups.RemoveSecurityGroupRules, security_groups.AttachSecurityGroup, security_groups.DetachSecurityGroup,
    security_groups.AddNicsToSecurityGroup, security_groups.RemoveNicsFromSecurityGroup,
    security_groups.GetNicSecurityPolicy, security_groups.SetNicSecurityPolicy,
    operation.GetOperation, operation.QueryOperations,
    realization.QueryRealizations,
    vm.PrepareVmNetworks, vm.ReleaseVmNetworks, vm.MigrateVmNetworks, vm.QueryNics, vm.FindPlacement,
    owner.LookUpOwners,
    batch.Batch,
])  # fmt: skip

IPAM_REQUESTS: dict[str, RequestType] = _by_type([
    ipam.RegisterScope, ipam.GetScope, ipam.QueryScopes, ipam.DeleteScope,
    ipam.CreateRange, ipam.GetRange, ipam.QueryRanges, ipam.DeleteRange,
    ipam.CreateReservation, ipam.QueryReservations, ipam.DeleteReservation,
    ipam.AllocateIp, ipam.ReleaseIp, ipam.RenewIps, ipam.GetIp, ipam.QueryIps, ipam.CheckIp, ipam.GetIpCapacity,
    ipam.GetFreeIps, ipam.QueryHistory, ipam.AuditIps, ipam.ReclaimIps,
    ipam.CreateImport, ipam.AddToImport, ipam.ApplyImport, ipam.GetImportProblems, ipam.DeleteImport,
    batch.Batch,
])  # fmt: skip
