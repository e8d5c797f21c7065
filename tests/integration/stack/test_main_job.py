"""The main job, as somebody else's program meets it: plain AMQP from the stack's `env` file, real kernels, real frames.

create zone, cluster, L2 ─► attach ─► check ─► VMs ping through the VLAN, tagged on the trunk ─► detach ─► gone
"""

import asyncio
import json
import shlex
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from contract.plain import Plain
from lab import Host, Vm

from local_stack.stack import Stack

pytestmark = [pytest.mark.lab, pytest.mark.slow]

PHYSICAL_INTERFACE = "eth1"


@dataclass(frozen=True)
class World:
    """What the stack has to offer: its client, and its hosts with their records."""

    net: Plain
    zone: dict[str, Any]
    hosts: dict[str, Host]
    records: dict[str, dict[str, Any]]

    def clusters(self) -> list[str]:
        return sorted({record["clusterUuid"] for record in self.records.values()})

    async def create(self, name: str, vlan: int | None) -> dict[str, Any]:
        body: dict[str, Any] = {
            "zoneUuid": self.zone["uuid"],
            "name": name,
            "type": "L2NoVlanNetwork" if vlan is None else "L2VlanNetwork",
            "physicalInterface": PHYSICAL_INTERFACE,
        }
        created: dict[str, Any] = await self.net.value("l2.create", body if vlan is None else {**body, "vlan": vlan})
        return created

    async def attach(self, network: dict[str, Any]) -> None:
        for cluster_uuid in self.clusters():
            operation = await self.net.value("l2.attach", self.pair(network, cluster_uuid))
            assert operation["state"] == "succeeded"

    async def detach(self, network: dict[str, Any]) -> None:
        for cluster_uuid in self.clusters():
            operation = await self.net.value("l2.detach", self.pair(network, cluster_uuid))
            assert operation["state"] == "succeeded"
        await self.net.value("l2.delete", {"uuid": network["uuid"]})

    @staticmethod
    def pair(network: dict[str, Any], cluster_uuid: str) -> dict[str, Any]:
        return {"l2NetworkUuid": network["uuid"], "clusterUuid": cluster_uuid}


@pytest.fixture
async def world(stack: Stack) -> AsyncIterator[World]:
    env = dict(line.split("=", 1) for line in shlex.split((stack.run_dir.path / "env").read_text()) if "=" in line)
    async with Plain(env["VIADUCT_AMQP_URL"]) as net:
        zone = (await net.value("zone.query", {}))["items"][0]
        records = {one["name"]: one for one in (await net.value("host.query", {}))["items"]}
        yield World(net, zone, {name: stack.hosts.host(name) for name in records}, records)


def devices(host: Host) -> dict[str, dict[str, Any]]:
    """What the host's own kernel has, by name."""
    links = json.loads(host.run(["ip", "-d", "-j", "link", "show"]).stdout)
    return {link["ifname"]: link for link in links}


async def test_frames_cross_an_attached_vlan_between_two_kernels(stack: Stack, world: World) -> None:
    """VMs on two hosts meet through the VLAN's bridges, tagged on the trunk, and nobody on another VLAN hears them."""
    blue, red = await world.create("blue", 10), await world.create("red", 20)
    await world.attach(blue)
    await world.attach(red)
    for network in (blue, red):
        checks = await world.net.value("l2.check", {"l2NetworkUuid": network["uuid"]})
        assert [check["status"] for check in checks] == ["ok", "ok"]
    one, two = world.hosts.values()
    vms: list[Vm] = []
    try:
        for number, host in enumerate((one, two), start=1):
            vms.append(host.add_vm("blue", blue["bridgeName"], address=f"192.168.5.{number}/24"))
            vms.append(host.add_vm("red", red["bridgeName"], address=f"192.168.5.{number + 10}/24"))
        blue1, red1, blue2, _red2 = vms
        with stack.hosts.lab.capture("trunk", "icmp or vlan") as wire:
            assert await asyncio.to_thread(blue1.ping, "192.168.5.2", count=3)
            wire.wait_for(r"vlan 10\b.*ICMP echo request")
        assert await asyncio.to_thread(blue1.ping, "192.168.5.2", size_bytes=1472)  # a whole 1500-byte packet
        assert await asyncio.to_thread(red1.ping, "192.168.5.12", count=3)
        assert not await asyncio.to_thread(blue1.ping, "192.168.5.12", count=3, wait_seconds=1)
        assert not await asyncio.to_thread(red1.ping, "192.168.5.2", count=3, wait_seconds=1)
        # In use: the refusal names the ports, and nothing was changed.
        refusal = await world.net.refusal("l2.detach", world.pair(blue, world.clusters()[0]))
        assert refusal["code"] == "IN_USE"
        assert await asyncio.to_thread(blue2.ping, "192.168.5.1", count=2)
    finally:
        for vm in vms:
            vm.remove()
    await world.detach(blue)
    await world.detach(red)
    for host in (one, two):
        assert not {"br_eth1_10", "eth1.10", "br_eth1_20", "eth1.20"} & set(devices(host))


