"""A NIC that carries the host's own addresses becomes a port, and is given back, on the running kernel."""

import asyncio
import json
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping, Sequence
from pathlib import Path

import pytest
from lab.machine import wait_until

from viaduct_agent.backends.api import L2OnHost
from viaduct_agent.backends.novlan import NoVlanBackend
from viaduct_agent.links.dialogue import Dialogue
from viaduct_agent.links.host import HostLinks
from viaduct_agent.links.keepers import Keepers
from viaduct_agent.links.kernel import EVERYTHING, Applied, Look
from viaduct_agent.links.model import Step
from viaduct_agent.links.netlink import Netlink
from viaduct_agent.links.probing import NetworkProber
from viaduct_agent.links.table import LinkTable
from viaduct_common.errors import BackendFailed, PreconditionFailed
from viaduct_common.messages.l2 import L2NetworkInventory

from .conftest import Namespace

pytestmark = pytest.mark.lab
Make = Callable[..., L2NetworkInventory]
GATEWAY, GATEWAY6, BROKER_PORT = "192.0.2.1", "fe80::1", 5672
SIMPLE = [
    "addr add 192.0.2.7/24 dev eth1",
    "addr add 2001:db8::7/64 dev eth1 nodad",
    f"route add default via {GATEWAY} dev eth1",
    f"-6 route add default via {GATEWAY6} dev eth1",
]
RICH = [
    "addr add 192.0.2.7/24 broadcast + dev eth1",
    "addr add 192.0.2.8/24 dev eth1 label eth1:two",
    "addr add 198.51.100.9/25 dev eth1 metric 77",
    "addr add 192.0.2.9/24 dev eth1",
    "addr add 169.254.7.7/16 scope link dev eth1",
    "addr add 203.0.113.5/24 dev eth1 noprefixroute",
    "addr add 10.10.0.1 peer 10.10.0.2 dev eth1",
    "addr add 2001:db8::7/64 dev eth1 nodad",
    "addr add 2001:db8::8/64 dev eth1 nodad preferred_lft 0",
    "addr change 2001:db8::7/64 dev eth1",
    "addr add 2001:db8:1::9/128 dev eth1 nodad",
    f"route add default via {GATEWAY} dev eth1 metric 100 proto static",
    "route append default via 192.0.2.2 dev eth1 metric 100",
    "route add default via 192.0.2.3 dev eth1 metric 200 mtu 1400 advmss 1300",
    "route add 203.0.113.0/24 dev eth1 proto kernel scope link src 203.0.113.5 metric 50",
    "route add 10.1.0.0/16 via 192.0.2.1 dev eth1 table 1000 src 192.0.2.8",
    "route add 10.2.0.0/16 dev eth1 scope link",
    "route add 10.3.0.0/16 via 10.2.9.9 dev eth1",
    "route add 10.4.0.0/16 via 172.16.0.1 dev eth1 onlink",
    "route add 10.5.0.0/16 via inet6 fe80::1 dev eth1",
    "route add blackhole 10.6.0.0/16",
    f"-6 route add default via {GATEWAY6} dev eth1 metric 512",
    "-6 route add 2001:db8:5::/48 via 2001:db8::1 dev eth1 table 200 src 2001:db8::7",
    "-6 route add 2001:db8:6::/48 via 2001:db8::1 dev eth1",
    "-6 route append 2001:db8:6::/48 via 2001:db8::2 dev eth1",
    "-6 route add 2001:db8:7::/48 dev eth1 expires 3000",
]


class Host:
    """`near` is the host, its eth1 leads to `far`, where the gateway is and a broker listens."""

    def __init__(self, near: Namespace, far: Namespace) -> None:
        self.near = near
        self.far = far

    def configure(self, commands: list[str]) -> None:
        for command in commands:
            self.near.ip(command)
        wait_until(lambda: self.tentative() == "", timeout_seconds=10)

    def snapshot(self) -> list[str]:
        """Addresses and routes in the kernel's order, without what passes by itself."""
        found = []
        for command in ("-d addr show dev eth1", "-d route show table all", "-d -6 route show table all"):
            for line in self.near.ip(command).splitlines():
                words = line.split()
                if "eth1@" in line or not words or words[0] in {"link/ether", "veth"} or "qdisc" in words:
                    continue
                words = [word for word in words if not word.endswith("sec")]
                if "expires" not in words and "local" not in words[:1] and "broadcast" not in words[:1]:
                    found.append(" ".join(words))
        return found

    def on(self, device: str) -> set[str]:
        shown = json.loads(self.near.ip(f"-j addr show dev {device}"))[0]["addr_info"]
        return {one["local"] for one in shown if not one["local"].startswith("fe80")}

    def tentative(self) -> str:
        return self.near.ip("-6 addr show tentative")

    def group(self) -> str:
        return str(self.near.link("br_eth1").get("group", "default"))


