"""Whoever uses network services: networks over AMQP, VMs that know nothing of them, and the world outside."""

import asyncio
import ipaddress
import shlex
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from contract.plain import Plain
from lab import Vm

from local_stack.stack import Stack

WAIT_SECONDS = 30.0
WORLD = "198.51.100.1"  # the gateway of the public network, which no range of ours has
_GOT = """#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr replace "$ip/$mask" dev eth0
[ -z "$router" ] || ip route replace default via "$router"
env > {got}
"""
# Tells each client the address that it comes from, then whatever it says.
_SERVER = """
import socketserver
class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(self.client_address[0].encode() + b"\\n")
        while said := self.request.recv(100):
            self.request.sendall(said)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address, daemon_threads = True, True
Server(("", {port}), Handler).serve_forever()
"""


@dataclass
class RunningVm:
    """A VM as `vm.prepareNetworks` has described it; it has no address but what it gets."""

    vm: Vm
    nic: dict[str, Any]
    directory: Path

    @property
    def ip(self) -> str:
        """The address that IPAM has for it."""
        ip: str = self.nic["ips"][0]["ip"]
        return ip

    async def run(self, command: str, *, check: bool = True) -> str:
        done = await asyncio.to_thread(self.vm.run, command, check=check)
        return done.stdout.strip()

    async def dhcp(self, *, tries: int = 5) -> dict[str, str]:
        """What udhcpc gets, and has set; empty if it got nothing."""
        script, got = self.directory / f"{self.vm.name}.sh", self.directory / f"{self.vm.name}.got"
        script.write_text(_GOT.format(got=got))
        script.chmod(0o755)
        wanted = "-O 121 -O 249 -O mtu -O domain -O hostname -O router -O dns"
        await self.run(f"udhcpc -i eth0 -f -n -q -t {tries} -T 1 -s {script} {wanted}", check=False)
        lines = got.read_text().splitlines() if got.exists() else []
        return dict(line.split("=", 1) for line in lines if "=" in line)

    async def serve(self, *ports: int) -> None:
        for port in ports:
            await self.run(f"python3 -c {shlex.quote(_SERVER.format(port=port))} > /dev/null 2>&1 &")
            await until(lambda port=port: self.run(f"ss -Hltn sport = :{port}"), f"a server on port {port}")

    async def ask(self, address: str, port: int) -> str:
        """The address that a server there saw us come from; empty if there was no answer."""
        return await self.run(f"timeout 2 busybox nc {address} {port} < /dev/null", check=False)

    async def pings(self, address: str) -> bool:
        return await asyncio.to_thread(self.vm.ping, address, wait_seconds=1)


async def until(fact: Callable[[], Awaitable[Any]], what: str, *, seconds: float = WAIT_SECONDS) -> float:
    """Ask until it is so; how long it took."""
    began = time.monotonic()
    while not await fact():
        assert time.monotonic() - began < seconds, f"{what} did not come"
        await asyncio.sleep(0.05)
    return time.monotonic() - began


