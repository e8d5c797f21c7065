"""Scene: all services are given back, and no host has anything of them."""

import asyncio
from collections.abc import Mapping

from demo.cloud import Cloud, kill_programs, traces
from demo.hypervisor import RunningVm, stop_vm
from demo.services import GUARDED, ROUTED
from viaduct_common.messages.services.eips import EipInventory

GONE_SECONDS = 15.0


async def play(cloud: Cloud, n: RunningVm, o: RunningVm, eip: EipInventory, before: Mapping[str, list[str]]) -> None:
    """Take VMs, services and networks away; `before` is what each host had without them."""
    tell, stage = cloud.stage.narrator, cloud.stage
    net = stage.net
    with tell.scene(
        "Given back: no namespace, no rule, no program is left",
        "The EIP is deleted, the VMs are stopped and released: with the last one the router goes. Then the services "
        "are detached, the networks deleted.",
    ):
        during = await traces(stage)
        where = await cloud.router_host()
        for host in (where, n.host):
            there = [line for line in during[host] if line not in before[host]]
            tell.show(there, title=f"what {host} has of all this:")
        await net.eip.delete(uuid=eip.uuid)
        await net.vip.delete(uuid=eip.vip_uuid)
        for one in (n, o):
            await kill_programs(stage, one.host, one.vm)
            await stop_vm(stage, one)
        await kill_programs(stage, "host3", cloud.world)
        await asyncio.to_thread(cloud.world.remove)

        async def nothing_served() -> bool:
            return all(row.host_uuid is None for row in (await net.service.query()).items)

        took = await stage.until(nothing_served, timeout_seconds=GONE_SECONDS)
        left = (await net.service.query()).items
        tell.fact("no host is to serve anything any more", took is not None, left)
        await net.l3.detach_services(
            l3_network_uuid=cloud.private.uuid,
            services={cloud.providers["VirtualRouter"]: ROUTED, cloud.providers["SecurityGroup"]: GUARDED},
        )
        vips = (await net.vip.query()).items
        tell.fact("SNAT's public address has gone back with it", not vips, vips)
        l3_uuids = [cloud.private.uuid, cloud.public.uuid]

        async def free() -> bool:
            return (await net.ip.capacity(l3_network_uuids=l3_uuids)).used == 0

        took = await stage.until(free, timeout_seconds=GONE_SECONDS)
        used = (await net.ip.query(filters={"l3_network_uuid": l3_uuids})).items
        tell.fact("no address is in use, inside or outside", took is not None, used)
        for l3 in (cloud.private, cloud.public):
            await net.l3.delete(uuid=l3.uuid)
        for network in (cloud.inside, cloud.outside):
            attached = (await net.l2.get(uuid=network.uuid)).attached_cluster_uuids
            for cluster_uuid in attached:
                await net.l2.detach(l2_network_uuid=network.uuid, cluster_uuid=cluster_uuid)
            await net.l2.delete(uuid=network.uuid)

        async def as_before() -> bool:
            return await traces(stage) == before

        took = await stage.until(as_before, timeout_seconds=GONE_SECONDS)
        claim = "five hosts, as before: the same devices, namespaces, nft tables, programs"
        tell.fact(claim, took is not None, _differences(before, await traces(stage)))


def _differences(before: Mapping[str, list[str]], after: Mapping[str, list[str]]) -> str:
    """The lines of each host that came or went."""
    rows = []
    for name, now in after.items():
        was = before[name]
        rows += [f"{name} + {line}" for line in now if line not in was]
        rows += [f"{name} - {line}" for line in was if line not in now]
    return "\n".join(rows)