@pytest.fixture
def host(namespace: Namespace) -> Iterator[Host]:
    far = Namespace(namespace.name + "f")
    subprocess.run(["ip", "netns", "add", far.name], check=True)
    try:
        namespace.ip(f"link set peer1 netns {far.name}")
        for command in ("192.0.2.1/24", "2001:db8::1/64 nodad", "fe80::1/64 nodad"):
            far.ip(f"addr add {command} dev peer1")
        far.ip("link set peer1 up")
        # No detection of duplicates on the NIC, so that the test need not wait for it; bridges do it.
        enter = ["ip", "netns", "exec", namespace.name, "tee"]
        files = [f"/proc/sys/net/ipv6/conf/{name}/accept_dad" for name in ("all", "eth1")]
        subprocess.run([*enter, *files], check=True, capture_output=True, input=b"0")
        namespace.ip("link set eth1 up")
        host = Host(namespace, far)
        wait_until(lambda: host.tentative() == "", timeout_seconds=10)
        yield host
    finally:
        subprocess.run(["ip", "netns", "del", far.name], check=True)


@pytest.fixture
async def far(host: Host) -> AsyncIterator[Netlink]:
    async with Netlink(host.far.name) as netlink:
        yield netlink


@pytest.fixture
async def broker(far: Netlink) -> AsyncIterator[asyncio.Server]:
    """Echoes what it is told; also a broker, as far as the guard asks."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()
        writer.close()

    sock = await far.converse(_bound, socket.SOCK_STREAM)
    async with await asyncio.start_server(echo, sock=sock) as server:
        yield server


def _bound(_: Dialogue, kind: socket.SocketKind) -> socket.socket:
    sock = socket.socket(socket.AF_INET6, kind)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("::", BROKER_PORT))
    sock.setblocking(False)
    return sock


def links_of(kernel: Netlink, **options: object) -> HostLinks:
    return HostLinks(kernel, prober=NetworkProber(kernel, (GATEWAY, BROKER_PORT)), **options)  # type: ignore[arg-type]


def timeless(commands: tuple[str, ...]) -> list[str]:
    return [command.partition(" expires ")[0] for command in commands]


async def test_everything_moves_and_comes_back_as_it_was(
    host: Host, netlink: Netlink, network: Make, broker: asyncio.Server
) -> None:
    """Secondary addresses, labels, scopes, lifetimes, metrics, tables, sources, next hops: all of it, in its order."""
    host.configure(RICH)
    before, addresses = host.snapshot(), host.on("eth1")
    links = links_of(netlink)
    want, novlan = L2OnHost(1, network(), "eth1"), NoVlanBackend(links)
    planned = (await novlan.check(want)).steps
    assert timeless(await novlan.realize(want)) == timeless(planned)
    assert (host.on("br_eth1"), host.on("eth1")) == (addresses, set())
    assert host.tentative() == ""
    shown = host.near.ip("route show")
    assert "default via 192.0.2.3 dev br_eth1 metric 200 mtu 1400 advmss 1300" in shown
    assert "dev eth1" not in shown
    assert host.group() == "default"
    assert await novlan.realize(want) == ()
    checked = await novlan.check(want)
    assert (checked.differences, checked.steps, checked.refusal) == ((), (), None)
    await novlan.release(want)
    assert host.snapshot() == before
    assert host.tentative() == ""
    assert host.near.names() == {"lo", "eth1"}


class Talk:
    """A TCP connection on which something is said all the time, and datagrams that come back."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.echoes = 0

    async def run(self) -> None:
        while True:
            said = f"{self.echoes}".encode().rjust(1000)
            self.writer.write(said)
            assert await self.reader.readexactly(1000) == said
            self.echoes += 1

    async def goes_on(self) -> None:
        """Wait until something that was said from now on has come back."""
        until = self.echoes + 2
        while self.echoes < until:  # noqa: ASYNC110 - the traffic itself is the clock
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("address", [GATEWAY, "2001:db8::1"])
async def test_a_connection_stays_up_while_its_addresses_move(
    host: Host, netlink: Netlink, far: Netlink, network: Make, *, broker: asyncio.Server, address: str
) -> None:
    """Realize and release, with traffic all the while; of a thousand datagrams a second next to none is lost."""
    host.configure(SIMPLE)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = await netlink.stream_socket(family)
    await asyncio.get_running_loop().sock_connect(sock, (address, BROKER_PORT))
    talk = Talk(*await asyncio.open_connection(sock=sock))
    lost = Lost(await far.converse(_bound, socket.SOCK_DGRAM), await netlink.converse(_datagrams, family), address)
    novlan, want = NoVlanBackend(links_of(netlink)), L2OnHost(1, network(), "eth1")
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(talk.run()), tasks.create_task(lost.send()), tasks.create_task(lost.hear())]
        await talk.goes_on()
        for work in (novlan.realize, novlan.release):
            await work(want)
            assert "master" not in host.near.link("eth1") or work == novlan.realize
            await talk.goes_on()
            await lost.some_more()
        for task in running:
            task.cancel()
    talk.writer.close()
    lost.close()
    assert lost.heard
    assert lost.sent - len(lost.heard) < 50  # a second's detection of duplicates would cost hundreds


