"""Scene: a security group closes a VM, opens one port, and cuts what it no longer admits."""

import asyncio
import re
from uuid import UUID

from demo.clients import SILENCE_SECONDS, Connection, ask, run
from demo.cloud import Cloud
from demo.hypervisor import RunningVm
from demo.public_addresses import PORTS
from demo.stage import ping

SPOOFED = "10.20.0.77"


async def play(cloud: Cloud, n: RunningVm, o: RunningVm) -> None:
    """Put `n` into a group, and take it out again; `o` is the other side."""
    tell, net, stage = cloud.stage.narrator, cloud.stage.net, cloud.stage
    one, other = PORTS
    with tell.scene(
        "A security group on the VM's own host",
        f"vm-n joins group web, which has no rule for vm-o yet. vm-n has servers on ports {one} and {other}.",
    ):
        tell.fact(f"vm-o reaches both: {one} and {other}", all([await ask(o.vm, n.ip, port) for port in PORTS]))
        web = await net.security_group.create(name="web")
        await net.security_group.attach_l3(security_group_uuid=web.uuid, l3_network_uuids=[cloud.private.uuid])
        await net.security_group.add_nics(security_group_uuid=web.uuid, nic_uuids=[n.nic.uuid])
        await cloud.settled(web.uuid)
        tries = [ask(o.vm, n.ip, port, seconds=SILENCE_SECONDS) for port in PORTS]
        heard = await asyncio.gather(*tries, ping(o, n))
        tell.fact("as a member vm-n is closed: no port, no ping", not any(heard), heard)
        tell.fact("it may speak itself, and hears the answers: vm-n pings vm-o", await ping(n, o))

        narrow = await _admit(cloud, web.uuid, f"{o.ip}/32", one)
        *seen, pinged = await asyncio.gather(
            ask(o.vm, n.ip, one), ask(o.vm, n.ip, other, seconds=SILENCE_SECONDS), ping(o, n)
        )
        tell.fact(f"a rule admits vm-o to TCP {one}", seen[0] == o.ip, seen)
        tell.fact(f"and to nothing else: no answer from {other}, nor to a ping", not seen[1] and not pinged, seen)

        connection = await Connection.open(o.vm, n.ip, one)
        tell.fact("vm-o opens a connection and keeps it", await connection.answers("hello"))
        wide = await _admit(cloud, web.uuid, "10.20.0.0/24", one)
        await net.security_group.remove_rules(security_group_uuid=web.uuid, rule_uuids=[narrow])
        await cloud.settled(web.uuid)
        tell.fact("another rule takes over, for the whole subnet: it lives on", await connection.answers("again"))
        await net.security_group.remove_rules(security_group_uuid=web.uuid, rule_uuids=[wide])
        await cloud.settled(web.uuid)
        tell.fact(
            "that rule is removed, too: the connection is dead",
            not await connection.answers("anybody", seconds=SILENCE_SECONDS),
        )

        tell.say(f"vm-o, which is in no group, takes an address that is not its own, {SPOOFED}, and pings the router.")
        router = str(o.nic.gateway)
        await run(o.vm, f"ip addr add {SPOOFED}/24 dev eth0")
        pings = "ping -n -c 2 -i 0.2 -W 1"
        with stage.stack.hosts.lab.capture("mgmt", "udp port 4789") as wire:
            honest, spoofed = await asyncio.gather(
                *(run(o.vm, f"{pings} -I {ip} {router}", check=False) for ip in (o.ip, SPOOFED))
            )
            tell.fact("with its own address it is answered", " 0% packet loss" in honest, honest)
            tell.fact("with the other it is not", "100% packet loss" in spoofed, spoofed)
            frames = wire.output.read_text().splitlines()
            honestly, left = ([line for line in frames if _names(line, ip)] for ip in (o.ip, SPOOFED))
            tell.show(
                [line for line in honestly if "ICMP" in line][:1],
                title="tcpdump on the management network, within the tunnel, has:",
            )
            tell.fact("and not one packet with it has left host2", bool(honestly) and not left, "\n".join(frames))
        await run(o.vm, f"ip addr del {SPOOFED}/24 dev eth0")
        await net.security_group.remove_nics(security_group_uuid=web.uuid, nic_uuids=[n.nic.uuid])
        await cloud.settled(n.nic.uuid)
        tell.fact("out of the group, vm-n is open again", bool(await ask(o.vm, n.ip, other)))
        await net.security_group.delete(uuid=web.uuid)


async def _admit(cloud: Cloud, group_uuid: UUID, source: str, port: int) -> UUID:
    """Add a rule and wait until it holds; return its uuid."""
    rule = {"direction": "ingress", "protocol": "TCP", "ports": [{"start": port}], "cidrs": [source]}
    group = await cloud.stage.net.security_group.add_rules(security_group_uuid=group_uuid, rules=[rule])
    await cloud.settled(group_uuid)
    return next(one.uuid for one in group.rules if [str(cidr) for cidr in one.cidrs] == [source])


def _names(line: str, ip: str) -> bool:
    """Tell whether a packet, as tcpdump prints it, has the address: in its header, or in a question (ARP)."""
    return re.search(rf"\b{re.escape(ip)}\b", line) is not None
