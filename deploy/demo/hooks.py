"""Scene: VMs whose networks are made ready by one request, and their frames in the tunnel."""

import asyncio
import re
from uuid import uuid4

from lab import Capture

from demo.hypervisor import RunningVm, plug_in, prepare, told_of
from demo.stage import GuestNic, Stage, ping
from demo.tunnel import VNI
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
        for_g = await prepare(stage, "host1", l3_uuid, account)
        for_h = await prepare(stage, "host3", l3_uuid, account)
        tell.show([for_g.libvirt_xml], title="the answer for vm-g on host1, as libvirt's XML:")
        for host, name, nic, where in (
            ("host1", "vm-h", for_h, "host3"),
            ("host2", "vm-h", for_h, "host3"),
            ("host3", "vm-g", for_g, "host1"),
        ):
            end = await told_of(stage, host, nic, VNI)
            claim = f"{host} was told where {name} will be: behind {end}, which is {where}"
            tell.fact(claim, end == stage.host(where).address)
        g, h = await plug_in(stage, "g", for_g), await plug_in(stage, "h", for_h)
        tell.show([g.line, h.line])

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
