"""Drift on the running kernel: told by events, repaired, reported."""

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from viaduct_agent.backends.api import L2Backend, L2OnHost, Registry
from viaduct_agent.backends.linkbackend import LinkBackend, bridge_link
from viaduct_agent.backends.novlan import NoVlanBackend
from viaduct_agent.drift import DriftGuard
from viaduct_agent.driftreports import Drift
from viaduct_agent.holdings import Holdings
from viaduct_agent.lanes import Lanes
from viaduct_agent.links.entries import EVERYBODY, Forwarding, Neighbour
from viaduct_agent.links.host import HostLinks
from viaduct_agent.links.kinds import VXLAN, options
from viaduct_agent.links.model import Desired, Link, with_values
from viaduct_agent.links.netlink import Netlink
from viaduct_agent.links.watch import Changed, address_changes, link_changes
from viaduct_common.messages.l2 import L2NetworkInventory

from .conftest import Namespace

pytestmark = pytest.mark.lab
MOST_SECONDS = 30  # the kernel's one lock is shared with all other namespaces, and whoever makes devices in them
GUEST, PEER = "02:00:00:00:00:aa", "192.0.2.7"


class TunnelBackend(LinkBackend):
    """A bridge with a VXLAN device that has everything that can be changed; the VNI is in the bridge's name."""

    l2_type = "L2NoVlanNetwork"
    name = "tunnel"
    usual = False

    def desired_links(self, want: L2OnHost) -> Desired:
        bridge = bridge_link(want)
        vni = int(bridge.name.removeprefix("br_vx"))
        tunnel = Link(
            name=f"vx{vni}",
            kind=VXLAN,
            owner=want.network.uuid,
            generation=want.generation,
            mtu=want.network.mtu,
            mac="02:00:00:00:00:01",
            master=bridge.name,
            up=True,
            options=options(vni=vni, learning=False, udp_port=4789),
            port=options(isolated=True, learning=False, neigh_suppress=True),
            entries=frozenset({Forwarding(EVERYBODY, PEER), Forwarding(GUEST, PEER), Forwarding(GUEST)}),
        )
        bridge = with_values(bridge, mac="02:00:00:00:00:02", entries=frozenset({Neighbour("10.0.0.5", GUEST)}))
        return Desired(want.network.uuid, want.generation, None, (bridge, tunnel))


class Watched:
    """A guard over a namespace, and the networks in it."""

    def __init__(self, netlink: Netlink) -> None:
        links = HostLinks(netlink)
        kinds: list[type[L2Backend]] = [NoVlanBackend, TunnelBackend]
        self.backends = Registry(kinds, links)
        self.holdings = Holdings()
        self.reports: asyncio.Queue[Drift] = asyncio.Queue()
        self.guard = DriftGuard(self.backends, self.holdings, Lanes(), self.reports.put_nowait, links=links)

    async def realize(self, network: L2NetworkInventory, backend: str | None = None) -> None:
        want = L2OnHost(1, network, "eth1", backend=backend)
        await self.backends.of(want).realize(want)
        self.holdings.realized(want)

    async def next_report(self) -> Drift:
        return await asyncio.wait_for(self.reports.get(), MOST_SECONDS)

    async def sound(self) -> bool:
        """Nothing is left to do."""
        wants = self.holdings.watched().values()
        checks = [await self.backends.of(want).check(want) for want in wants]
        return not any(checked.steps or checked.differences or checked.refusal for checked in checks)


@asynccontextmanager
async def listening(netlink: Netlink) -> AsyncIterator[asyncio.Queue[Changed]]:
    """What the kernel tells from now on."""
    told: asyncio.Queue[Changed] = asyncio.Queue()

    async def listen() -> None:
        async for changed in link_changes(netlink):
            told.put_nowait(changed)

    task = asyncio.create_task(listen())
    await asyncio.sleep(0.05)  # the event socket is bound in the worker thread
    yield told
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def guarded(netlink: Netlink) -> AsyncIterator[Watched]:
    one = Watched(netlink)
    task = asyncio.create_task(one.guard.run(link_changes(netlink)))
    await asyncio.sleep(0.05)  # the event socket is bound in the worker thread
    yield one
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def watched(guarded: Watched, network: Callable[..., L2NetworkInventory]) -> Watched:
    """It has a NoVlan network."""
    await guarded.realize(network())
    return guarded


