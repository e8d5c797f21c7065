"""Scene: gateway hosts join, and one request attaches the services of an L3 network."""

import asyncio

from demo.clients import serve
from demo.cloud import GATEWAYS, Cloud, join, traces
from demo.stage import UPLINK, Stage
from viaduct_common.messages.host import HostInventory
from viaduct_common.messages.l2 import L2_NOVLAN

NEW_HOSTS = ("host4", "host5")
VNI = 7100
INSIDE, OUTSIDE = "10.20.0.0/24", "198.51.100.0/24"
WORLD = "198.51.100.1"  # the public network's gateway, which is not ours
DOMAIN = "inside.test"
MTU = 1400
ROUTE = ("192.0.2.0/24", "10.20.0.99")
ROUTED = ["DHCP", "DNS", "SNAT", "EIP", "PortForwarding"]
GUARDED = ["SecurityGroup"]


async def play(first: Stage) -> tuple[Cloud, dict[str, list[str]]]:
    """Return the networks with their services, and what each host had before."""
    tell, net = first.narrator, first.net
    with tell.scene(
        "Network services: two providers, one request",
        "Two hosts join the running stack as gateways, in a cluster of their own. They are namespaces on this "
        "machine's own kernel.",
    ):
        stage = await join(first, NEW_HOSTS)
        hosts = {host.name: host for host in (await net.host.query()).items}
        able = sorted(name for name, host in hosts.items() if "service/virtualRouter" in host.capabilities)
        labelled = sorted(name for name, host in hosts.items() if host.labels.get("gateway") == "true")
        rows = [f"{name}  {stage.cluster_of_host[name]:<8}  {_served_by(host)}" for name, host in sorted(hosts.items())]
        tell.show(rows, title="what the agents say they can serve:")
        if unable := sorted({*hosts} - {*able}):
            tell.say(f"{', '.join(unable)} offer no router: their kernel cannot translate addresses by nftables.")
        claim = f"{' and '.join(labelled)} are labelled gateway=true, and can have routers"
        tell.fact(claim, labelled == list(NEW_HOSTS) and {*labelled} <= {*able}, hosts)

        inside = await stage.vxlan_network("inside", vni=VNI)
        outside = await net.l2.create(
            zone_uuid=stage.zone_uuid, name="outside", type=L2_NOVLAN, physical_interface=UPLINK
        )
        before = await traces(stage)
        for network, clusters in ((inside, ("cluster1", "cluster2", GATEWAYS)), (outside, ("cluster2", GATEWAYS))):
            for cluster in clusters:
                await net.l2.attach(l2_network_uuid=network.uuid, cluster_uuid=stage.clusters[cluster].uuid)
        public = await net.l3.create(l2_network_uuid=outside.uuid, name="outside-net", category="public")
        private = await net.l3.create(
            l2_network_uuid=inside.uuid,
            name="inside-net",
            dns_domain=DOMAIN,
            mtu=MTU,
            host_routes=[{"prefix": ROUTE[0], "next_hop": ROUTE[1]}],
        )
        for l3, cidr in ((public, OUTSIDE), (private, INSIDE)):
            await net.range.create(l3_network_uuid=l3.uuid, network_cidr=cidr)
        tell.show([
            f"inside    private  {INSIDE:<17} {inside.type}, VNI {VNI}, on all five hosts",
            f"outside   public   {OUTSIDE:<17} {outside.type}, untagged on {UPLINK}, on host3, host4 and host5",
            f"world              {WORLD:<17} a server somewhere outside",
        ])  # fmt: skip
        world = await asyncio.to_thread(stage.host("host3").add_vm, "world", outside.bridge_name, address=f"{WORLD}/24")
        await serve(world, 80)

        providers = {one.name: one.uuid for one in (await net.service_provider.query()).items}
        attached = await net.l3.attach_services(
            l3_network_uuid=private.uuid,
            services={providers["VirtualRouter"]: ROUTED, providers["SecurityGroup"]: GUARDED},
        )
        served = {one.service_type: one.provider for one in attached.services}
        tell.show([f"{kind:<14} {provider}" for kind, provider in served.items()], title="inside-net is served by:")
        tell.fact("one request attached all six", {*served} == {*ROUTED, *GUARDED}, served)
        snat = next(str(one.config["publicIp"]) for one in attached.services if one.service_type == "SNAT")
        tell.fact(f"SNAT has taken a public address: {snat}", snat.startswith("198.51.100."), attached)
        second = net.l3.attach_services(l3_network_uuid=private.uuid, services={providers["Flat"]: ["DHCP"]})
        refused = await stage.refusal(second)
        tell.show([f"{refused.code}: {refused.message}"])
        tell.fact("a second provider of DHCP is refused", refused.code == "SERVICE_CONFLICT", refused)
        idle = [row for row in (await net.service.query()).items if row.host_uuid is not None]
        tell.fact("no host has made a thing of it: there is no VM to serve", not idle, idle)
    return Cloud(stage, inside, outside, attached, public, snat, world, providers), before


def _served_by(host: HostInventory) -> str:
    """The kinds of services that a host's agent can serve."""
    return " ".join(word.removeprefix("service/") for word in host.capabilities if word.startswith("service/"))