def _datagrams(_: Dialogue, family: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    return sock


class Lost:
    """Numbered datagrams, one each millisecond, and which of them arrived."""

    def __init__(self, listening: socket.socket, sending: socket.socket, address: str) -> None:
        self.listening, self.sending, self.address = listening, sending, address
        self.sent = 0
        self.heard: set[bytes] = set()

    async def send(self) -> None:
        while True:
            try:
                self.sending.sendto(str(self.sent).encode(), (self.address, BROKER_PORT))
            except OSError:
                self.refused = True
            self.sent += 1
            await asyncio.sleep(0.001)

    async def hear(self) -> None:
        while True:
            self.heard.add(await asyncio.get_running_loop().sock_recv(self.listening, 100))

    async def some_more(self) -> None:
        until = self.sent + 200
        while self.sent < until:  # noqa: ASYNC110 - the traffic itself is the clock
            await asyncio.sleep(0.01)

    def close(self) -> None:
        self.listening.close()
        self.sending.close()


class Meddled:
    """The real kernel; when the addresses have moved, something happens."""

    def __init__(self, netlink: Netlink, happens: Callable[[], Awaitable[None]]) -> None:
        self.netlink = netlink
        self.happens: Callable[[], Awaitable[None]] | None = happens

    async def observe(self, look: Look = EVERYTHING) -> LinkTable:
        return await self.netlink.observe(look)

    async def apply(self, plans: Sequence[Sequence[Step]], indexes: MutableMapping[str, int]) -> list[Applied]:
        applied = await self.netlink.apply(plans, indexes)
        if self.happens is not None:
            happens, self.happens = self.happens, None
            await happens()
        return applied


@pytest.mark.parametrize("loses", ["gateway 192.0.2.1", "gateway fe80::1", "broker 192.0.2.1:5672"])
async def test_what_is_lost_by_the_move_undoes_it(
    host: Host, netlink: Netlink, network: Make, broker: asyncio.Server, loses: str
) -> None:
    """By itself, all of it; the error names who does not answer, and the next attempt waits."""
    host.configure(SIMPLE)
    before = host.snapshot()

    async def happens() -> None:
        assert host.on("br_eth1")
        if loses.startswith("broker"):
            broker.close()
        else:
            host.far.ip(f"addr del {loses.split()[1]}/{64 if '::' in loses else 24} dev peer1")

    kernel = Meddled(netlink, happens)
    prober = NetworkProber(netlink, ("192.0.2.1" if "broker" in loses else "192.0.2.99", BROKER_PORT))
    links = HostLinks(kernel, prober=prober, probe_seconds=2.0)
    with pytest.raises(BackendFailed) as caught:
        await NoVlanBackend(links).realize(L2OnHost(1, network(), "eth1"))
    assert kernel.happens is None
    assert caught.value.details["step"] == "probe"
    assert caught.value.details["lost"] == [loses]
    assert host.snapshot() == before
    assert host.near.names() == {"lo", "eth1"}
    with pytest.raises(BackendFailed, match="was undone") as caught:
        await NoVlanBackend(links).realize(L2OnHost(2, network(), "eth1"))
    assert host.snapshot() == before


async def test_who_did_not_answer_before_is_not_missed(host: Host, netlink: Netlink, network: Make) -> None:
    """No broker, and a gateway that is not there: there is nothing to lose."""
    host.configure([*SIMPLE[:2], "route add default via 192.0.2.99 dev eth1"])
    links = HostLinks(netlink, prober=NetworkProber(netlink, (GATEWAY, BROKER_PORT)), probe_seconds=0.3)
    await NoVlanBackend(links).realize(L2OnHost(1, network(), "eth1"))
    assert host.on("br_eth1") == {"192.0.2.7", "2001:db8::7"}
    assert host.group() == "default"


KILLED = """
import asyncio, os, signal, sys
sys.path[:0] = sys.argv[3:]
from viaduct_agent.links.host import HostLinks
from viaduct_agent.links.netlink import Netlink
from viaduct_agent.backends.novlan import NoVlanBackend
from viaduct_agent.backends.api import L2OnHost
from viaduct_common.messages.l2 import L2NetworkInventory

class Killed(Netlink):
    async def apply(self, plans, indexes):
        await super().apply(plans, indexes)
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    async with Killed(sys.argv[1]) as netlink:
        net = L2NetworkInventory.from_json(sys.argv[2])
        await NoVlanBackend(HostLinks(netlink)).realize(L2OnHost(1, net, "eth1"))

asyncio.run(main())
"""


@pytest.mark.parametrize("reached", [True, False])
async def test_a_move_that_a_killed_agent_left_is_confirmed_or_undone_by_the_next(
    host: Host, netlink: Netlink, network: Make, *, broker: asyncio.Server, tmp_path: Path, reached: bool
) -> None:
    """The kernel remembers that nobody confirmed it; the broker decides."""
    host.configure(RICH)
    before, net = host.snapshot(), network()
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), host.near.name, net.to_json().decode(), *sys.path
    )
    assert await process.wait() == -signal.SIGKILL
    assert host.group() != "default"
    assert "192.0.2.7" in host.on("br_eth1")
    prober = NetworkProber(netlink, (GATEWAY if reached else "192.0.2.99", BROKER_PORT))
    links = HostLinks(netlink, prober=prober, probe_seconds=5.0 if reached else 0.3)
    undone = await links.settle()
    if reached:
        assert (undone, host.group()) == (frozenset(), "default")
        assert (await NoVlanBackend(links).check(L2OnHost(1, net, "eth1"))).differences == ()
    else:
        assert undone == {net.uuid}
        assert host.snapshot() == before
        assert host.near.names() == {"lo", "eth1"}
    assert await links.settle() == frozenset()


