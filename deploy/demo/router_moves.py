"""Scene: the gateway host loses its power under traffic, and the router moves."""

import asyncio

from demo.clients import Pings, ask, dhcp, longest_silence
from demo.cloud import Cloud
from demo.hypervisor import RunningVm
from demo.services import WORLD
from viaduct_common.messages.services.eips import EipInventory

MOVED_SECONDS = 60.0
BACK_SECONDS = 30.0
ENOUGH_ANSWERS = 5  # one may have been on its way when the plug came out


async def play(cloud: Cloud, n: RunningVm, o: RunningVm, eip: EipInventory) -> None:
    """Pull the plug of the host that has the router; at the end the host is back."""
    tell, stage = cloud.stage.narrator, cloud.stage
    net = stage.net
    before = await cloud.router_host()
    with tell.scene(
        "The plug of the gateway host is pulled",
        f"The world pings vm-n's public address, {eip.vip_ip}, five times a second, by way of the router on {before}.",
    ):
        pings = await Pings.start(cloud.world, str(eip.vip_ip))

        async def flows() -> bool:
            return await pings.answered() >= ENOUGH_ANSWERS

        tell.fact("they are answered", await stage.until(flows, timeout_seconds=MOVED_SECONDS) is not None)
        await asyncio.to_thread(stage.host(before).stop, hard=True)
        tell.show([f"{before}: power cut"])
        lost_at = await pings.answered()

        async def flows_again() -> bool:
            return await pings.answered() >= lost_at + ENOUGH_ANSWERS

        again = await stage.until(flows_again, timeout_seconds=MOVED_SECONDS) is not None
        printed = await pings.stop()
        after = await cloud.router_host()
        tell.fact(f"the router has moved to {after}", after not in ("", before), after)
        silence = longest_silence(printed)
        tell.fact(f"and {eip.vip_ip} answers again, after a silence of {silence:.1f} s", again, printed)
        seen = await ask(cloud.world, str(eip.vip_ip), 8080), await ask(o.vm, WORLD, 80)
        tell.fact("a new connection in by the EIP, and one out by SNAT", seen == (WORLD, cloud.snat), seen)
        got = await dhcp(o.vm)
        tell.fact("vm-o asks by DHCP again, and gets what it had", got.get("ip") == o.ip, got)

        await asyncio.to_thread(stage.host(before).start)
        await asyncio.to_thread(stage.stack.start_agents, [before])

        async def whole() -> bool:
            rows = (await net.realization.query(filters={"host_uuid": stage.host_uuids[before]})).items
            return len(rows) == 2 and all(row.state == "realized" for row in rows)

        took = await stage.until(whole, timeout_seconds=BACK_SECONDS)
        tell.fact(f"power returns: {before} has its networks again", took is not None)
        await cloud.settled(cloud.private.uuid)
        routers = {name: await _routers(cloud, name) for name in stage.hosts_of("gateways")}
        tell.show([f"{name}: {' '.join(found) or '-'}" for name, found in routers.items()], title="`ip netns list`:")
        tell.fact(f"but no router: that stays on {after}", not routers[before] and len(routers[after]) == 1, routers)


async def _routers(cloud: Cloud, host: str) -> list[str]:
    """The namespaces of routers on a host."""
    listed = await asyncio.to_thread(cloud.stage.host(host).run, "ip netns list")
    return [line.split()[0] for line in listed.stdout.splitlines() if line.startswith("vr-")]
