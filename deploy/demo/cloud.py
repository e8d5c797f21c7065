"""What the scenes of network services play on: gateway hosts, a private and a public network, the world outside."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID, uuid4

from lab import Vm

from demo.hypervisor import RunningVm
from demo.narrator import FactFailed
from demo.stage import Stage
from local_stack.inventory import Enrolled
from viaduct_common.messages.l2 import L2NetworkInventory
from viaduct_common.messages.l3 import L3NetworkInventory

GATEWAYS = "gateways"  # their cluster
ACCOUNT = uuid4()
_LOOK = """
ls /sys/class/net | busybox sed 's/^/device     /'
ls /run/netns | busybox sed 's/^/namespace  /'
nft list tables
busybox ps -o comm | busybox grep -E '^(dnsmasq|haproxy|udhcpc|ping)$' | busybox sed 's/^/program    /'
"""


@dataclass(frozen=True)
class Cloud:
    """`stage` knows the gateway hosts, too; `snat` is the public address that the private network hides behind."""

    stage: Stage
    inside: L2NetworkInventory
    outside: L2NetworkInventory
    private: L3NetworkInventory
    public: L3NetworkInventory
    snat: str
    world: Vm
    providers: dict[str, UUID]

    async def settled(self, subject: UUID) -> None:
        """Wait until all that was asked for about a subject is on its hosts.

        Raises:
            FactFailed: a host could not.
        """
        for row in await self.stage.net.service.wait(subject_uuid=subject):
            if row.state != "applied":
                raise FactFailed(f"{row.kind} of {row.provider} is {row.state}: {row.error}")

    async def router_host(self) -> str:
        """The host that the router is to be on; empty if there is none."""
        filters = {"kind": "virtualRouter", "subject_uuid": self.private.uuid}
        rows = (await self.stage.net.service.query(filters=filters)).items
        there = [row.host_uuid for row in rows if row.desired == "present" and row.host_uuid is not None]
        return self.stage.host_name(there[0]) if there else ""

    async def start(self, name: str, host: str, **nic: object) -> RunningVm:
        """Start a VM in the private network; it knows nothing, but that it has a NIC."""
        stage = self.stage
        (made,) = await stage.net.vm.prepare_networks(
            vm_uuid=uuid4(),
            host_uuid=stage.host_uuids[host],
            account_uuid=ACCOUNT,
            nics=[{"l3_network_uuid": self.private.uuid, **nic}],
        )
        add_vm = stage.host(host).add_vm
        vm = await asyncio.to_thread(add_vm, name, made.bridge, mac=made.mac, device=made.device_name)
        return RunningVm(vm, host, made)


async def join(stage: Stage, names: Sequence[str]) -> Stage:
    """Add hosts to the running stack, as gateways; return the stage with them.

    They are namespaces of this machine's kernel: Debian's for User-Mode Linux has nftables for bridges alone.
    """
    hosts = stage.stack.hosts
    for name in names:
        hosts.lab.add_host(name, kind="netns")
    cluster = await stage.net.cluster.create(zone_uuid=stage.zone_uuid, name=GATEWAYS, hypervisor_type="KVM")
    uuids, enrolled = {}, {}
    for name in names:
        await asyncio.to_thread(hosts.host(name).start)
        made = await stage.net.host.create(
            cluster_uuid=cluster.uuid, name=name, tunnel_ip=hosts.host(name).address, labels={"gateway": "true"}
        )
        assert made.credentials is not None
        uuids[name] = made.uuid
        enrolled[name] = Enrolled(made.uuid, made.credentials.username, made.credentials.password)
    hosts.remember(enrolled)
    await asyncio.to_thread(stage.stack.start_agents, names)
    return replace(
        stage,
        clusters={**stage.clusters, GATEWAYS: cluster},
        host_uuids={**stage.host_uuids, **uuids},
        cluster_of_host={**stage.cluster_of_host, **dict.fromkeys(names, GATEWAYS)},
    )


async def kill_programs(stage: Stage, host: str, vm: Vm) -> None:
    """End what runs in a VM, as its end would."""
    await asyncio.to_thread(stage.host(host).run, f"ip netns pids {vm.netns} | xargs -r kill -9", check=False)


async def traces(stage: Stage) -> dict[str, list[str]]:
    """All that network services could leave on hosts: devices, namespaces, nft tables, programs. By host."""
    looks = [asyncio.to_thread(stage.host(name).run, _LOOK, check=False) for name in stage.host_uuids]
    found = await asyncio.gather(*looks)
    return {name: one.stdout.splitlines() for name, one in zip(stage.host_uuids, found, strict=True)}