@pytest.fixture
async def tunnelled(guarded: Watched, network: Callable[..., L2NetworkInventory]) -> Watched:
    """It has a network with a tunnel."""
    await guarded.realize(network("br_vx5", 1400), "tunnel")
    return guarded


def run(namespace: Namespace, command: str) -> None:
    """`ip` or `bridge`, in the namespace."""
    program, arguments = command.split(maxsplit=1)
    subprocess.run([program, "-n", namespace.name, *arguments.split()], check=True, capture_output=True)


@pytest.mark.parametrize(
    "command",
    [
        "link set br_eth1 down",
        "link del br_eth1",
        "link set eth1 nomaster",
        "link set br_eth1 name other",
        "link set br_eth1 mtu 1400",
        "link set eth1 down",
    ],
)
async def test_what_another_hand_does_is_repaired_and_reported(
    watched: Watched, namespace: Namespace, command: str
) -> None:
    """Within a moment, by the event alone: the sweep comes only after a minute."""
    namespace.ip(command)
    drift = await asyncio.wait_for(watched.reports.get(), MOST_SECONDS)
    assert (drift.generation, drift.error, drift.repaired) == (1, None, True)
    assert drift.differences
    assert namespace.link("eth1")["master"] == "br_eth1"
    assert "UP" in namespace.link("br_eth1")["flags"]
    assert "other" not in namespace.names()


FDB, NEIGHBOUR = "bridge fdb", "ip neighbour"
CHANGES = {
    "the bridge is deleted": ["ip link del br_vx5"],
    "the port is deleted": ["ip link del vx5"],
    "the port is taken out": ["ip link set vx5 nomaster"],
    "the port is moved": ["ip link add other type bridge", "ip link set vx5 master other"],
    "the MTU is changed": ["ip link set vx5 mtu 1300"],
    "the MAC is changed": ["ip link set br_vx5 address 02:00:00:00:00:99"],
    "the mark is taken off": ["ip link set br_vx5 alias mine"],
    "the mark tells another generation": None,
    "the device is renamed": ["ip link set vx5 down", "ip link set vx5 name other", "ip link set other up"],
    "the device is set down": ["ip link set vx5 down"],
    "an option of the bridge is changed": ["ip link set br_vx5 type bridge stp_state 1"],
    "the port hears its neighbours": ["ip link set vx5 type bridge_slave isolated off"],
    "the port does not answer ARP": ["bridge link set dev vx5 neigh_suppress off"],
    "the device of another VNI is in its place": ["ip link del vx5", "ip link add vx5 type vxlan id 6 dstport 4789"],
    "an entry is deleted": [f"{FDB} del {GUEST} dev vx5 dst {PEER} self"],
    "where floods go is deleted": [f"{FDB} del {EVERYBODY} dev vx5 dst {PEER} self"],
    "the bridge's entry is deleted": [f"{FDB} del {GUEST} dev vx5 master"],
    "an entry leads elsewhere": [f"{FDB} replace {GUEST} dev vx5 dst 192.0.2.99 self permanent"],
    "floods go to a stranger, too": [f"{FDB} append {EVERYBODY} dev vx5 dst 192.0.2.99 self permanent"],
    "a stranger's entry is added": [f"{FDB} add 02:00:00:00:00:bb dev vx5 master static"],
    "a neighbour is deleted": [f"{NEIGHBOUR} del 10.0.0.5 dev br_vx5"],
    "a neighbour is another": [f"{NEIGHBOUR} replace 10.0.0.5 lladdr 02:00:00:00:00:cc dev br_vx5 nud permanent"],
    "a stranger's neighbour is added": [f"{NEIGHBOUR} add 10.0.0.6 lladdr {GUEST} dev br_vx5 nud permanent"],
}


@pytest.mark.parametrize("change", CHANGES)
async def test_whatever_is_changed_of_a_tunnel_is_noticed_and_repaired(
    tunnelled: Watched, namespace: Namespace, change: str
) -> None:
    """By the events alone, of links and of what hangs on them."""
    owner = next(iter(tunnelled.holdings.watched()))
    for command in CHANGES[change] or [f"ip link set vx5 alias viaduct:{owner}:7"]:
        run(namespace, command)
    drift = await tunnelled.next_report()
    assert drift.differences
    if change == "the device of another VNI is in its place":  # it has no mark: a stranger's
        assert drift.error is not None
        assert drift.error.code == "CONFLICT"
        return
    assert (drift.repaired, drift.error) == (True, None)
    assert await tunnelled.sound()