async def test_whichever_step_fails_addresses_and_routes_are_as_they_were(
    host: Host, netlink: Netlink, network: Make
) -> None:
    """Every step of a realize, and of a release."""

    class Failing:
        left = -1

        async def observe(self, look: Look = EVERYTHING) -> LinkTable:
            return await netlink.observe(look)

        async def apply(self, plans: Sequence[Sequence[Step]], indexes: MutableMapping[str, int]) -> list[Applied]:
            if self.left < 0:
                return await netlink.apply(plans, indexes)
            ((good, bad),) = [(steps[: self.left], steps[self.left]) for steps in plans]
            (applied,) = await netlink.apply([good], indexes)
            self.left = -1
            return [Applied(applied.done, BackendFailed("injected", step=bad.command))]

    host.configure(RICH)
    free, kernel = host.snapshot(), Failing()
    novlan, want = NoVlanBackend(HostLinks(kernel)), L2OnHost(1, network(), "eth1")
    for fail_at in range(0, len((await novlan.check(want)).steps), 3):
        kernel.left = fail_at
        with pytest.raises(BackendFailed, match="injected"):
            await novlan.realize(want)
        now = host.snapshot()
        assert [line for line in now if line not in free] == []  # the same, told shortly
        assert [line for line in free if line not in now] == []
        assert [(fail_at, line) for line in now] == [(fail_at, line) for line in free]
        assert host.near.names() == {"lo", "eth1"}
    await novlan.realize(want)
    bridged = host.snapshot(), host.on("br_eth1")
    for fail_at in range(0, len((await novlan.check(want, "release")).steps), 3):
        kernel.left = fail_at
        with pytest.raises(BackendFailed, match="injected"):
            await novlan.release(want)
        assert (fail_at, host.snapshot(), host.on("br_eth1")) == (fail_at, *bridged)


