"""Scene: another VLAN with the same subnet does not hear a thing."""

import asyncio

from demo.addresses import add_ranges
from demo.stage import GuestNic, Stage, ping
from viaduct_common.messages.l2 import L2NetworkInventory

VLAN = 20


async def play(stage: Stage, a: GuestNic, b: GuestNic) -> L2NetworkInventory:
    """Return the other network, with a VM on host1 and one on host3."""
    tell, net = stage.narrator, stage.net
    with tell.scene(
        "Another VLAN, the same subnet, and no way across",
        f"Network red is VLAN {VLAN}; its VMs live on the same hosts, in the same 192.168.0.0/24.",
    ):
        red = await stage.vlan_network("red", VLAN)
        for cluster in ("cluster1", "cluster2"):
            await net.l2.attach(l2_network_uuid=red.uuid, cluster_uuid=stage.clusters[cluster].uuid)
        l3 = await net.l3.create(l2_network_uuid=red.uuid, name="red-net")
        await add_ranges(stage, l3.uuid)
        c = await stage.guest("c", "host1", red, l3.uuid)
        d = await stage.guest("d", "host3", red, l3.uuid)
        tell.show([f"vm-c  {c.ip}/24  {c.host}, on {red.bridge_name}", f"vm-d  {d.ip}/24  {d.host}, the same"])
        with stage.stack.hosts.lab.capture("trunk") as wire:
            tell.fact("within red, vm-c pings vm-d", await ping(c, d))
            tell.fact("and vm-d pings vm-c", await ping(d, c))
            for name, source, target_name, target in (
                ("vm-a", a, "vm-d", d),
                ("vm-d", d, "vm-a", a),
                ("vm-c", c, "vm-a on its own host", a),
                ("vm-b", b, "vm-d on its own host", d),
            ):
                silent = not await ping(source, target)
                tell.fact(f"{name} gets no answer from {target_name}", silent)
            asked = await asyncio.to_thread(wire.wait_for, rf"vlan 10\b.* who-has {d.ip} tell {a.ip}")
            answered = wire.lines(rf"Reply {d.ip} .*is-at") and wire.lines(rf"vlan 10\b.*Reply {d.ip}")
            tell.show([asked], title="vm-a did ask, in its own VLAN:")
            tell.fact("and nobody there answered for vm-d", not answered, answered)
        tell.fact("all the while vm-a and vm-b reach each other", await ping(a, b))
    return red
