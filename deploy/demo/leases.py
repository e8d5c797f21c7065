"""Scene: VMs that know nothing get addresses, names and a way out; a stranger gets nothing."""

import asyncio

from demo.clients import ask, dhcp, run
from demo.cloud import Cloud
from demo.hypervisor import RunningVm
from demo.services import DOMAIN, MTU, ROUTE, WORLD


async def play(cloud: Cloud) -> tuple[RunningVm, RunningVm]:
    """Return two VMs, one on host1 and one on host2."""
    tell, stage = cloud.stage.narrator, cloud.stage
    with tell.scene(
        "What a VM gets: address, routes, names, a way out",
        "vm-n and vm-o start without an address and ask by DHCP, as any guest does (udhcpc). The router was made with "
        "the first of them, on a gateway host.",
    ):
        n, o = await cloud.start("n", "host1", host_name="alpha"), await cloud.start("o", "host2")
        got, got_o = await asyncio.gather(dhcp(n.vm), dhcp(o.vm))
        tell.show([n.line, o.line], title="what IPAM has for them:")
        keys = ("ip", "mask", "router", "dns", "domain", "hostname", "mtu", "staticroutes", "lease")
        tell.show([f"{key}={got[key]}" for key in keys if key in got], title="what vm-n got by DHCP:")
        gateway = str(n.nic.gateway)
        tell.fact(f"vm-n has {n.ip}, vm-o {o.ip}: as IPAM says", (got.get("ip"), got_o.get("ip")) == (n.ip, o.ip), got)
        told = (got.get("router"), got.get("dns"), got.get("domain"), got.get("hostname"))
        tell.fact(
            "the router for gateway and DNS, the domain, its name", told == (gateway, gateway, DOMAIN, "alpha"), got
        )
        link = await run(n.vm, "ip link show eth0")
        tell.fact(f"its MTU is now {MTU}", got.get("mtu") == str(MTU) and f"mtu {MTU} " in link, link)
        routes = await run(n.vm, "ip route")
        tell.show(routes.splitlines(), title="vm-n # ip route")
        right = f"{ROUTE[0]} via {ROUTE[1]}" in routes and f"default via {gateway}" in routes
        tell.fact(f"the network's own route came with it (option 121): {ROUTE[0]}", right, routes)
        where = await cloud.router_host()
        tell.fact(f"the router lives on a gateway host: {where}", where in stage.hosts_of("gateways"), where)

        add_vm = stage.host("host3").add_vm
        stranger = await asyncio.to_thread(add_vm, "stranger", cloud.inside.bridge_name)
        tell.fact("a MAC that Viaduct does not know gets no answer", not await dhcp(stranger, tries=2))
        await asyncio.to_thread(stranger.remove)

        name = f"ip-{o.ip.replace('.', '-')}.{DOMAIN}"
        dig = f"dig +short +time=2 @{gateway}"
        forward, reverse = await run(n.vm, f"{dig} {name}"), await run(o.vm, f"{dig} -x {n.ip}")
        tell.fact(f"dig {name}: {forward}", forward == o.ip, forward)
        tell.fact(f"dig -x {n.ip}: {reverse}", reverse == f"alpha.{DOMAIN}.", reverse)
        seen = [await ask(one.vm, WORLD, 80) for one in (n, o)]
        tell.fact(f"a server outside sees both come from {cloud.snat} (SNAT)", seen == [cloud.snat] * 2, seen)
    return n, o