@pytest.mark.parametrize("how", ["by mark", "forced", "unplugged"])
async def test_a_release_gives_back_what_was_put_on_the_bridge_meanwhile(
    host: Host, netlink: Netlink, network: Make, how: str
) -> None:
    """Also of a leftover that is known by its mark alone, and of a NIC that another hand unplugged."""
    host.configure(SIMPLE)
    net, links = network(), HostLinks(netlink)
    await NoVlanBackend(links).realize(L2OnHost(1, net, "eth1"))
    host.near.ip("addr add 198.51.100.1/24 dev br_eth1")
    host.near.ip("route add 10.7.0.0/16 via 198.51.100.254")
    if how == "unplugged":
        host.near.ip("link set eth1 nomaster")
    if how == "forced":
        host.near.ip("route add 10.8.0.0/16 nexthop via 198.51.100.2 nexthop via 198.51.100.3")
        with pytest.raises(PreconditionFailed, match="several next hops"):
            await links.release(net.uuid, "eth1")
        await links.release(net.uuid, "eth1", force=True)
    else:
        await links.release(net.uuid, None if how == "by mark" else "eth1")
    assert host.on("eth1") == {"192.0.2.7", "2001:db8::7", "198.51.100.1"}
    assert "10.7.0.0/16 via 198.51.100.254 dev eth1" in host.near.ip("route show")
    assert f"default via {GATEWAY} dev eth1" in host.near.ip("route show")
    assert f"default via {GATEWAY6} dev eth1" in host.near.ip("-6 route show")
    assert host.near.names() == {"lo", "eth1"}


@pytest.mark.parametrize(
    ("commands", "files", "reason"),
    [
        ([], {"run/systemd/netif/links/{index}": "ADMIN_STATE=configured\n"}, "systemd-networkd manages eth1"),
        ([], {"run/NetworkManager/devices/{index}": "[device]\nmanaged=true\n"}, "NetworkManager manages eth1"),
        ([], {"run/dhclient.eth1.pid": "7\n"}, "dhclient manages eth1"),
        (["addr add 10.0.0.9/24 dev eth1 valid_lft 600 preferred_lft 600"], {}, "renews 10.0.0.9/24"),
        (["addr add 2001:db8::77/128 dev eth1 valid_lft 600 preferred_lft 600"], {}, "renews 2001:db8::77/128"),
        (["route add 10.0.0.0/8 nexthop via 192.0.2.1 nexthop via 192.0.2.2"], {}, "several next hops"),
        (["rule add iif eth1 table 7"], {}, "policy routing names eth1"),
        (["nexthop add id 5 via 192.0.2.1 dev eth1", "route add 10.0.0.0/8 nhid 5"], {}, "next-hop object"),
    ],
)
async def test_addresses_that_cannot_be_moved_safely_are_refused(
    host: Host,
    netlink: Netlink,
    network: Make,
    *,
    tmp_path: Path,
    commands: list[str],
    files: dict[str, str],
    reason: str,
) -> None:
    """Nothing is changed; the text says why, the details where."""
    host.configure([*SIMPLE, *commands])
    before = host.snapshot()
    index = host.near.link("eth1")["ifindex"]
    for path, text in files.items():
        file = tmp_path / path.format(index=index)
        file.parent.mkdir(parents=True)
        file.write_text(text)
    novlan = NoVlanBackend(HostLinks(netlink, keeper=Keepers(tmp_path)))
    with pytest.raises(PreconditionFailed) as caught:
        await novlan.realize(L2OnHost(1, network(), "eth1"))
    assert caught.value.details["device"] == "eth1"
    assert reason in str(caught.value.details["reasons"])
    assert reason in caught.value.message
    assert host.snapshot() == before