@dataclass
class Cloud:
    stack: Stack
    net: Plain
    hosts: dict[str, dict[str, Any]]
    directory: Path
    account: str = field(default_factory=lambda: str(uuid4()))
    vms: list[RunningVm] = field(default_factory=list)
    _subnets: int = 0
    private: dict[str, Any] = field(default_factory=dict)
    public: dict[str, Any] = field(default_factory=dict)
    outside: dict[str, Any] = field(default_factory=dict)
    world: RunningVm | None = None

    async def furnish(self) -> None:
        """A private and a public L2 network on all hosts, two of them gateways, and somebody in the public one."""
        for name in ("host2", "host3"):
            await self.net.value("host.update", {"uuid": self.hosts[name]["uuid"], "labels": {"gateway": "true"}})
        self.private = await self.network("private", "L2NoVlanNetwork", "eth1")
        self.public = await self.network("public", "L2VxlanNetwork", "eth0", vni=99)
        body = {"l2NetworkUuid": self.public["uuid"], "name": "outside", "category": "public"}
        self.outside = await self.net.value("l3.create", body)
        await self.range(self.outside, "198.51.100.0/24")
        there = self.stack.hosts.host("host1")
        vm = await asyncio.to_thread(there.add_vm, "world", self.public["bridgeName"], address=f"{WORLD}/24")
        self.world = RunningVm(vm, {"ips": [{"ip": WORLD}]}, self.directory)
        await self.world.serve(80)

    async def network(self, name: str, kind: str, interface: str, **own: Any) -> dict[str, Any]:
        zone = (await self.net.value("zone.query", {}))["items"][0]["uuid"]
        body = {"zoneUuid": zone, "name": name, "type": kind, "physicalInterface": interface, "mtu": 1400, **own}
        created: dict[str, Any] = await self.net.value("l2.create", body)
        for cluster in sorted({host["clusterUuid"] for host in self.hosts.values()}):
            pair = {"l2NetworkUuid": created["uuid"], "clusterUuid": cluster}
            assert (await self.net.value("l2.attach", pair))["state"] == "succeeded"
        return created

    async def subnet(self, l2: dict[str, Any], services: dict[str, list[str]], **options: Any) -> dict[str, Any]:
        """An L3 network of its own, with these services by the names of their providers."""
        self._subnets += 1
        body = {"l2NetworkUuid": l2["uuid"], "name": f"net{self._subnets}", **options}
        created: dict[str, Any] = await self.net.value("l3.create", body)
        await self.range(created, f"10.{self._subnets}.0.0/24")
        found = (await self.net.value("serviceProvider.query", {}))["items"]
        uuids = {one["name"]: one["uuid"] for one in found}
        by_uuid = {uuids[name]: types for name, types in services.items()}
        attached: dict[str, Any] = await self.net.value(
            "l3.attachServices", {"l3NetworkUuid": created["uuid"], "services": by_uuid}
        )
        return attached

    async def range(self, l3: dict[str, Any], cidr: str) -> None:
        await self.net.value("range.create", {"l3NetworkUuid": l3["uuid"], "networkCidr": cidr}, key="ipam")

    async def start(self, name: str, host: str, l3: dict[str, Any], **nic: Any) -> RunningVm:
        body = {"vmUuid": str(uuid4()), "hostUuid": self.hosts[host]["uuid"], "accountUuid": self.account}
        body |= {"nics": [{"l3NetworkUuid": l3["uuid"], **nic}]}
        [made] = await self.net.value("vm.prepareNetworks", body)
        there = self.stack.hosts.host(host)
        vm = await asyncio.to_thread(there.add_vm, name, made["bridge"], mac=made["mac"], device=made["deviceName"])
        self.vms.append(RunningVm(vm, made, self.directory))
        return self.vms[-1]

    async def stop_all(self) -> None:
        """Every VM; its services are gone from all hosts then."""
        for one in self.vms:
            await asyncio.to_thread(one.vm.remove)
            await self.net.value("vm.releaseNetworks", {"vmUuid": one.nic["vmUuid"]})
        self.vms.clear()
        await until(self._nothing_served, "the end of all services")

    async def _nothing_served(self) -> bool:
        rows = (await self.net.value("service.query", {}))["items"]
        return all(row["hostUuid"] is None for row in rows)

    async def vip(self) -> dict[str, Any]:
        body = {"l3NetworkUuid": self.outside["uuid"], "name": "vip"}
        vip: dict[str, Any] = await self.net.value("vip.create", body)
        return vip

    async def settled(self, subject: str) -> list[dict[str, Any]]:
        """Whatever was asked for about it is on its hosts."""
        rows: list[dict[str, Any]] = await self.net.value("service.await", {"subjectUuid": subject})
        assert [row for row in rows if row["state"] != "applied"] == []
        return rows

    async def gateway_of(self, l3: dict[str, Any]) -> str:
        filters = {"kind": "virtualRouter", "subjectUuid": l3["uuid"]}
        rows = (await self.net.value("service.query", {"filters": filters}))["items"]
        present = [row["hostUuid"] for row in rows if row["desired"] == "present"]
        return next((name for name, host in self.hosts.items() if host["uuid"] in present), "")


def other_address(ip: str) -> str:
    """Another address of the same subnet."""
    return str(ipaddress.ip_address(ip) + 77)
