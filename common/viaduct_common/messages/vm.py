"""VMs' networks: made ready before a VM starts, given back after it is gone, moved with it."""

from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

from viaduct_common.messages.base import Page, QueryBody, Request, Role, StrictModel, WireModel
from viaduct_common.messages.fields import HostName, IpAddress, MacAddress, OneOrMany, TimeoutSeconds


class NicIp(WireModel):
    """An address of a NIC; `uuid` is that of the allocation at IPAM."""

    uuid: UUID
    ip: IpAddress
    ip_version: int
    prefix_length: int
    netmask: str | None = None
    gateway: IpAddress | None = None


class NicInventory(WireModel):
    """All that a hypervisor needs to plug in a VM.

    `bridge` is where the NIC is plugged in; `vlan` the tag of its port there, None for a port without; `virtual_port`
    is `openvswitch` for a bridge of Open vSwitch. A network without a bridge (`bridge` is empty) has `parent` and
    `mode`: the NIC is a macvtap device of this mode on that device. `device_name` is the tap's on the host,
    `device_index` the NIC's place in the VM, from 0. `gateway` is that of its first address. `libvirt_xml` is the same
    as a libvirt `<interface>`. `l2_network_uuid` is the L2 network that hosts realise: for one with a VNI range what
    the account has of it.
    """

    uuid: UUID
    vm_uuid: UUID
    host_uuid: UUID
    account_uuid: UUID
    l3_network_uuid: UUID
    l2_network_uuid: UUID
    device_index: int
    device_name: str
    default: bool = True
    host_name: str | None = None
    mac: MacAddress
    bridge: str
    vlan: int | None = None
    virtual_port: Literal["openvswitch"] | None = None
    parent: str | None = None
    mode: Literal["bridge", "vepa", "private"] | None = None
    mtu: int
    ips: list[NicIp] = Field(default_factory=list)
    gateway: IpAddress | None = None
    libvirt_xml: str
    migrating_to_host_uuid: UUID | None = None
    created_at: AwareDatetime


class NicRequest(StrictModel):
    """A NIC on an L3 network; `ip` asks for one address, `ips` for several (one of each version), none for one of
    each version that the network has ranges of. `host_name` is the name by which DNS knows it; None: one made of its
    first address, such as `ip-10-0-0-5`."""

    l3_network_uuid: UUID
    ip: IpAddress | None = None
    ips: Annotated[list[IpAddress], Field(max_length=16)] = Field(default_factory=list)
    mac: MacAddress | None = None
    host_name: HostName | None = None
    security_group_uuids: Annotated[list[UUID], Field(max_length=64)] = Field(default_factory=list)


class PrepareVmNetworks(Request[list[NicInventory]]):
    """Make a VM's networks ready on a host: all of them, or none. What the VM has already is answered as it is.

    `default_l3_network_uuid` is where its default route goes; without it that of its first NIC. Network services know
    the NICs when this is answered.
    """

    message_type: ClassVar[str] = "vm.prepareNetworks"

    vm_uuid: UUID
    host_uuid: UUID
    account_uuid: UUID
    nics: Annotated[list[NicRequest], Field(min_length=1, max_length=64)]
    default_l3_network_uuid: UUID | None = None
    timeout_seconds: TimeoutSeconds = 60


class ReleaseVmNetworks(Request[list[NicInventory]]):
    """Give a VM's NICs back, all of them or those named; answers what was released. What is gone is no error."""

    message_type: ClassVar[str] = "vm.releaseNetworks"

    vm_uuid: UUID
    nic_uuids: Annotated[list[UUID], Field(max_length=64)] | None = None
    timeout_seconds: TimeoutSeconds = 60


class MigrateVmNetworks(Request[list[NicInventory]]):
    """Move a VM's networks to another host; MACs and addresses stay.

    Without `action` the NICs are moved at once. For a live migration: `begin` makes the destination ready while the
    source goes on, then `finish` makes the destination theirs, or `abort` gives it back.
    """

    message_type: ClassVar[str] = "vm.migrateNetworks"

    vm_uuid: UUID
    host_uuid: UUID
    action: Literal["begin", "finish", "abort"] | None = None
    timeout_seconds: TimeoutSeconds = 60


class NicFilters(StrictModel):
    uuid: OneOrMany[UUID] | None = None
    vm_uuid: OneOrMany[UUID] | None = None
    host_uuid: OneOrMany[UUID] | None = None
    account_uuid: OneOrMany[UUID] | None = None
    l3_network_uuid: OneOrMany[UUID] | None = None
    l2_network_uuid: OneOrMany[UUID] | None = None
    mac: OneOrMany[MacAddress] | None = None


class QueryNics(Request[Page[NicInventory]], QueryBody):
    """VMs' NICs by filters."""

    message_type: ClassVar[str] = "nic.query"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    filters: NicFilters = NicFilters()


class Placement(WireModel):
    """Where a VM can run: `host_uuids` are connected, not in maintenance, and lie in one of `cluster_uuids`."""

    cluster_uuids: list[UUID] = Field(default_factory=list)
    host_uuids: list[UUID] = Field(default_factory=list)


class FindPlacement(Request[Placement]):
    """The clusters and hosts on which a VM with NICs on all of these L3 networks can run."""

    message_type: ClassVar[str] = "placement.hosts"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    l3_network_uuids: Annotated[list[UUID], Field(min_length=1, max_length=64)]
