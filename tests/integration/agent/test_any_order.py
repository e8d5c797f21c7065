"""Any sequence of commands on the running kernel, each doubled, some split by a fault or a restart, all taken back."""

import asyncio
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from viaduct_agent.backends.api import L2OnHost
from viaduct_agent.backends.linkbackend import LinkBackend
from viaduct_agent.backends.novlan import NoVlanBackend
from viaduct_agent.backends.vxlan import VxlanBackend
from viaduct_agent.links.host import HostLinks
from viaduct_agent.links.kernel import EVERYTHING, Applied, Look
from viaduct_agent.links.model import Link, Step
from viaduct_agent.links.netlink import Netlink
from viaduct_agent.links.table import LinkTable
from viaduct_common.errors import BackendFailed
from viaduct_common.messages.agent import Peer, PeerNic

from .conftest import Namespace
from .guests import inventory

pytestmark = pytest.mark.lab
LOCAL, REMOTES = "10.9.0.1", ["10.9.0.2", "10.9.0.3", "10.9.0.4"]
KINDS: list[tuple[type[LinkBackend], str, int]] = [
    (NoVlanBackend, "L2NoVlanNetwork", 0),
    (VxlanBackend, "L2VxlanNetwork", 7),
    (VxlanBackend, "L2VxlanNetwork", 8),
]
NETWORKS = [
    inventory(l2_type, number).model_copy(update={"uuid": UUID(int=at + 1)})
    for at, (_, l2_type, number) in enumerate(KINDS)
]
SABOTAGE = [
    "link del br_vx_7", "link set vxlan7 down", "link set vxlan7 nomaster", "link set br_eth1 mtu 1300",
    "link del vxlan8",
    "link set eth1 nomaster", "link set br_vx_8 address 02:00:00:00:00:99", "link set br_eth1 type bridge stp_state 1",
]  # fmt: skip


@dataclass(frozen=True)
class Realize:
    which: int
    mtu: int
    peers: tuple[Peer, ...]


@dataclass(frozen=True)
class Release:
    which: int


@dataclass(frozen=True)
class Meddle:
    command: str


@dataclass(frozen=True)
class Restart:
    """Another process: nothing is remembered."""


@dataclass(frozen=True)
class Fault:
    """The n-th step from now on fails."""

    at: int


nics = st.builds(
    lambda mac, ip: PeerNic(mac=f"52:54:00:00:00:0{mac}", ips=[ip_address(f"192.168.1.{ip}")]),
    st.integers(0, 3),
    st.integers(1, 3),
)


def peer(remote: str) -> st.SearchStrategy[Peer]:
    address = ip_address(remote)
    return st.builds(
        lambda found: Peer(host_uuid=UUID(int=9), tunnel_ip=address, nics=found), st.lists(nics, max_size=1)
    )


peers = st.lists(st.sampled_from(REMOTES), unique=True).flatmap(lambda some: st.tuples(*map(peer, some)))
which = st.integers(0, len(KINDS) - 1)
actions = st.lists(
    st.one_of(
        st.builds(Realize, which, st.sampled_from([1300, 1400]), peers),
        st.builds(Realize, which, st.sampled_from([1300, 1400]), peers),
        st.builds(Release, which),
        st.builds(Meddle, st.sampled_from(SABOTAGE)),
        st.just(Restart()),
        st.builds(Fault, st.integers(0, 4)),
    ),
    min_size=2, max_size=7,
)  # fmt: skip


class Faulty:
    """The real kernel, but for one step."""

    def __init__(self, netlink: Netlink) -> None:
        self.netlink = netlink
        self.left: int | None = None

    async def observe(self, look: Look = EVERYTHING) -> LinkTable:
        return await self.netlink.observe(look)

    async def apply(self, plans: Sequence[Sequence[Step]], indexes: MutableMapping[str, int]) -> list[Applied]:
        if self.left is None or len(plans) != 1:
            return await self.netlink.apply(plans, indexes)
        steps, at = plans[0], self.left
        self.left = None
        (applied,) = await self.netlink.apply([steps[:at]], indexes)
        if at >= len(steps):
            return [applied]
        return [Applied(applied.done, applied.refusal or BackendFailed("injected", step=steps[at].command))]


