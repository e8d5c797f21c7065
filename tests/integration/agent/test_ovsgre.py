"""OvsGre networks among User-Mode Linux hosts with Open vSwitch in their kernels: real frames on a real wire.

The first host that boots in this file needs ten seconds until its ovs-vswitchd works; all hosts boot at once.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from lab import Host, Lab, LabError, Program, Vm
from lab.machine import connect_inside, wait_until

from viaduct_common.messages.agent import L2Desired, Peer
from viaduct_common.messages.l2 import L2NetworkInventory
from viaduct_common.naming import gre_bridge_name

from .guest_openvswitch import PORT

pytestmark = pytest.mark.lab
SCRIPT = Path(__file__).with_name("guest_openvswitch.py")
UNDERLAY_MTU = 1500
OVERHEAD_BYTES = {4: 42, 6: 62}
PING_HEADERS = 28  # IPv4 and ICMP
UNUSED_TYPE = 0x88B5  # IEEE 802: for local experiments
MACS = [f"02:00:00:00:00:{number:02x}" for number in range(1, 6)]  # of nobody


class Switched:
    """A lab host with Open vSwitch and our backend; its tunnels end at 10.78.0.N or fd00:78::N on eth1."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.uuid = uuid4()
        self.ends = {4: f"10.78.0.{host.spec.number}", 6: f"fd00:78::{host.spec.number}"}

    def boot(self) -> None:
        self.host.wait_ready()
        self.host.run(f"ip addr add {self.ends[4]}/24 dev eth1 && ip addr add {self.ends[6]}/64 dev eth1 nodad")
        self.host.run("ip link set eth1 up")
        program = self.host.spawn(
            [sys.executable, str(SCRIPT)], log="backend.log", env={"PYTHONPATH": ":".join(filter(None, sys.path))}
        )
        if not wait_until(lambda: self._serves() or program.exit_status() is not None, timeout_seconds=90):
            raise LabError(f"no backend in time: {program.output()}")
        assert program.exit_status() is None, program.output()

    def _serves(self) -> bool:
        try:
            connect_inside(self.host.netns, (self.host.control, PORT), timeout_seconds=5).close()
        except OSError:
            return False
        return True

    def ask(self, action: str, network: "Network", peers: Iterable["Switched"] = ()) -> dict[str, Any]:
        item = network.item(self, peers).model_dump(mode="json", by_alias=True)
        sock = connect_inside(self.host.netns, (self.host.control, PORT), timeout_seconds=30)
        with sock, sock.makefile("rwb") as stream:
            stream.write(json.dumps({"action": action, "item": item}).encode() + b"\n")
            stream.flush()
            answer: dict[str, Any] = json.loads(stream.readline())
        assert "refused" not in answer, answer
        return answer

    def add_vm(self, name: str, network: "Network") -> Vm:
        """Plugged in as QEMU plugs a tap into an Open vSwitch bridge. What it sends is what a test sends: no IPv6."""
        vm = self.host.add_vm(name, address=f"192.168.9.{self.host.spec.number}/24")
        vm.run("sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1")
        self.host.run(["ovs-vsctl", "add-port", network.bridge, vm.port])
        return vm

    def sniff(self, vm: Vm) -> Program:
        """Watch what comes out of the VM's NIC."""
        command = ["ip", "netns", "exec", vm.netns, "tcpdump", "-e", "-n", "-l", "--immediate-mode", "-i", "eth0"]
        program = self.host.spawn([*command, "ether", "proto", hex(UNUSED_TYPE)], log=f"{vm.name}.tcpdump")
        assert wait_until(lambda: "listening on" in program.output(), timeout_seconds=20), program.output()
        return program

    def remove_vm(self, vm: Vm, network: "Network") -> None:
        self.host.run(["ovs-vsctl", "--if-exists", "del-port", network.bridge, vm.port])
        vm.remove()

    def address(self) -> str:
        """Of its VM, in whatever network."""
        return f"192.168.9.{self.host.spec.number}"

    def devices(self) -> set[str]:
        return {one["ifname"] for one in json.loads(self.host.run("ip -j link show").stdout)}

    def bridges(self) -> list[str]:
        return self.host.run("ovs-vsctl list-br").stdout.split()