async def test_untagged_network_beside_a_vlan_on_one_interface(world: World) -> None:
    """A NoVlan network and a VLAN share a NIC; each carries its own frames, and the NIC is given back at the end."""
    plain, tagged = await world.create("plain", None), await world.create("tagged", 30)
    await world.attach(plain)
    await world.attach(tagged)
    one, two = world.hosts.values()
    vms: list[Vm] = []
    try:
        for number, host in enumerate((one, two), start=1):
            vms.append(host.add_vm("plain", plain["bridgeName"], address=f"192.168.6.{number}/24"))
            vms.append(host.add_vm("tagged", tagged["bridgeName"], address=f"192.168.6.{number + 10}/24"))
        plain1, tagged1 = vms[0], vms[1]
        assert await asyncio.to_thread(plain1.ping, "192.168.6.2", count=3)
        assert await asyncio.to_thread(tagged1.ping, "192.168.6.12", count=3)
        assert not await asyncio.to_thread(plain1.ping, "192.168.6.12", count=2, wait_seconds=1)
    finally:
        for vm in vms:
            vm.remove()
    await world.detach(tagged)
    await world.detach(plain)
    for host in (one, two):
        assert "master" not in devices(host)[PHYSICAL_INTERFACE]


async def test_bridge_is_as_the_model_says(world: World) -> None:
    """STP off, forward delay 0, the uplink's MAC, the network's MTU, our mark: read from the kernel, not from us."""
    network = await world.create("exact", 40)
    await world.attach(network)
    for host in world.hosts.values():
        links = devices(host)
        bridge, vlan, nic = links["br_eth1_40"], links["eth1.40"], links[PHYSICAL_INTERFACE]
        data = bridge["linkinfo"]["info_data"]
        assert (data["stp_state"], data["forward_delay"]) == (0, 0)
        assert bridge["address"] == nic["address"]
        assert bridge["mtu"] == vlan["mtu"] == network["mtu"] == 1500
        assert vlan["linkinfo"]["info_data"]["id"] == 40
        assert (vlan["link"], vlan["master"]) == (PHYSICAL_INTERFACE, "br_eth1_40")
        for link in (bridge, vlan):
            assert link["ifalias"].startswith(f"viaduct:{network['uuid']}:")
            assert "UP" in link["flags"]
    await world.detach(network)


@pytest.mark.parametrize(
    ("trouble", "mend", "code"),
    [
        ("true", "true", "PRECONDITION_FAILED"),  # a physical interface that the host lacks
        ("ip link add name br_eth1_50 type bridge", "ip link del br_eth1_50", "CONFLICT"),
        (
            "ip link add name other type bridge && ip link set eth1 master other",
            "ip link set eth1 nomaster && ip link del other",
            "PRECONDITION_FAILED",
        ),
    ],
    ids=["no such interface", "name taken by a foreign device", "nic enslaved elsewhere"],
)
async def test_attach_is_refused_when_a_host_cannot_have_it(
    world: World, trouble: str, mend: str, code: str, request: pytest.FixtureRequest
) -> None:
    """One host's trouble refuses the attach before any host was changed, and leaves the foreign device as it was."""
    case = request.node.callspec.id
    body = {"zoneUuid": world.zone["uuid"], "name": case, "type": "L2VlanNetwork", "vlan": 50}
    if case == "nic enslaved elsewhere":
        body |= {"type": "L2NoVlanNetwork"}
        del body["vlan"]
    interface = "eth7" if case == "no such interface" else PHYSICAL_INTERFACE
    network = await world.net.value("l2.create", {**body, "physicalInterface": interface})
    host = world.hosts["host1"]
    host.run(trouble)
    before = devices(host)
    try:
        cluster_uuid = world.records["host1"]["clusterUuid"]
        refusal = await world.net.refusal("l2.attach", world.pair(network, cluster_uuid))
        assert refusal["code"] == code, refusal
        assert refusal["details"]["hostUuid"] == world.records["host1"]["uuid"]
        assert refusal["details"]["operation"]["state"] == "failed"
        assert devices(host) == before
        assert (await world.net.value("l2.get", {"uuid": network["uuid"]}))["attachedClusterUuids"] == []
    finally:
        host.run(mend)
    await world.net.value("l2.delete", {"uuid": network["uuid"]})
