"""Scene: an L2VlanNetwork, planned, then attached to two clusters."""

from demo.stage import UPLINK, Stage, took
from viaduct_common.messages.l2 import L2NetworkInventory

VLAN = 10


async def play(stage: Stage) -> L2NetworkInventory:
    """Return the network, realized on every host."""
    tell, net = stage.narrator, stage.net
    with tell.scene(
        "An L2VlanNetwork comes to two clusters",
        f"VLAN {VLAN} on {UPLINK} is to be one broadcast domain of all hosts. First the plan, which changes nothing.",
    ):
        blue = await stage.vlan_network("blue", VLAN)
        plan = await net.l2.plan(
            l2_network_uuid=blue.uuid, cluster_uuid=stage.clusters["cluster1"].uuid, action="attach"
        )
        for host in sorted(plan.hosts, key=lambda host: stage.host_name(host.host_uuid)):
            tell.show(host.steps, title=f"{stage.host_name(host.host_uuid)} would do:")
        planned = {stage.host_name(host.host_uuid): len(host.steps) for host in plan.hosts}
        tell.fact("every host of cluster1 would make a bridge and a VLAN device", planned == {"host1": 2, "host2": 2})
        before = {name: await stage.links(name) for name in stage.host_uuids}
        untouched = all(blue.bridge_name not in links for links in before.values())
        tell.fact("no host has been touched so far", untouched, before)

        tell.say("Now attach it to both clusters. Each host is asked first whether it can, then told to.")
        for cluster in ("cluster1", "cluster2"):
            operation = await stage.attach(blue, cluster)
            tell.fact(f"attached to {cluster}", operation.state == "succeeded", operation, seconds=took(operation))

        await _show_devices(stage, blue)
        states = (await net.realization.query(filters={"l2_network_uuid": blue.uuid})).items
        good = [row for row in states if row.state == "realized" and row.generation == row.observed_generation]
        tell.fact("the manager has seen it realized on all three hosts", len(good) == len(stage.host_uuids), states)
        checks = await net.l2.check(l2_network_uuid=blue.uuid)
        statuses = {stage.host_name(check.host_uuid): check.status for check in checks}
        tell.fact(f"check compares every attribute: {_said(statuses)}", set(statuses.values()) == {"ok"}, checks)
    return await net.l2.get(uuid=blue.uuid)


async def _show_devices(stage: Stage, network: L2NetworkInventory) -> None:
    tell = stage.narrator
    (device,) = set(network.device_names) - {network.bridge_name}
    for name in stage.host_uuids:
        links = await stage.links(name)
        if name == "host1":
            tell.show((link.line for link in links.values()), title=f"{name}, as `ip link` tells:")
        vlan = links.get(device)
        made = vlan is not None and (vlan.vlan, vlan.parent, vlan.master) == (VLAN, UPLINK, network.bridge_name)
        tell.fact(f"{name} has {network.bridge_name} with {device}, tag {VLAN}, as its port", made, links)


def _said(statuses: dict[str, str]) -> str:
    return ", ".join(f"{name} {status}" for name, status in sorted(statuses.items()))
