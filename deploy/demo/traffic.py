"""Scene: two VMs on hosts of different clusters reach each other, with the tag on the wire."""

import asyncio
from uuid import UUID

from lab import LabError

from demo.attach import VLAN
from demo.stage import GuestNic, Stage, ping
from viaduct_common.messages.l2 import L2NetworkInventory


async def play(stage: Stage, network: L2NetworkInventory, l3_uuid: UUID) -> tuple[GuestNic, GuestNic]:
    """Return the two VMs' NICs."""
    tell = stage.narrator
    with tell.scene(
        "Two VMs, two clusters, one broadcast domain",
        "Each VM is a network namespace with one NIC, plugged into the bridge that the inventory names.",
    ):
        a = await stage.guest("a", "host1", network, l3_uuid)
        b = await stage.guest("b", "host3", network, l3_uuid)
        for name, nic in (("vm-a", a), ("vm-b", b)):
            where = f"{nic.host} ({stage.cluster_of_host[nic.host]}), on {network.bridge_name}"
            tell.show([f"{name}  {nic.ip}/{nic.used_ip.prefix_length}  {where}"])
        tell.fact(f"the lowest free addresses: {a.ip} and {b.ip}", (a.ip, b.ip) == ("192.168.0.13", "192.168.0.14"))
        with stage.stack.hosts.lab.capture("trunk") as wire:
            tell.fact("vm-a pings vm-b", await ping(a, b, count=2))
            tell.fact("vm-b pings vm-a", await ping(b, a, count=2))
            pattern = rf"vlan {VLAN}\b.* {a.ip} > {b.ip}: ICMP echo request"
            try:
                frame = await asyncio.to_thread(wire.wait_for, pattern)
            except LabError as exc:
                frame = str(exc)
            tell.show([frame], title="tcpdump on the trunk between the hosts:")
            tell.fact(f"the frames carry the tag of VLAN {VLAN}", f"vlan {VLAN}," in frame)
    return a, b
