"""Scene: an EIP leads to one VM and back, forwarded ports to another, for those who are allowed."""

from uuid import UUID

from demo.clients import SILENCE_SECONDS, ask, serve
from demo.cloud import Cloud
from demo.hypervisor import RunningVm
from demo.services import WORLD
from viaduct_common.messages.services.eips import EipInventory

PORTS = (8080, 8081)
ELSEWHERE = "203.0.113.0/24"


async def play(cloud: Cloud, n: RunningVm, o: RunningVm) -> EipInventory:
    """Return the EIP of `n`; the forwarded ports are gone again."""
    tell, net = cloud.stage.narrator, cloud.stage.net
    with tell.scene(
        "Reached from outside: an EIP, and forwarded ports",
        f"Both VMs have a server on port {PORTS[0]}, which tells its client whom it sees. The client is the world, "
        f"{WORLD}.",
    ):
        for one in (n, o):
            await serve(one.vm, *PORTS)
        mine, shared = [
            await net.vip.create(l3_network_uuid=cloud.public.uuid, name=name) for name in ("for vm-n", "shared")
        ]
        eip = await net.eip.create(vip_uuid=mine.uuid, name="vm-n", nic_uuid=n.nic.uuid)
        await cloud.settled(eip.uuid)
        seen = await ask(cloud.world, str(mine.ip), PORTS[0])
        tell.fact(f"{mine.ip}:{PORTS[0]} is vm-n, which sees who asks: {seen}", seen == WORLD, seen)
        seen = await ask(n.vm, WORLD, 80)
        tell.fact(f"and out again: the world sees vm-n come from {seen}", seen == str(mine.ip), seen)
        seen = await ask(o.vm, WORLD, 80)
        tell.fact(f"vm-o still comes from {seen}", seen == cloud.snat, seen)

        rules: list[UUID] = []
        for port, source in ((80, f"{WORLD}/32"), (81, ELSEWHERE)):
            rule = await net.port_forwarding.create(
                vip_uuid=shared.uuid, name=f"port {port}", protocol="TCP", vip_port_start=port,
                private_port_start=PORTS[0], allowed_cidr=source, nic_uuid=o.nic.uuid,
            )  # fmt: skip
            rules.append(rule.uuid)
            tell.show([f"{shared.ip}:{port} -> vm-o:{PORTS[0]}, from {source}"])
        for rule_uuid in rules:
            await cloud.settled(rule_uuid)
        seen = await ask(cloud.world, str(shared.ip), 80)
        tell.fact("the world is let in on port 80", seen == WORLD, seen)
        tell.fact(
            "and not on port 81, which is for others",
            not await ask(cloud.world, str(shared.ip), 81, seconds=SILENCE_SECONDS),
        )
        for rule_uuid in rules:
            await net.port_forwarding.delete(uuid=rule_uuid)
        await cloud.settled(cloud.private.uuid)
        tell.fact(
            "the rules deleted, port 80 is closed again",
            not await ask(cloud.world, str(shared.ip), 80, seconds=SILENCE_SECONDS),
        )
        await net.vip.delete(uuid=shared.uuid)
    return eip
