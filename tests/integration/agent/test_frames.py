"""Every L2 type and backend with real frames between real kernels: who hears whom, and who does not."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID, uuid5

import pytest
from lab import Host, Lab, Vm

from viaduct_common import naming
from viaduct_common.messages.agent import Peer, PeerNic
from viaduct_common.messages.l2 import L2NetworkInventory

from .guests import desired, do, inventory, serve_backends

pytestmark = pytest.mark.lab
MTU = 1400
ICMP_HEADERS = 28
VLAN_TAG = 4  # bridges let frames pass that are longer by a tag, whether they have one or not (is_skb_forwardable)
# ARP and pings inside of VXLAN or GRE with a key: hosts speak IPv6 and IGMP to everybody unasked.
VXLAN_FRAMES = "udp port 4789 and (udp[28:2] = 0x0806 or udp[39] = 1)"
GRE_FRAMES = "proto 47 and (ip[40:2] = 0x0806 or ip[51] = 1)"
NAMESPACE = UUID("6f1b7a0e-3f0e-4c5e-9a53-2f4a3a3b9c11")


@dataclass(frozen=True)
class Way:
    """One backend of a type; `numbers` are of the two networks that must not hear each other."""

    kind: str
    backend: str | None
    numbers: tuple[int, int]
    interfaces: tuple[str, str] = ("eth1", "eth1")
    tunnelled: bool = False

    def __str__(self) -> str:
        return f"{self.kind}/{self.backend or 'usual'}"


WAYS = [
    Way("L2NoVlanNetwork", None, (0, 0), ("eth1", "eth2")),
    Way("L2VlanNetwork", None, (10, 20)),
    Way("L2VlanNetwork", "vlanAwareBridge", (10, 20)),
    Way("L2VxlanNetwork", None, (10, 20), tunnelled=True),
    Way("OvsGreL2Network", "gretap", (10, 20), tunnelled=True),
]


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, list[Host]]]:
    """Three hosts for all: booting takes seconds, and every test leaves them as they were."""
    with Lab(
        f"frames-{uuid5(NAMESPACE, str(tmp_path_factory.getbasetemp())).hex[:6]}", tmp_path_factory.mktemp("lab")
    ) as lab:
        lab.add_segment("trunk2")
        found = lab.start_hosts(["a", "b", "c"], segments=["trunk", "trunk2"])
        serve_backends(found)
        yield lab, found


@dataclass
class Site:
    """The hosts, what they were told, and the VMs on them."""

    way: Way
    hosts: list[Host]
    networks: list[L2NetworkInventory]
    generation: int = 0
    vms: list[Vm] = field(default_factory=list)

    def told(self, which: int, members: Sequence[Host], *, nics: dict[str, PeerNic] | None = None) -> None:
        """Tell each of `members` of the others, and see that it has it then."""
        self.generation += 1
        for host in members:
            peers = [self.peer(other, nics or {}) for other in members if other is not host]
            want = desired(
                self.networks[which], host, self.generation, self.way.backend, peers if self.way.tunnelled else ()
            )
            answer = do(host, "realize", want)
            assert "changes" in answer, answer
            assert do(host, "realize", want) == {"changes": []}
            assert do(host, "check", want) == {"present": True, "differences": [], "steps": []}

    def peer(self, host: Host, nics: dict[str, PeerNic]) -> Peer:
        known = [nics[host.name]] if host.name in nics else []
        return Peer(host_uuid=uuid5(NAMESPACE, host.name), tunnel_ip=host.address, nics=known)  # type: ignore[arg-type]

    def release(self, which: int, host: Host) -> None:
        self.generation += 1
        want = desired(self.networks[which], host, self.generation, self.way.backend)
        assert "changes" in do(host, "release", want), do(host, "release", want)
        assert do(host, "release", want) == {"changes": []}

    def vm(self, which: int, host: Host, number: int) -> Vm:
        """A VM plugged into a network on a host, as its hypervisor would do."""
        vm = host.add_vm(f"v{which}{number}", address=f"192.168.5.{number}/24", mac=nic(number).mac)
        network = self.networks[which]
        if self.way.backend == "vlanAwareBridge":
            vm.plug(naming.vlan_bridge_name(network.physical_interface))
            host.run(f"bridge vlan add vid {self.way.numbers[which]} pvid untagged dev {vm.port}")
        else:
            vm.plug(network.bridge_name)
        host.run(f"ip link set {vm.port} mtu {MTU}")  # as a hypervisor does by the NIC's `mtu`
        self.vms.append(vm)
        return vm


def nic(number: int) -> PeerNic:
    return PeerNic(mac=f"52:54:02:00:00:{number:02x}", ips=[f"192.168.5.{number}"])  # type: ignore[list-item]


def links(host: Host) -> str:
    return host.run("ip -br link | awk '{print $1}' | sort").stdout


@pytest.fixture
def site(hosts: tuple[Lab, list[Host]], request: pytest.FixtureRequest) -> Iterator[Site]:
    way: Way = request.param
    networks = [
        inventory(way.kind, number, mtu=MTU, interface=interface)
        for number, interface in zip(way.numbers, way.interfaces, strict=True)
    ]
    before = [links(host) for host in hosts[1]]
    one = Site(way, hosts[1], networks)
    yield one
    for vm in one.vms:
        vm.remove()
    for host in one.hosts:
        for network in networks:
            do(host, "release", desired(network, host, 1000, way.backend).model_copy(update={"force": True}))
    assert [links(host) for host in hosts[1]] == before  # nothing of it is left anywhere


@pytest.mark.parametrize("site", WAYS, ids=str, indirect=True)
def test_a_network_joins_its_hosts_and_nobody_else(site: Site) -> None:
    """Two hosts reach each other, another network does not hear them; frames of the MTU pass, larger ones do not; a
    third host joins late; one that goes is cut off, and the others go on."""
    a, b, c = site.hosts
    site.told(0, [a, b])
    site.told(1, [b])
    here, there = site.vm(0, a, 1), site.vm(0, b, 2)
    site.vm(1, b, 3)
    assert here.ping("192.168.5.2", count=3)
    assert not here.ping("192.168.5.3", wait_seconds=1)
    assert here.ping("192.168.5.2", size_bytes=MTU - ICMP_HEADERS)
    assert not here.ping("192.168.5.2", size_bytes=MTU - ICMP_HEADERS + VLAN_TAG + 1, wait_seconds=1)

    site.told(0, [a, b, c])
    late = site.vm(0, c, 4)
    assert late.ping("192.168.5.1", count=3)
    assert late.ping("192.168.5.2", count=3)
    assert here.run("ping -n -q -c 3 -i 0.2 -W 2 192.168.5.4").stdout.count("duplicates") == 0

    refusal = do(b, "release", desired(site.networks[0], b, 1000, site.way.backend))["refusal"]
    assert (refusal["code"], refusal["details"]["ports"]) == ("IN_USE", [there.port])
    site.vms.remove(there)
    there.remove()
    site.release(0, b)
    site.told(0, [a, c])
    assert here.ping("192.168.5.4", count=3)
    assert do(b, "check", desired(site.networks[1], b, site.generation, site.way.backend))["present"]


@pytest.mark.parametrize("site", [way for way in WAYS if way.tunnelled], ids=str, indirect=True)
def test_what_is_for_a_known_nic_goes_to_its_host_alone(site: Site, hosts: tuple[Lab, list[Host]]) -> None:
    """Not even the first frame, nor the question who has the address, reaches a third host; and one that is forgotten
    is sent nothing any more."""
    lab, (a, b, c) = hosts
    known = {"a": nic(1), "b": nic(2)}
    site.told(0, [a, b, c], nics=known)
    here = site.vm(0, a, 1)
    site.vm(0, b, 2)
    tunnels = f"src host {a.address} and (({VXLAN_FRAMES}) or ({GRE_FRAMES}))"
    with lab.capture(c.tap("eth0"), tunnels) as heard:
        assert here.ping("192.168.5.2", count=2)
    assert heard.lines() == []
    with lab.capture(c.tap("eth0"), tunnels) as heard:
        assert not here.ping("192.168.5.99", wait_seconds=1)  # nobody knows it: everybody is asked
    assert heard.lines() != []

    site.told(0, [a, b], nics=known)
    with lab.capture(c.tap("eth0"), tunnels) as heard:
        assert not here.ping("192.168.5.98", wait_seconds=1)
    assert heard.lines() == []


def test_a_host_without_an_end_for_tunnels_refuses(hosts: tuple[Lab, list[Host]]) -> None:
    """Before anything is made, naming what is wrong."""
    _, (a, *_) = hosts
    network = inventory("L2VxlanNetwork", 30, mtu=1450)
    good = desired(network, a)
    for wrong, details in (
        (good.model_copy(update={"tunnel_ip": None}), {"field": "tunnelIp"}),
        (
            desired(network, a).model_copy(update={"tunnel_ip": "192.0.2.1"}),
            {"field": "tunnelIp", "address": "192.0.2.1"},
        ),
        (desired(inventory("L2VxlanNetwork", 30, mtu=1451), a), {"field": "mtu", "largest": 1450, "device": "eth0"}),
    ):
        refusal = do(a, "realize", wrong)["refusal"]
        assert refusal["code"] == "PRECONDITION_FAILED"
        assert details.items() <= refusal["details"].items()
    assert "changes" in do(a, "realize", good)
    assert "changes" in do(a, "release", good)
