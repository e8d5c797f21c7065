"""What the specs of routers and of flat services have in common. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from viaduct_common.messages.l2 import L2NetworkInventory
from viaduct_common.messages.services.specs import BridgePort, DhcpSpec, DnsRecord, DnsSpec, Leg, ServedNic
from viaduct_manager.l2_types.registry import L2Types
from viaduct_manager.model.macs import service_mac
from viaduct_manager.network_services.facts import (
    Address,
    AddressInNetwork,
    Interface,
    NicOnNetwork,
    PublicAddress,
    ServedNetwork,
)

DHCP, DNS = "DHCP", "DNS"


class Ports:
    """Where something is plugged in on a host: as a NIC would be, by the backends of its cluster."""

    def __init__(self, l2_types: L2Types) -> None:
        self._types = l2_types

    def of(self, network: L2NetworkInventory, backends: Mapping[str, str]) -> BridgePort:
        backend = self._types.backend_of(network.type, backends)
        port = self._types.get(network.type).vm_port(network, backend)
        return BridgePort(
            l2_network_uuid=network.uuid, bridge=port.bridge, vlan=port.vlan, virtual_port=port.virtual_port
        )

    def has_any(self, network: L2NetworkInventory) -> bool:
        """Whether hosts have the network outside of VMs, with a bridge to plug something in.

        One with a VNI range they do not: each account has a network of its own instead, which is realised on the hosts
        of its VMs alone. And macvtap devices are plugged into no bridge.
        """
        return not self._types.get(network.type).at_vm_time(network.own_fields()) and bool(self.of(network, {}).bridge)


def gateways(nics: Iterable[NicOnNetwork]) -> list[Interface]:
    """The addresses that NICs take for their gateways, in their subnets."""
    found = {
        AddressInNetwork(one.gateway, one.prefix_length, None).interface
        for nic in nics
        for one in nic.ips
        if one.gateway is not None
    }
    return sorted(found, key=lambda one: (one.version, int(one.ip), one.network.prefixlen))


def served_nics(nics: Iterable[NicOnNetwork]) -> list[ServedNic]:
    return [
        ServedNic(
            nic_uuid=nic.uuid,
            mac=nic.mac,
            host_name=name_of(nic),
            ips=[one.ip for one in nic.ips],
            default=nic.default,
        )
        for nic in sorted(nics, key=lambda nic: nic.uuid)
    ]


def dhcp_spec(network: ServedNetwork, servers: Sequence[Address], routers: Sequence[Address]) -> DhcpSpec | None:
    """Args:
    servers: the addresses of what serves; VMs are to ask them for names if that is served as well.
    """
    if DHCP not in network.types:
        return None
    return DhcpSpec(
        routers=list(routers),
        dns_servers=list(servers if DNS in network.types else network.dns),
        domain=network.domain,
        routes=list(network.routes),
        mtu=network.mtu,
    )


def dns_spec(network: ServedNetwork, nics: Iterable[NicOnNetwork]) -> DnsSpec | None:
    """Without servers of the L3 network nothing is forwarded: what a host asks for itself is no VM's business."""
    if DNS not in network.types:
        return None
    records = [
        DnsRecord(host_name=name, ips=[one.ip for one in nic.ips])
        for nic in sorted(nics, key=lambda nic: nic.uuid)
        if (name := name_of(nic)) is not None
    ]
    return DnsSpec(domain=network.domain, forwarders=list(network.dns), records=records)


def name_of(nic: NicOnNetwork) -> str | None:
    """Its own, or one made of its first address, one label: `ip-10-0-0-5`, `ip-fd00--5`."""
    if nic.host_name is not None or not nic.ips:
        return nic.host_name
    name = f"ip-{nic.ips[0].ip}".replace(".", "-").replace(":", "-")
    return f"{name}0" if name.endswith("-") else name


def outside_leg(service_uuid: UUID, network: ServedNetwork, port: BridgePort, publics: Iterable[PublicAddress]) -> Leg:
    """The place of a service in a public network, with these addresses."""
    places = {one.place for one in publics if one.l3_uuid == network.uuid}
    ways = {place.gateway for place in places if place.gateway is not None}
    first = {way.version: way for way in sorted(ways, key=int, reverse=True)}
    return Leg(
        port=port,
        mac=service_mac(service_uuid, network.uuid),
        mtu=network.mtu,
        addresses=sorted({place.interface for place in places}, key=lambda one: (one.version, int(one.ip))),
        gateways=[first[version] for version in sorted(first)],
    )
