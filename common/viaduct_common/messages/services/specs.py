"""What an agent is told of routers and of distributed (flat) services: the `spec` of their kinds."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from viaduct_common.messages.base import WireModel
from viaduct_common.messages.fields import IpAddress, IpInterface, IpNetwork, L4Port, MacAddress, MtuBytes

VIRTUAL_ROUTER = "virtualRouter"
FLAT = "flat"


class BridgePort(WireModel):
    """Where an interface is plugged in on the host: as a VM's NIC would be (`NicInventory`)."""

    l2_network_uuid: UUID
    bridge: str
    vlan: int | None = None
    virtual_port: Literal["openvswitch"] | None = None


class Leg(WireModel):
    """An interface in a network namespace. `gateways` are the next hops of default routes, one for each IP version at
    most; `mac` is the same on every host that ever has it."""

    port: BridgePort
    mac: MacAddress
    mtu: MtuBytes
    addresses: list[IpInterface]
    gateways: list[IpAddress] = Field(default_factory=list)


class ServedNic(WireModel):
    """A VM's NIC that is served. `default` marks the one that carries its VM's default route."""

    nic_uuid: UUID
    mac: MacAddress
    host_name: str | None = None
    ips: list[IpAddress]
    default: bool = True


class HostRoute(WireModel):
    """A route that DHCP hands out: options 121 (RFC 3442) and 249."""

    prefix: IpNetwork
    next_hop: IpAddress


class DhcpSpec(WireModel):
    """What is handed out beside addresses. `routers` are the gateways, given to default NICs only; `dns_servers` in
    order."""

    routers: list[IpAddress] = Field(default_factory=list)
    dns_servers: list[IpAddress] = Field(default_factory=list)
    domain: str | None = None
    routes: list[HostRoute] = Field(default_factory=list)
    mtu: MtuBytes
    lease_seconds: Annotated[int, Field(ge=120, le=2**31)] = 86400


class DnsRecord(WireModel):
    host_name: str
    ips: list[IpAddress]


class DnsSpec(WireModel):
    """Names of NICs, forward and reverse; all else goes to `forwarders`, in order."""

    domain: str | None = None
    forwarders: list[IpAddress] = Field(default_factory=list)
    records: list[DnsRecord] = Field(default_factory=list)


class EipRule(WireModel):
    """One public address is one NIC's, both ways."""

    eip_uuid: UUID
    public_ip: IpAddress
    private_ip: IpAddress


class PortForwardingRule(WireModel):
    """Ports of a public address go to as many of a private one. `allowed_cidr` limits who may use them."""

    rule_uuid: UUID
    protocol: Literal["TCP", "UDP"]
    public_ip: IpAddress
    public_start: L4Port
    public_end: L4Port
    private_ip: IpAddress
    private_start: L4Port
    allowed_cidr: IpNetwork | None = None


class RouterSpec(WireModel):
    """A router: a network namespace with a leg in the L3 network and one in each public network.

    `snat` are the public addresses behind which the L3 network's NICs hide, one for each IP version at most. None of
    `dhcp` and `dns`: that service is not this provider's here.
    """

    l3_network_uuid: UUID
    inside: Leg
    outside: list[Leg] = Field(default_factory=list)
    nics: list[ServedNic] = Field(default_factory=list)
    dhcp: DhcpSpec | None = None
    dns: DnsSpec | None = None
    snat: list[IpAddress] = Field(default_factory=list)
    eips: list[EipRule] = Field(default_factory=list)
    port_forwardings: list[PortForwardingRule] = Field(default_factory=list)


class FlatEip(WireModel):
    """An EIP that is served on its NIC's own host: `outside` is its place in the public network, `public_ip` among its
    addresses."""

    rule: EipRule
    nic_uuid: UUID
    outside: Leg


class FlatSpec(WireModel):
    """Distributed services of one L3 network on one host: `nics` are those of this host, `dns.records` those of the
    whole network. `inside` is the server's place in the network; its addresses are the same on every host, and must not
    be heard from another."""

    l3_network_uuid: UUID
    inside: Leg
    nics: list[ServedNic] = Field(default_factory=list)
    dhcp: DhcpSpec | None = None
    dns: DnsSpec | None = None
    eips: list[FlatEip] = Field(default_factory=list)
