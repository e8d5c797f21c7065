"""Scene: VMs whose networks are made ready by one request, and their frames in the tunnel."""

import asyncio
import re
from uuid import uuid4

from lab import Capture

from demo.hypervisor import RunningVm, start_vm
from demo.links import tunnels_to
from demo.stage import GuestNic, Stage, ping
from demo.tunnel import TOLD_SECONDS, VNI
from viaduct_common.messages.l2 import L2NetworkInventory

# VXLAN's inner frame begins 16 bytes into the UDP datagram: those for one NIC, and ARP's for everybody.
FOR_ONE_OR_ARP = "udp port 4789 and (udp[16] & 1 = 0 or udp[28:2] = 0x0806)"


async def play(stage: Stage, network: L2NetworkInventory, a: GuestNic) -> tuple[RunningVm, RunningVm]:
    """Return two VMs on the network, one on host1 and one on host3; `a` is one of network blue."""
    tell = stage.narrator
    with tell.scene(
        "One request before a VM starts: vm.prepareNetworks",
        "Whoever starts VMs names VM, host, account and L3 networks; the answer has all that a hypervisor needs. Here "
        "a namespace plays the VM, plugged in as the answer says.",
    ):
        l3_uuid = await stage.subnet(network, "violet-net")
        account = uuid4()
        g = await start_vm(stage, "g", "host1", l3_uuid, account)
        h = await start_vm(stage, "h", "host3", l3_uuid, account)
        tell.show([g.nic.libvirt_xml], title="the answer for vm-g, as libvirt's XML:")
        tell.show([g.line, h.line])
        for host in ("host1", "host2"):
            end = await _told_of(stage, host, h)
            tell.fact(f"{host} was told where vm-h is, before any frame: {end}", end == stage.host("host3").address)

        with stage.stack.hosts.lab.capture("mgmt", FOR_ONE_OR_ARP) as wire:
            tell.fact("vm-g pings vm-h through the tunnel", await ping(g, h, count=2))
            tell.fact("vm-h pings vm-g", await ping(h, g, count=2))
            large = await ping(g, h, size_bytes=g.largest_ping_bytes)
            tell.fact(f"a packet of the whole MTU passes, {g.nic.mtu} bytes in one piece", large)
            from_g = rf"{stage.host('host1').address}\.\d+ > .*: VXLAN"
            packet = await asyncio.to_thread(wire.wait_for, from_g)
            tell.show([packet], title="tcpdump on the management network:")
            tell.fact(f"the packets carry VNI {VNI}", f"vni {VNI}" in packet)
            one, two, three = (stage.host(name).address for name in ("host1", "host2", "host3"))
            ways = _ways(wire)
            claim = "between host1 and host3 alone: nothing went to host2, not even a question (ARP)"
            tell.fact(claim, ways == {(one, three), (three, one)}, "\n".join(wire.lines()))

            tell.say("vm-a, on host1 as vm-g is, has an address of the same subnet, but in network blue.")
            tell.fact("vm-g gets no answer from vm-a", not await ping(g, a))
            ways = _ways(wire)
            tell.fact("whom nobody knows in violet: its question went to host2, too", (one, two) in ways, ways)
        tell.fact("vm-a gets no answer from vm-h", not await ping(a, h))
    return g, h


def _ways(wire: Capture) -> set[tuple[str, str]]:
    """From which host to which the tunnels' packets went so far."""
    return {way for line in wire.lines() for way in re.findall(r"([\d.]+)\.\d+ > ([\d.]+)\.4789: VXLAN", line)}


async def _told_of(stage: Stage, host: str, vm: RunningVm) -> str:
    """Where a host sends frames for a VM's NIC; it is waited for."""

    async def known() -> bool:
        return vm.nic.mac in await asyncio.to_thread(tunnels_to, stage.host(host), f"vxlan{VNI}")

    await stage.until(known, timeout_seconds=TOLD_SECONDS)
    found = await asyncio.to_thread(tunnels_to, stage.host(host), f"vxlan{VNI}")
    return " ".join(found.get(vm.nic.mac, ["nowhere"]))