class Host:
    def __init__(self, space: Namespace, kernel: Faulty) -> None:
        self.space = space
        self.kernel = kernel
        self.generation = 0
        self.start()

    def start(self) -> None:
        links = HostLinks(self.kernel)
        self.backends = [kind(links) for kind, _, _ in KINDS]

    def want(self, at: int, mtu: int = 1400, peers: tuple[Peer, ...] = ()) -> L2OnHost:
        network = NETWORKS[at].model_copy(update={"mtu": mtu})
        return L2OnHost(self.generation, network, "eth1", tunnel_ip=ip_address(LOCAL), peers=peers)

    async def strangers(self) -> dict[str, Link]:
        found = await self.kernel.observe(Look(addresses_of=frozenset({"eth0", "stranger"})))
        kept = {name: link for name, link in found.items() if link.owner is None}
        kept["eth1"] = replace(kept["eth1"], up=True, master=None, port=())
        return kept

    async def do(self, action: Realize | Release | Meddle | Restart | Fault) -> None:
        match action:
            case Realize(at, mtu, peers):
                self.generation += 1
                await self.realize(at, self.want(at, mtu, peers))
            case Release(at):
                self.generation += 1
                await self.release(at)
            case Meddle(command):
                arguments = ["ip", "-n", self.space.name, *command.split()]
                process = await asyncio.create_subprocess_exec(*arguments, stderr=asyncio.subprocess.DEVNULL)
                await process.wait()  # what is not there is not meddled with
            case Restart():
                self.start()
            case Fault(at):
                self.kernel.left = at

    async def realize(self, at: int, want: L2OnHost) -> None:
        backend, before = self.backends[at], await self.kernel.observe()
        try:
            await backend.realize(want)
        except BackendFailed:
            after = await self.kernel.observe()
            assert {name: replace(link, index=0) for name, link in after.items()} == {
                name: replace(link, index=0) for name, link in before.items()
            }
            await backend.realize(want)  # the fault was one
        assert await backend.realize(want) == ()  # doubled
        checked = await backend.check(want)
        assert (checked.differences, checked.refusal, checked.present) == ((), None, True)

    async def release(self, at: int) -> None:
        backend, want = self.backends[at], self.want(at)
        try:
            await backend.release(want)
        except BackendFailed:
            await backend.release(want)
        assert await backend.release(want) == ()
        assert not (await backend.check(want)).present


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequence=actions)
def test_whatever_is_asked_in_whatever_order_holds_and_can_be_taken_back(
    namespace: Namespace, sequence: list[Realize | Release | Meddle | Restart | Fault]
) -> None:
    """After each realize a check finds nothing; strangers' devices are as they were; at the end nothing is left."""

    async def play() -> None:
        async with Netlink(namespace.name) as netlink:
            host = Host(namespace, Faulty(netlink))
            before = await host.strangers()
            for action in sequence:
                await host.do(action)
                assert await host.strangers() == before
            host.kernel.left = None
            for at in reversed(range(len(KINDS))):
                await host.release(at)
            assert await host.strangers() == before
            assert set(await netlink.observe()) == set(before)

    asyncio.run(play())


@pytest.fixture
def namespace(namespace: Namespace) -> Namespace:
    """With an underlay, and devices that are nobody's business."""
    namespace.ip("link add eth0 up type veth peer name peer0")
    namespace.ip(f"addr add {LOCAL}/24 dev eth0")
    namespace.ip("link add stranger type bridge forward_delay 1500")
    namespace.ip("link add foreign type veth peer name foreignpeer")
    namespace.ip("link set foreign master stranger")
    return namespace