@pytest.mark.parametrize(
    "command",
    ["ip address add 10.9.0.1/24 dev br_eth1", "ip address add 2001:db8::1/64 dev br_eth1 nodad"],
)
async def test_addresses_of_a_networks_devices_are_told(netlink: Netlink, namespace: Namespace, command: str) -> None:
    """Their events name no device, only an index."""
    namespace.ip("link add br_eth1 type bridge")
    async with listening(netlink) as told:
        run(namespace, command)
        assert (await asyncio.wait_for(told.get(), MOST_SECONDS)).names == {"br_eth1"}


async def test_learned_addresses_wake_nobody(netlink: Netlink, namespace: Namespace) -> None:
    """However many: they do not come through the socket's filter."""
    namespace.ip("link add vx5 type vxlan id 5 dstport 4789")
    namespace.ip("link add sentinel type bridge")
    lines = [f"fdb add 02:00:00:00:{n // 256:02x}:{n % 256:02x} dev vx5 dst {PEER} self dynamic" for n in range(500)]
    async with listening(netlink) as told:
        command = ["bridge", "-n", namespace.name, "-batch", "-"]
        process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE)
        await process.communicate("\n".join(lines).encode())
        assert process.returncode == 0
        namespace.ip("link set sentinel up")
        assert (await asyncio.wait_for(told.get(), MOST_SECONDS)).names == {"sentinel"}


async def test_a_storm_over_many_networks_is_repaired(
    guarded: Watched, namespace: Namespace, network: Callable[..., L2NetworkInventory]
) -> None:
    """All their devices deleted in one go: each network is told as repaired."""
    count = 30
    networks = [network(f"br_vx{vni}", 1400) for vni in range(1, count + 1)]
    await asyncio.gather(*(guarded.realize(one, "tunnel") for one in networks))
    batch = "\n".join(f"link del {kind}{vni}" for vni in range(1, count + 1) for kind in ("vx", "br_vx"))
    command = ["ip", "-n", namespace.name, "-batch", "-"]
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE)
    await process.communicate(batch.encode())
    assert process.returncode == 0
    awaited = {one.uuid for one in networks}
    async with asyncio.timeout(2 * MOST_SECONDS):
        while awaited:
            drift = await guarded.reports.get()
            awaited -= {drift.uuid} if drift.repaired else set()
        while not await guarded.sound():  # some were deleted while they were repaired, and wait for their second turn
            await guarded.reports.get()


async def test_our_own_changes_and_a_vms_tap_are_no_drift(watched: Watched, namespace: Namespace) -> None:
    """Neither the realize, whose events came, nor what plugs into the bridge."""
    namespace.ip("link add vnet0 type veth peer name guest0")
    namespace.ip("link set vnet0 master br_eth1 up")
    await asyncio.sleep(0.5)
    assert watched.reports.empty()


async def test_lost_events_are_noticed(namespace: Namespace) -> None:
    """ENOBUFS is told as an overflow, and the events go on."""

    class Deaf(Netlink):
        async def event_socket(self, groups: int) -> socket.socket:
            sock = await super().event_socket(groups)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the kernel makes it its minimum
            return sock

    async with Deaf(namespace.name) as netlink:
        changes = link_changes(netlink)
        first = asyncio.create_task(anext(changes))
        await asyncio.sleep(0.05)
        for number in range(10):
            namespace.ip(f"link add t{number} type bridge")
        seen = [await first]
        async with asyncio.timeout(5):
            while not seen[-1].overflow:
                seen.append(await anext(changes))
        namespace.ip("link set t1 up")
        async with asyncio.timeout(5):
            while "t1" not in seen[-1].names:
                seen.append(await anext(changes))
        await changes.aclose()  # type: ignore[attr-defined]


async def test_the_hosts_own_addresses_are_told_and_those_of_one_link_are_not(
    netlink: Netlink, namespace: Namespace
) -> None:
    """Every bridge and tap that is set up gets one of the latter; tunnels end at the former."""
    news = address_changes(netlink)
    waiting = asyncio.ensure_future(anext(news))
    await asyncio.sleep(0.05)  # the socket is bound in the worker thread
    namespace.ip("link add br0 up type bridge")
    namespace.ip("addr add fe80::77/64 dev br0")
    await asyncio.wait({waiting}, timeout=1.5)
    assert not waiting.done()
    namespace.ip("addr add 192.0.2.9/24 dev br0")
    await asyncio.wait_for(waiting, MOST_SECONDS)
    await news.aclose()  # type: ignore[attr-defined]
