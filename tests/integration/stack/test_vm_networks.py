"""A VM's way to its network, as a virtualization platform goes it: plain AMQP, then the answer's element to libvirt.

create VXLAN, L3, range ─► attach ─► vm.prepareNetworks ─► libvirt starts the VM ─► ping ─► release ─► gone
"""

import asyncio
import os
import shlex
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from contract.plain import Plain
from lab.features import running_kernel_supports
from lab.netns import NetnsHost
from lab.qemu import Guest, GuestNic

from local_stack.stack import Stack

pytestmark = [pytest.mark.lab, pytest.mark.slow]
ICMP_HEADERS = 28


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Of its own, its hosts on this machine's kernel: a VM emulated inside User-Mode Linux would crawl."""
    if missing := [feature for feature in ("bridge", "vxlan", "tun") if not running_kernel_supports(feature)]:
        reason = f"the running kernel lacks {missing}"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    with Stack(Path(tmp_path_factory.mktemp("stack")), hosts=2, host_kind="netns") as stack:
        yield stack


@dataclass
class Platform:
    """Who asks for networks, and what it knows of the hosts."""

    net: Plain
    hosts: list[dict[str, Any]]
    account: str = field(default_factory=lambda: str(uuid4()))

    async def network(self, zone_uuid: str) -> dict[str, Any]:
        body = {"zoneUuid": zone_uuid, "name": "blue", "type": "L2VxlanNetwork", "physicalInterface": "eth1", "vni": 7}
        created: dict[str, Any] = await self.net.value("l2.create", {**body, "mtu": 1450})
        for cluster_uuid in self.clusters():
            pair = {"l2NetworkUuid": created["uuid"], "clusterUuid": cluster_uuid, "tunnelCidr": "10.77.0.0/24"}
            assert (await self.net.value("l2.attach", pair))["state"] == "succeeded"
        return created

    def clusters(self) -> list[str]:
        return sorted({host["clusterUuid"] for host in self.hosts})

    async def prepare(self, host: dict[str, Any], l3_uuid: str) -> dict[str, Any]:
        """A new VM's one NIC."""
        body = {"vmUuid": str(uuid4()), "hostUuid": host["uuid"], "accountUuid": self.account}
        nics = await self.net.value("vm.prepareNetworks", {**body, "nics": [{"l3NetworkUuid": l3_uuid}]})
        assert len(nics) == 1
        nic: dict[str, Any] = nics[0]
        return nic


@pytest.fixture
async def platform(stack: Stack) -> AsyncIterator[Platform]:
    env = dict(line.split("=", 1) for line in shlex.split((stack.run_dir.path / "env").read_text()) if "=" in line)
    async with Plain(env["VIADUCT_AMQP_URL"]) as net:
        yield Platform(net, sorted((await net.value("host.query", {}))["items"], key=lambda host: str(host["name"])))


async def test_libvirt_starts_a_vm_on_the_nic_as_it_was_answered(
    stack: Stack, platform: Platform, tmp_path: Path
) -> None:
    """The VM reaches one on another host, with packets of the network's whole MTU; while it runs, its network cannot
    be taken away; when all is given back, nothing is left on the hosts."""
    net = platform.net
    one, two = (stack.hosts.host(host["name"]) for host in platform.hosts)
    assert isinstance(one, NetnsHost)
    before = [host.run("ip -br link | sort").stdout for host in (one, two)]
    blue = await platform.network((await net.value("zone.query", {}))["items"][0]["uuid"])
    l3 = await net.value("l3.create", {"l2NetworkUuid": blue["uuid"], "name": "blue"})
    await net.value("range.create", {"l3NetworkUuid": l3["uuid"], "networkCidr": "10.9.0.0/24"}, key="ipam")
    nics = [await platform.prepare(host, l3["uuid"]) for host in platform.hosts]
    here, there = ([f"{ip['ip']}/{ip['prefixLength']}" for ip in nic["ips"]] for nic in nics)

    friend = two.add_vm("friend", nics[1]["bridge"], address=there[0], mac=nics[1]["mac"])
    guest = Guest.on(one, [GuestNic(nics[0]["libvirtXml"], here)], tmp_path)
    try:
        await asyncio.to_thread(guest.start)
        seen = await asyncio.to_thread(guest.run, "cat /sys/class/net/eth0/address /sys/class/net/eth0/mtu")
        assert seen.stdout.split() == [nics[0]["mac"], str(blue["mtu"])]
        target = nics[1]["ips"][0]["ip"]
        assert await asyncio.to_thread(guest.ping, target, count=3)
        assert await asyncio.to_thread(guest.ping, target, size_bytes=blue["mtu"] - ICMP_HEADERS)
        assert await asyncio.to_thread(friend.ping, nics[0]["ips"][0]["ip"])
        assert f"master {nics[0]['bridge']}" in one.run(["ip", "link", "show", nics[0]["deviceName"]]).stdout
        pair = {"l2NetworkUuid": blue["uuid"], "clusterUuid": platform.hosts[0]["clusterUuid"]}
        assert (await net.refusal("l2.detach", pair))["code"] == "IN_USE"
    finally:
        guest.stop()
        friend.remove()

    for nic in nics:
        await net.value("vm.releaseNetworks", {"vmUuid": nic["vmUuid"]})
    await net.value("l3.delete", {"uuid": l3["uuid"]})
    for cluster_uuid in platform.clusters():
        await net.value("l2.detach", {"l2NetworkUuid": blue["uuid"], "clusterUuid": cluster_uuid})
    await net.value("l2.delete", {"uuid": blue["uuid"]})
    assert [host.run("ip -br link | sort").stdout for host in (one, two)] == before
