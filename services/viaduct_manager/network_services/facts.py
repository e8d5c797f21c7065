"""What providers of services on L3 networks build their specs of, as plain values."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_interface
from uuid import UUID

from viaduct_common.messages.l2 import L2NetworkInventory
from viaduct_common.messages.services.specs import EipRule, HostRoute, PortForwardingRule

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface


@dataclass(frozen=True)
class ServedNetwork:
    """An L3 network; `types` are those that the provider in question serves on it."""

    uuid: UUID
    name: str
    zone_uuid: UUID
    l2: L2NetworkInventory
    own_mtu: int | None
    dns: tuple[Address, ...]
    domain: str | None
    routes: tuple[HostRoute, ...]
    types: frozenset[str]

    @property
    def mtu(self) -> int:
        return self.l2.mtu if self.own_mtu is None else min(self.own_mtu, self.l2.mtu)


@dataclass(frozen=True)
class AddressInNetwork:
    """An address, and what it knows of its subnet."""

    ip: Address
    prefix_length: int
    gateway: Address | None

    @property
    def interface(self) -> Interface:
        return ip_interface(f"{self.ip}/{self.prefix_length}")


@dataclass(frozen=True)
class NicOnNetwork:
    """A NIC that counts: it has addresses, and is not being released."""

    uuid: UUID
    l3_uuid: UUID
    host_uuid: UUID
    migrating_to_host_uuid: UUID | None
    mac: str
    host_name: str | None
    default: bool
    ips: tuple[AddressInNetwork, ...]

    @property
    def hosts(self) -> frozenset[UUID]:
        """Both while it is being moved: its VM runs on one of them, and may run on the other any moment."""
        found = {self.host_uuid, self.migrating_to_host_uuid}
        return frozenset(uuid for uuid in found if uuid is not None)


@dataclass(frozen=True)
class PublicAddress:
    """A VIP that is in use and enabled."""

    l3_uuid: UUID
    place: AddressInNetwork


@dataclass(frozen=True)
class Eip:
    """One that leads to a NIC; `l3_uuid` is the NIC's."""

    l3_uuid: UUID
    nic_uuid: UUID
    rule: EipRule
    public: PublicAddress


@dataclass(frozen=True)
class Forwarding:
    """A rule that leads to a NIC; `l3_uuid` is the NIC's."""

    l3_uuid: UUID
    rule: PortForwardingRule
    public: PublicAddress


@dataclass(frozen=True)
class Snat:
    """What the NICs of an L3 network hide behind."""

    l3_uuid: UUID
    public: PublicAddress
