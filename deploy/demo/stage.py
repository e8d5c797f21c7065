"""What the scenes play on: the stack's hosts, clusters and zone, the product's own client, and a narrator."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from lab import Host, Vm

from demo.links import Link, links_of
from demo.narrator import FactFailed, Narrator, duration
from local_stack.stack import Stack
from viaduct_common.client import ViaductClient
from viaduct_common.errors import ViaductError
from viaduct_common.messages.base import ErrorBody
from viaduct_common.messages.cluster import ClusterInventory
from viaduct_common.messages.ipam import UsedIpInventory
from viaduct_common.messages.l2 import L2_VLAN, L2_VXLAN, L2NetworkInventory
from viaduct_common.messages.operation import OperationInventory

UPLINK = "eth1"  # every host's data NIC, on the lab's trunk
UNDERLAY = "eth0"  # its management NIC
POLL_SECONDS = 0.05
SUBNET_MASK = "255.255.255.0"


class EndPoint(Protocol):
    """A VM that is plugged in: what pings, and is pinged."""

    @property
    def vm(self) -> Vm: ...

    @property
    def ip(self) -> str: ...


@dataclass(frozen=True)
class GuestNic:
    """A VM's NIC: the end point in its host, and the address that IPAM gave it."""

    vm: Vm
    host: str
    used_ip: UsedIpInventory

    @property
    def ip(self) -> str:
        """Its address."""
        return str(self.used_ip.ip)


@dataclass(frozen=True)
class Stage:
    """One run's world."""

    stack: Stack
    net: ViaductClient
    narrator: Narrator
    zone_uuid: UUID
    clusters: dict[str, ClusterInventory]
    host_uuids: dict[str, UUID]
    cluster_of_host: dict[str, str]

    def host(self, name: str) -> Host:
        """Return a simulated host, to do in it what only an intruder, or a power cut, would do."""
        return self.stack.hosts.host(name)

    def host_name(self, uuid: UUID) -> str:
        """Return the name of a registered host."""
        return next(name for name, known in self.host_uuids.items() if known == uuid)

    def hosts_of(self, *clusters: str) -> list[str]:
        """Return the hosts of some clusters."""
        return [name for name, cluster in sorted(self.cluster_of_host.items()) if cluster in clusters]

    async def links(self, host: str) -> dict[str, Link]:
        """Return a host's devices, by name."""
        return await asyncio.to_thread(links_of, self.host(host))

    async def vlan_network(self, name: str, vlan: int) -> L2NetworkInventory:
        """Create an L2VlanNetwork on the data NIC."""
        return await self.net.l2.create(
            zone_uuid=self.zone_uuid, name=name, type=L2_VLAN, physical_interface=UPLINK, vlan=vlan
        )

    async def vxlan_network(self, name: str, **own_fields: object) -> L2NetworkInventory:
        """Create an L2VxlanNetwork; its tunnels take the way to the other hosts, whatever NIC that leaves by."""
        return await self.net.l2.create(
            zone_uuid=self.zone_uuid, name=name, type=L2_VXLAN, physical_interface=UNDERLAY, **own_fields
        )

    async def subnet(self, network: L2NetworkInventory, name: str) -> UUID:
        """Create an L3 network with one range, of the subnet that all networks here have; return its uuid."""
        l3 = await self.net.l3.create(l2_network_uuid=network.uuid, name=name)
        await self.net.range.create(
            l3_network_uuid=l3.uuid, start_ip="192.168.0.201", end_ip="192.168.0.250", netmask=SUBNET_MASK
        )
        return l3.uuid

    async def attach(self, network: L2NetworkInventory, cluster: str) -> OperationInventory:
        """Attach, and show what each host did."""
        operation = await self.net.l2.attach(l2_network_uuid=network.uuid, cluster_uuid=self.clusters[cluster].uuid)
        self.show_steps(operation)
        return operation

    def show_steps(self, operation: OperationInventory) -> None:
        """A line per host and phase of an operation."""
        rows = []
        for step in sorted(operation.steps, key=lambda step: (step.started_at, self.host_name(step.host_uuid))):
            took = duration((step.finished_at - step.started_at).total_seconds()) if step.finished_at else ""
            what = f"{len(step.changes)} changes" if step.changes else step.error.message if step.error else ""
            name = self.host_name(step.host_uuid)
            rows.append(f"{name}  {step.phase:<9} {step.state:<8} {took:>7}  {what}".rstrip())
        self.narrator.show(rows)

    async def guest(self, name: str, host: str, network: L2NetworkInventory, l3_uuid: UUID) -> GuestNic:
        """Allocate an address, and plug a VM's NIC with it into the bridge that the inventory names."""
        (used_ip,) = await self.net.ip.allocate(l3_network_uuid=l3_uuid, owner=f"vm-{name}")
        address = f"{used_ip.ip}/{used_ip.prefix_length}"
        vm = await asyncio.to_thread(self.host(host).add_vm, name, network.bridge_name, address=address)
        return GuestNic(vm, host, used_ip)

    async def refusal(self, work: Awaitable[object]) -> ErrorBody:
        """Return the error with which a request is refused; it is a failed fact if it is not."""
        try:
            await work
        except ViaductError as error:
            return error.to_body()
        raise FactFailed("a request that must be refused was accepted")

    async def until(self, fact: Callable[[], Awaitable[bool]], *, timeout_seconds: float) -> float | None:
        """Ask until it is so; return how long it took, None when the time is over."""
        began = time.monotonic()
        while not await fact():
            if time.monotonic() - began > timeout_seconds:
                return None
            await asyncio.sleep(POLL_SECONDS)
        return time.monotonic() - began


async def ping(source: EndPoint, target: EndPoint, *, count: int = 1, size_bytes: int = 56) -> bool:
    """Tell whether a VM gets an answer; silence is waited for one second."""
    return await asyncio.to_thread(source.vm.ping, target.ip, count=count, wait_seconds=1, size_bytes=size_bytes)


def took(operation: OperationInventory) -> float:
    """How long an operation that has ended took, in seconds."""
    assert operation.finished_at is not None
    return (operation.finished_at - operation.created_at).total_seconds()


@asynccontextmanager
async def set_up(stack: Stack, narrator: Narrator) -> AsyncIterator[Stage]:
    """Ask the manager what there is."""
    async with ViaductClient(stack.broker.amqp_url(), name="demo", timeout_seconds=30) as net:
        (zone,) = (await net.zone.query()).items
        clusters = {cluster.name: cluster for cluster in (await net.cluster.query()).items}
        hosts = (await net.host.query()).items
        names = {cluster.uuid: name for name, cluster in clusters.items()}
        yield Stage(
            stack,
            net,
            narrator,
            zone_uuid=zone.uuid,
            clusters=clusters,
            host_uuids={host.name: host.uuid for host in hosts},
            cluster_of_host={host.name: names[host.cluster_uuid] for host in hosts},
        )
