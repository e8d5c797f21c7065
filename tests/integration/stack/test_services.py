"""Network services as their users meet them: requests over AMQP, then real clients in VMs on real hosts.

private network ─ router on a gateway host ─ public network ─ the world
"""

import asyncio
import os
import shlex
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from contract.plain import Plain
from lab import Vm
from lab.features import running_kernel_supports

from local_stack.stack import Stack

pytestmark = [pytest.mark.lab, pytest.mark.slow]
WAIT_SECONDS = 30.0
SCRIPT = """#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr replace "$ip/$mask" dev eth0
[ -z "$router" ] || ip route replace default via "$router"
env > "$GOT"
"""
# Tells each client the address that it comes from.
SERVER = """
import socketserver
class H(socketserver.BaseRequestHandler):
    def handle(self): self.request.sendall(self.client_address[0].encode())
class S(socketserver.ThreadingTCPServer): allow_reuse_address = True
S(("", {port}), H).serve_forever()
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    if missing := [feature for feature in ("bridge", "vxlan") if not running_kernel_supports(feature)]:
        reason = f"the running kernel lacks {missing}"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    with Stack(Path(tmp_path_factory.mktemp("stack")), hosts=3, host_kind="netns") as stack:
        yield stack


@dataclass
class Cloud:
    """Whoever uses the services, and the VMs that it has started."""

    stack: Stack
    net: Plain
    hosts: dict[str, dict[str, Any]]
    account: str = field(default_factory=lambda: str(uuid4()))
    vms: dict[str, Vm] = field(default_factory=dict)

    async def network(self, name: str, kind: str, interface: str, **own: Any) -> dict[str, Any]:
        zone = (await self.net.value("zone.query", {}))["items"][0]["uuid"]
        body = {"zoneUuid": zone, "name": name, "type": kind, "physicalInterface": interface, "mtu": 1400, **own}
        created: dict[str, Any] = await self.net.value("l2.create", body)
        for cluster in sorted({host["clusterUuid"] for host in self.hosts.values()}):
            pair = {"l2NetworkUuid": created["uuid"], "clusterUuid": cluster}
            assert (await self.net.value("l2.attach", pair))["state"] == "succeeded"
        return created

    async def provider(self, name: str) -> str:
        found = (await self.net.value("serviceProvider.query", {"filters": {"name": name}}))["items"]
        uuid: str = found[0]["uuid"]
        return uuid

    async def start(self, name: str, host: str, l3: str, **nic: Any) -> dict[str, Any]:
        """A VM without an address of its own: it is to get one."""
        body = {"vmUuid": str(uuid4()), "hostUuid": self.hosts[host]["uuid"], "accountUuid": self.account}
        nics = await self.net.value("vm.prepareNetworks", {**body, "nics": [{"l3NetworkUuid": l3, **nic}]})
        made: dict[str, Any] = nics[0]
        there = self.stack.hosts.host(host)
        self.vms[name] = await asyncio.to_thread(
            there.add_vm, name, made["bridge"], mac=made["mac"], device=made["deviceName"]
        )
        return made

    async def run(self, vm: str, command: str, *, check: bool = True) -> str:
        done = await asyncio.to_thread(self.vms[vm].run, command, check=check)
        return done.stdout

    async def dhcp(self, vm: str, directory: Path) -> dict[str, str]:
        script, got = directory / f"{vm}.sh", directory / f"{vm}.got"
        script.write_text(SCRIPT)
        script.chmod(0o755)
        options = "-O 121 -O 249 -O mtu -O domain -O hostname -O router -O dns"
        await self.run(vm, f"GOT={got} udhcpc -i eth0 -f -n -q -t 5 -T 1 -s {script} {options}", check=False)
        return dict(line.split("=", 1) for line in got.read_text().splitlines() if "=" in line) if got.exists() else {}

    async def serve(self, vm: str, port: int) -> None:
        command = f"python3 -c {shlex.quote(SERVER.format(port=port))} > /dev/null 2>&1 &"
        await self.run(vm, command)

    async def ask(self, vm: str, address: str, port: int) -> str:
        """The address that a server saw us come from; empty if there was no answer."""
        return (await self.run(vm, f"timeout 3 nc -d {address} {port}", check=False)).strip()


@pytest.fixture
async def cloud(stack: Stack) -> AsyncIterator[Cloud]:
    env = dict(line.split("=", 1) for line in shlex.split((stack.run_dir.path / "env").read_text()) if "=" in line)
    async with Plain(env["VIADUCT_AMQP_URL"]) as net:
        hosts = {host["name"]: host for host in (await net.value("host.query", {}))["items"]}
        cloud = Cloud(stack, net, hosts)
        yield cloud
        for vm in cloud.vms.values():
            await asyncio.to_thread(vm.remove)


async def test_a_private_network_with_everything(cloud: Cloud, tmp_path: Path) -> None:
    net = cloud.net
    for name in ("host2", "host3"):
        await net.value("host.update", {"uuid": cloud.hosts[name]["uuid"], "labels": {"gateway": "true"}})
    private = await cloud.network("private", "L2NoVlanNetwork", "eth1")
    public = await cloud.network("public", "L2VxlanNetwork", "eth0", vni=99)
    outside = await net.value("l3.create", {"l2NetworkUuid": public["uuid"], "name": "outside", "category": "public"})
    inside = await net.value(
        "l3.create",
        {"l2NetworkUuid": private["uuid"], "name": "inside", "dnsDomain": "inside.test", "dns": ["198.51.100.1"]},
    )
    for l3, cidr in ((inside, "10.10.0.0/24"), (outside, "198.51.100.0/24")):
        await net.value("range.create", {"l3NetworkUuid": l3["uuid"], "networkCidr": cidr}, key="ipam")
    router = await cloud.provider("VirtualRouter")
    types = ["DHCP", "DNS", "SNAT", "EIP", "PortForwarding"]
    began = time.monotonic()
    attached = await net.value("l3.attachServices", {"l3NetworkUuid": inside["uuid"], "services": {router: types}})
    print("attached", time.monotonic() - began, attached)

    world = await asyncio.to_thread(
        cloud.stack.hosts.host("host1").add_vm, "world", public["bridgeName"], address="198.51.100.1/24"
    )
    cloud.vms["world"] = world
    await cloud.serve("world", 80)
    began = time.monotonic()
    a = await cloud.start("a", "host1", inside["uuid"], hostName="alpha")
    print("prepared", time.monotonic() - began)
    b = await cloud.start("b", "host3", inside["uuid"], hostName="beta")
    rows = (await net.value("service.query", {}))["items"]
    for row in rows:
        print(row)
    got = await cloud.dhcp("a", tmp_path)
    print(got)
    assert got["ip"] == a["ips"][0]["ip"]
    assert (await cloud.dhcp("b", tmp_path))["ip"] == b["ips"][0]["ip"]
    print(
        "dig",
        await cloud.run(
            "a", f"dig +short @{got['dns']} beta.inside.test; dig +short @{got['dns']} -x {b['ips'][0]['ip']}"
        ),
    )
    print("snat", await cloud.ask("a", "198.51.100.1", 80))
    vip = await net.value("vip.create", {"l3NetworkUuid": outside["uuid"], "name": "v"})
    eip = await net.value("eip.create", {"vipUuid": vip["uuid"], "name": "e", "nicUuid": a["uuid"]})
    settled = await net.value("service.await", {"subjectUuid": eip["uuid"]})
    print(settled)
    await cloud.serve("a", 8080)
    print("eip", await cloud.ask("world", vip["ip"], 8080), await cloud.ask("a", "198.51.100.1", 80), vip["ip"])
    where = [row for row in (await net.value("service.query", {"filters": {"kind": "virtualRouter"}}))["items"]]
    gateway = next(name for name, host in cloud.hosts.items() if host["uuid"] == where[0]["hostUuid"])
    print("gateway", gateway)
    began = time.monotonic()
    await asyncio.to_thread(cloud.stack.hosts.host(gateway).stop, hard=True)
    while not await cloud.ask("world", vip["ip"], 8080):
        assert time.monotonic() - began < 60
    print("moved after", time.monotonic() - began)
