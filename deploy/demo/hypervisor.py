"""What a hypervisor does: asks for a VM's networks before it starts the VM, and plugs it in as the answer says."""

import asyncio
from dataclasses import dataclass
from uuid import UUID, uuid4

from lab import Vm

from demo.links import neighbours_of, tunnels_to
from demo.stage import Stage
from viaduct_common.messages.vm import NicInventory

TOLD_SECONDS = 10.0
INNER_HEADERS_BYTES = 28  # of a ping: IPv4 20, ICMP 8


@dataclass(frozen=True)
class RunningVm:
    """A VM with one NIC, as `vm.prepareNetworks` has described it."""

    vm: Vm
    host: str
    nic: NicInventory

    @property
    def ip(self) -> str:
        """Its address."""
        return str(self.nic.ips[0].ip)

    @property
    def line(self) -> str:
        """Where it is, in one line."""
        return (
            f"{self.vm.netns}  {self.ip}/{self.nic.ips[0].prefix_length}  {self.nic.mac}  "
            f"{self.host}, {self.nic.device_name} on {self.nic.bridge}"
        )

    @property
    def largest_ping_bytes(self) -> int:
        """What a ping carries when its packet is as large as the network's MTU."""
        return self.nic.mtu - INNER_HEADERS_BYTES


async def prepare(stage: Stage, host: str, l3_uuid: UUID, account_uuid: UUID) -> NicInventory:
    """Have the network of a VM that is to start made ready on a host."""
    (nic,) = await stage.net.vm.prepare_networks(
        vm_uuid=uuid4(),
        host_uuid=stage.host_uuids[host],
        account_uuid=account_uuid,
        nics=[{"l3_network_uuid": l3_uuid}],
    )
    return nic


async def plug_in(stage: Stage, name: str, nic: NicInventory) -> RunningVm:
    """Start the VM: host, device, bridge, MAC, addresses and MTU are the answer's."""
    host = stage.host_name(nic.host_uuid)
    address = f"{nic.ips[0].ip}/{nic.ips[0].prefix_length}"
    add_vm = stage.host(host).add_vm
    vm = await asyncio.to_thread(add_vm, name, nic.bridge, address=address, mac=nic.mac, device=nic.device_name)
    await asyncio.to_thread(vm.run, f"ip link set eth0 mtu {nic.mtu}")
    return RunningVm(vm, host, nic)


async def start_vm(stage: Stage, name: str, host: str, l3_uuid: UUID, account_uuid: UUID) -> RunningVm:
    """Prepare, then plug in."""
    return await plug_in(stage, name, await prepare(stage, host, l3_uuid, account_uuid))


async def stop_vm(stage: Stage, running: RunningVm) -> None:
    """Stop the VM, which takes its tap away, then give its networks back."""
    await asyncio.to_thread(running.vm.remove)
    await stage.net.vm.release_networks(vm_uuid=running.nic.vm_uuid)


async def told_of(stage: Stage, host: str, nic: NicInventory, vni: int) -> str:
    """Wait until another host knows where a NIC is, and answers ARP for it; return the address of the NIC's host.

    `vm.prepareNetworks` waits for the VM's own host alone: the others are told right after.
    """

    async def where() -> str:
        return " ".join((await asyncio.to_thread(tunnels_to, stage.host(host), f"vxlan{vni}")).get(nic.mac, []))

    async def known() -> bool:
        answers = await asyncio.to_thread(neighbours_of, stage.host(host), nic.bridge)
        return answers.get(str(nic.ips[0].ip)) == nic.mac and await where() != ""

    told = await stage.until(known, timeout_seconds=TOLD_SECONDS) is not None
    return await where() if told else "nobody knows where"
