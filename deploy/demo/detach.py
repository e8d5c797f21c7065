"""Scene: a detach is refused while a VM is plugged in, then removes what the attach has made, and nothing else."""

import asyncio
import json

from demo.links import Link
from demo.stage import UPLINK, GuestNic, Stage, ping, took
from viaduct_common.messages.l2 import L2NetworkInventory


async def play(stage: Stage, network: L2NetworkInventory, a: GuestNic, b: GuestNic) -> None:
    """Detach the network from cluster1."""
    tell, net = stage.narrator, stage.net
    subject = {"l2_network_uuid": network.uuid, "cluster_uuid": stage.clusters["cluster1"].uuid}
    ours = set(network.device_names)
    with tell.scene(
        "A detach takes its own devices away, and nothing else",
        f"Network {network.name} leaves cluster1; on cluster2 it stays. vm-a is still plugged in on host1.",
    ):
        refused = await stage.refusal(net.l2.detach(**subject))
        tell.show([f"{refused.code}: {refused.message}"])
        named = a.vm.port in json.dumps([refused.message, refused.details])
        tell.fact(f"refused with {refused.code}, and the port is named", refused.code == "IN_USE" and named, refused)
        tell.fact("nothing was changed: vm-a still pings vm-b", await ping(a, b))

        tell.say("vm-a is removed, its address released.")
        await asyncio.to_thread(a.vm.remove)
        await net.ip.release(uuids=[a.used_ip.uuid])
        before = {name: await stage.links(name) for name in stage.hosts_of("cluster1")}
        plan = await net.l2.plan(**subject, action="detach")
        for host in sorted(plan.hosts, key=lambda host: stage.host_name(host.host_uuid)):
            tell.show(host.steps, title=f"{stage.host_name(host.host_uuid)} would do:")
        operation = await net.l2.detach(**subject)
        stage.show_steps(operation)
        tell.fact("detached from cluster1", operation.state == "succeeded", operation, seconds=took(operation))

        after = {name: await stage.links(name) for name in before}
        _compare(stage, "host1", before["host1"], after["host1"])
        for name, links in before.items():
            gone = links.keys() - after[name].keys()
            tell.fact(f"{name} has lost {' and '.join(sorted(gone))}, nothing else", gone == ours, after[name])
            kept = all(after[name].get(other) == link for other, link in links.items() if other not in ours)
            tell.fact(f"{name}'s {UPLINK} and the other networks are as they were", kept, after[name])
        stays = (await net.l2.get(uuid=network.uuid)).attached_cluster_uuids == [stage.clusters["cluster2"].uuid]
        tell.fact("the network is attached to cluster2 alone", stays)
        tell.fact("where host3 still has it", ours <= (await stage.links("host3")).keys())


def _compare(stage: Stage, host: str, before: dict[str, Link], after: dict[str, Link]) -> None:
    """Show the devices of a host side by side in time: those that went are marked."""
    rows = [f"{' ' if name in after else '-'} {link.line}" for name, link in before.items()]
    stage.narrator.show(rows, title=f"{host}, `ip link` before and after (- is gone):")