async def test_a_managed_nic_without_addresses_is_taken(
    host: Host, netlink: Netlink, network: Make, tmp_path: Path
) -> None:
    """There is nothing that the program could put back; nor do files of an unmanaged NIC matter."""
    file = tmp_path / f"run/systemd/netif/links/{host.near.link('eth1')['ifindex']}"
    file.parent.mkdir(parents=True)
    file.write_text("ADMIN_STATE=configured\n")
    links = HostLinks(netlink, keeper=Keepers(tmp_path))
    net = network()
    await NoVlanBackend(links).realize(L2OnHost(1, net, "eth1"))
    await links.release(net.uuid)
    host.configure(SIMPLE)
    file.write_text("ADMIN_STATE=unmanaged\n")
    await NoVlanBackend(links).realize(L2OnHost(2, net, "eth1"))
    assert "192.0.2.7" in host.on("br_eth1")


async def test_an_address_that_another_hand_puts_back_on_the_nic_moves_again(
    host: Host, netlink: Netlink, network: Make
) -> None:
    """A difference that a realize mends; one that a DHCP client put there is left alone, for it has no effect."""
    host.configure(SIMPLE)
    want, novlan = L2OnHost(1, network(), "eth1"), NoVlanBackend(HostLinks(netlink))
    await novlan.realize(want)
    host.configure(["addr add 192.0.2.7/24 dev eth1", "addr add 192.0.2.99/24 dev eth1"])
    (found,) = (await novlan.check(want)).differences
    assert (found.device, found.attribute) == ("eth1", "addresses")
    assert "192.0.2.99/24" in found.actual
    await novlan.realize(want)
    assert (host.on("eth1"), host.on("br_eth1")) == (set(), {"192.0.2.7", "192.0.2.99", "2001:db8::7"})
    host.configure(["addr add 10.0.0.9/24 dev eth1 valid_lft 600 preferred_lft 600"])
    assert (await novlan.check(want)).differences == ()
    assert await novlan.realize(want) == ()


async def test_what_routers_configure_is_refused_on_a_nic_and_not_given_back_by_a_bridge(
    host: Host, netlink: Netlink, far: Netlink, network: Make
) -> None:
    """A port does not hear them; and what they tell the bridge is the bridge's."""
    host.configure(SIMPLE[:3])
    before = host.snapshot()
    novlan, want = NoVlanBackend(HostLinks(netlink)), L2OnHost(1, network(), "eth1")
    await novlan.realize(want)
    await _heard(host, far, "br_eth1")
    await novlan.release(want)
    assert host.snapshot() == before
    await _heard(host, far, "eth1")
    with pytest.raises(PreconditionFailed, match="routers configure it"):
        await novlan.realize(want)


async def _heard(host: Host, far: Netlink, device: str) -> None:
    async with asyncio.timeout(20):
        while not any(address.startswith("2001:db8:77:") for address in host.on(device)):
            await far.converse(_advertise, 1800)  # routers repeat themselves
            await asyncio.sleep(0.05)


def _advertise(_: Dialogue, seconds: int) -> None:
    """A router advertisement with one prefix (RFC 4861 §4.2, §4.6.2)."""
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        index = socket.if_nametoindex("peer1")
        sock.bind((GATEWAY6, 0, 0, index))
        prefix = socket.inet_pton(socket.AF_INET6, "2001:db8:77::")
        option = struct.pack("!BBBBIII", 3, 4, 64, 0xC0, seconds, seconds, 0) + prefix
        sock.sendto(struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + option, ("ff02::1", 0, 0, index))


async def test_one_look_at_many_devices_finds_what_a_look_at_each_does(namespace: Namespace) -> None:
    """Beyond a few the whole host is read at once."""
    names = [f"m{number}" for number in range(6)]
    for number, name in enumerate(names):
        namespace.ip(f"link add {name} up type veth peer name p{name}")
        namespace.ip(f"addr add 192.0.2.{16 * number + 1}/28 dev {name}")
        namespace.ip(f"route add 198.51.{number}.0/24 via 192.0.2.{16 * number + 2} metric 7")
    async with Netlink(namespace.name) as netlink:
        alone = [(await netlink.observe(Look(frozenset({name}), inet_of=frozenset({name}))))[name] for name in names]
        together = await netlink.observe(Look(inet_of=frozenset(names)))
    for link in alone:
        assert link.inet is not None
        assert len(link.inet.things) >= 2
        assert together[link.name].inet == link.inet