class Network:
    """An OvsGre network over IP of a version; every order has a generation of its own."""

    def __init__(self, key: int, *, version: int = 4) -> None:
        self.bridge = gre_bridge_name(key)
        self.version = version
        self.mtu = UNDERLAY_MTU - OVERHEAD_BYTES[version]
        self.generation = 0
        now = datetime(2026, 1, 1, tzinfo=UTC)
        body = {
            "uuid": uuid4(), "name": "net", "zone_uuid": UUID(int=1), "physical_interface": "eth1", "key": key,
            "type": "OvsGreL2Network", "mtu": self.mtu, "bridge_name": self.bridge, "device_names": [self.bridge],
            "created_at": now, "updated_at": now,
        }  # fmt: skip
        self.inventory = L2NetworkInventory.model_validate(body)

    def item(self, host: Switched, peers: Iterable[Switched]) -> L2Desired:
        self.generation += 1
        others = [Peer.model_validate({"host_uuid": peer.uuid, "tunnel_ip": peer.ends[self.version]}) for peer in peers]
        body = {"generation": self.generation, "l2_network": self.inventory, "tunnel_ip": host.ends[self.version]}
        return L2Desired.model_validate({**body, "peers": others})

    def realize(self, hosts: Iterable[Switched]) -> None:
        """On all of them at once, each with all others for its peers."""
        every = list(hosts)
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda one: one.ask("realize", self, [peer for peer in every if peer is not one]), every))

    def release(self, hosts: Iterable[Switched]) -> None:
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda one: one.ask("release", self), hosts))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(f"ovsgre-{uuid4().hex[:6]}", tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture(scope="module")
def hosts(lab: Lab) -> list[Switched]:
    modules = "bridge veth openvswitch vport-gre ip6_gre"
    every = [Switched(lab.add_host(name, memory="384M", modules=modules)) for name in ("a", "b", "c")]
    for one in every:
        one.host.launch()
    with ThreadPoolExecutor() as pool:
        list(pool.map(Switched.boot, every))
    return every


@pytest.fixture(scope="module")
def mesh(hosts: list[Switched]) -> Network:
    """One network on all three hosts; nobody takes it away."""
    network = Network(7)
    network.realize(hosts)
    return network


@pytest.fixture(scope="module")
def vms(hosts: list[Switched], mesh: Network) -> list[Vm]:
    return [one.add_vm("mesh", mesh) for one in hosts]


def test_three_hosts_reach_each_other_and_nothing_comes_twice(
    lab: Lab, hosts: list[Switched], mesh: Network, vms: list[Vm]
) -> None:
    """The mesh has no loop: a broadcast crosses the wire once for each other host, and every VM gets it once."""
    for vm, one in zip(vms, hosts, strict=True):
        for other in hosts:
            assert vm.ping(other.address()), (one.host, other.host)
        assert one.ask("check", mesh, [peer for peer in hosts if peer is not one])["present"]
    sniffers = [one.sniff(vm) for one, vm in zip(hosts[1:], vms[1:], strict=True)]
    with lab.capture("trunk", "proto gre") as wire:
        for mac in MACS:
            vms[0].send_frame(broadcast_from(mac))
        for sniffer in sniffers:
            assert wait_until(lambda one=sniffer: set(MACS) <= sources(one.output()), timeout_seconds=20)
        answers = vms[0].run(f"ping -n -c 3 -i 0.2 {hosts[1].address()}").stdout  # what comes late is before these
        assert "DUP" not in answers
        for mac in MACS:
            assert len(wire.lines(f"key=0x7.*{mac}")) == 2, wire.lines()
    for sniffer in sniffers:
        sniffer.stop()
        assert all(sniffer.output().count(mac) == 1 for mac in MACS), sniffer.output()


def test_what_fits_the_mtu_passes_and_one_byte_more_does_not(
    hosts: list[Switched], mesh: Network, vms: list[Vm]
) -> None:
    """The VMs' own NICs would take more; nothing is cut into fragments on the way."""
    refuses_one_byte_more(vms[0], hosts[1], mesh)


def test_a_network_over_ipv6(hosts: list[Switched]) -> None:
    """Tunnels of another type, 20 bytes less for the VMs, the rest alike."""
    network = Network(10, version=6)
    network.realize(hosts[:2])
    mine = [one.add_vm("six", network) for one in hosts[:2]]
    refuses_one_byte_more(mine[0], hosts[1], network)
    for one, vm in zip(hosts, mine, strict=False):
        one.remove_vm(vm, network)
    network.release(hosts[:2])


def test_another_key_is_another_network_and_its_release_leaves_nothing(
    hosts: list[Switched], mesh: Network, vms: list[Vm]
) -> None:
    """Same hosts, same tunnel ends, same subnet: a VM reaches those of its own network alone."""
    a, b, c = hosts
    before = [one.devices() for one in (a, b)]
    network = Network(8)
    network.realize([a, b])
    mine = [one.add_vm("other", network) for one in (a, b)]
    assert mine[0].ping(b.address(), count=3)
    assert not mine[0].ping(c.address(), wait_seconds=1)  # which is in the mesh alone
    b.remove_vm(mine[1], network)
    assert not mine[0].ping(b.address(), wait_seconds=1)  # b's VM in the mesh has this address, too
    assert vms[0].ping(b.address(), count=3)
    a.remove_vm(mine[0], network)
    network.release([a, b])
    assert [one.devices() for one in (a, b)] == before
    assert network.bridge not in a.bridges() + b.bridges()
    assert vms[0].ping(b.address(), count=3)
    assert mesh.bridge in a.bridges()


def test_a_third_host_joins_late_and_leaves(hosts: list[Switched]) -> None:
    """The others learn of it by their peers: before and after there is no way. Their own traffic goes on."""
    a, b, c = hosts
    network = Network(9)
    network.realize([a, b])
    late = [one.add_vm("late", network) for one in (a, b)]
    network.realize([c])  # as a host that knows of no peers
    third = c.add_vm("late", network)
    assert late[0].ping(b.address())
    assert not late[0].ping(c.address(), wait_seconds=1)
    network.realize(hosts)
    assert late[0].ping(c.address())
    assert third.ping(b.address())
    c.remove_vm(third, network)
    network.release([c])
    network.realize([a, b])
    assert late[0].ping(b.address())
    for one, vm in zip((a, b), late, strict=True):
        one.remove_vm(vm, network)
    network.release([a, b])
    assert all(network.bridge not in one.bridges() for one in hosts)


def test_a_dead_host_is_forgotten_by_its_peers(lab: Lab, hosts: list[Switched], mesh: Network, vms: list[Vm]) -> None:
    """Last in this file: c is gone. Until they are told the others flood to it, then no more."""
    a, b, c = hosts
    c.host.stop(hard=True)
    assert vms[0].ping(b.address())
    mesh.realize([a, b])
    with lab.capture("trunk", "proto gre or arp") as wire:
        vms[0].send_frame(broadcast_from(MACS[0]))
        wire.wait_for(MACS[0], timeout_seconds=20)
        assert vms[0].ping(b.address())
        assert len(wire.lines(MACS[0])) == 1
        assert not wire.lines(c.ends[4].replace(".", r"\."))


def refuses_one_byte_more(vm: Vm, target: Switched, network: Network) -> None:
    largest = network.mtu - PING_HEADERS
    assert vm.ping(target.address(), size_bytes=largest)
    assert not vm.ping(target.address(), size_bytes=largest + 1, wait_seconds=1)
    assert vm.ping(target.address(), size_bytes=largest)


def broadcast_from(mac: str) -> bytes:
    return b"\xff" * 6 + bytes.fromhex(mac.replace(":", "")) + UNUSED_TYPE.to_bytes(2, "big") + b"\x00" * 46


def sources(text: str) -> set[str]:
    """The MACs of `MACS` that a capture shows."""
    return {mac for mac in MACS if mac in text}
