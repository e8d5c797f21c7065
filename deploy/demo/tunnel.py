"""Scene: an L2VxlanNetwork beside the VLANs, a tunnel from each host to each other."""

import asyncio

from demo.hypervisor import TOLD_SECONDS
from demo.links import EVERYBODY, tunnels_to
from demo.stage import Stage, took
from viaduct_common.messages.l2 import L2NetworkInventory

VNI = 7000
MTU = 1450


async def play(stage: Stage) -> L2NetworkInventory:
    """Return the network, realized on every host."""
    tell = stage.narrator
    with tell.scene(
        "An L2VxlanNetwork beside them: tunnels, host to host",
        f"Network violet needs no trunk, only that hosts reach each other: its frames travel in UDP packets with VNI "
        f"{VNI}, between the hosts' tunnelIp, here their management addresses.",
    ):
        violet = await stage.vxlan_network("violet", vni=VNI)
        tell.fact(f"its MTU is that of the wire less the tunnel's headers: {violet.mtu}", violet.mtu == MTU, violet)
        operation = await stage.attach(violet, "cluster1")
        tell.fact("attached to cluster1", operation.state == "succeeded", operation, seconds=took(operation))
        await _peers_are(stage, "host1", ["host2"])

        operation = await stage.attach(violet, "cluster2")
        tell.fact("attached to cluster2", operation.state == "succeeded", operation, seconds=took(operation))
        tell.say("The hosts that have it already follow: no multicast, each has a list of all others.")
        links = await stage.links("host1")
        tell.show((links[name].line for name in violet.device_names), title="host1, as `ip link` tells:")
        for name, peers in (("host1", ["host2", "host3"]), ("host3", ["host1", "host2"])):
            await _peers_are(stage, name, peers)
    return violet


async def _peers_are(stage: Stage, host: str, peers: list[str]) -> None:
    """Claim that frames for everybody go from a host to those others, one copy each."""
    wanted = sorted(stage.host(peer).address for peer in peers)
    device = f"vxlan{VNI}"

    async def so() -> bool:
        return (await asyncio.to_thread(tunnels_to, stage.host(host), device)).get(EVERYBODY) == wanted

    so_at_last = await stage.until(so, timeout_seconds=TOLD_SECONDS) is not None
    found = await asyncio.to_thread(tunnels_to, stage.host(host), device)
    claim = f"{host} sends what is for everybody to {' and '.join(peers)}: {' '.join(wanted)}"
    stage.narrator.fact(claim, so_at_last, found)
