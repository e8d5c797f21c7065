"""The host's own addresses and routes: never lost, whatever is on the NIC, whichever step fails, whoever is silent."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from viaduct_agent.links.addresses import Address, Inet, Route, Thing, by_rank, in_order
from viaduct_agent.links.carrying import UNCONFIRMED
from viaduct_agent.links.host import HostLinks
from viaduct_agent.links.keepers import Keepers
from viaduct_agent.links.kinds import options
from viaduct_agent.links.marks import SHARED
from viaduct_agent.links.model import Desired, Link, Step
from viaduct_agent.links.probing import Target
from viaduct_agent.links.table import LinkTable
from viaduct_agent.testing import FakeKernel
from viaduct_common.errors import BackendFailed, PreconditionFailed

from .test_plan import MAC, NIC, OTHER, OURS, bridge, novlan_network  # isort: skip

GATEWAY = "192.0.2.1"
HOME = Inet((
    Address("192.0.2.7", 24), Address("192.0.2.8", 24), Address("2001:db8::7", 64), Address("fe80::1", 64, scope=253),
    Route("0.0.0.0/0", GATEWAY), Route("::/0", "fe80::9", metric=1024),
))  # fmt: skip


def nic(inet: Inet = HOME) -> Link:
    return replace(NIC, inet=inet, addresses=inet.texts)


@st.composite
def any_inet(draw: st.DrawFn) -> Inet:
    """As the kernel could have it: next hops are on the link, sources are addresses of the host."""
    v4 = draw(st.lists(st.integers(1, 250), max_size=4, unique=True))
    v6 = draw(st.lists(st.integers(1, 99), max_size=3, unique=True))
    things: list[Thing] = [
        Address(f"192.0.{2 + host % 2}.{host}", 24, metric=draw(st.sampled_from([0, 7]))) for host in v4
    ]
    things += [Address(f"2001:db8::{host}", 64, flags=draw(st.sampled_from([0, 0x200]))) for host in v6]
    sources = [None, *(thing.local for thing in things if isinstance(thing, Address) and thing.version == 4)]
    for number in draw(st.lists(st.integers(0, 9), max_size=4, unique=True)):
        near = Route(
            f"10.{number}.0.0/24", metric=draw(st.integers(0, 2)), scope=253, source=draw(st.sampled_from(sources))
        )
        things += [
            near,
            Route(f"10.{number + 100}.0.0/16", f"10.{number}.0.9", table=draw(st.sampled_from([254, 1000]))),
        ]
    things += [Route("0.0.0.0/0", f"10.9.0.{n}", onlink=True) for n in draw(st.lists(st.integers(1, 5), unique=True))]
    things += [Route("::/0", f"fe80::{n}", metric=1024) for n in draw(st.lists(st.integers(1, 5), unique=True))]
    if v6 or draw(st.booleans()):
        things.append(Address("fe80::1", 64, scope=253))
    return Inet(by_rank(things))


def shown(inet: Inet | None) -> list[Thing]:
    """As the kernel shows it: routes by destination, and only those to the same one in an order of their own."""

    def key(thing: Thing) -> tuple[object, ...]:
        if isinstance(thing, Address):
            return thing.version, 0
        return thing.version, 1, thing.table, thing.to, thing.metric

    return sorted((inet or Inet()).things, key=key)


class Watchful(FakeKernel):
    """Remembers whether something of the host's own was ever on no device at all."""

    def __init__(self, links: Sequence[Link]) -> None:
        super().__init__(links)
        self.wanted = {thing for link in links for thing in (link.inet or Inet()).own}
        self.missed: list[tuple[Step, set[Thing]]] = []

    def _do(self, step, indexes):  # type: ignore[no-untyped-def]
        done = super()._do(step, indexes)
        there = {thing for link in self.links.values() for thing in (link.inet or Inet()).things}
        if self.wanted - there:
            self.missed.append((step, self.wanted - there))
        return done


@given(any_inet())
def test_adding_in_order_makes_the_same_order(inet: Inet) -> None:
    """`in_order` is the inverse of how the kernel orders what it is given."""
    result = Inet()
    for thing in in_order(inet.things):
        result = result.plus(thing)
    assert shown(result) == shown(inet)


@given(any_inet(), st.booleans())
async def test_realize_and_release_restore_exactly_what_was_there(inet: Inet, known: bool) -> None:
    """And at no moment anything of it was nowhere."""
    kernel = Watchful([nic(inet)])
    host = HostLinks(kernel)
    await host.realize(novlan_network())
    assert not inet.own or kernel.links["eth1"].inet == Inet(inet.link_local)
    assert set(inet.own) <= set((kernel.links["br_eth1"].inet or Inet()).things)
    assert kernel.links["br_eth1"].group == 0
    checked = await host.check(novlan_network())
    assert (checked.differences, checked.steps) == ((), ())
    await host.release(OURS, "eth1" if known else None)
    assert kernel.missed == []
    assert set(kernel.links) == {"eth1"}
    assert (shown(kernel.links["eth1"].inet), kernel.links["eth1"].master) == (shown(inet), None)


@settings(max_examples=60)
@given(any_inet(), st.data())
async def test_whichever_step_fails_everything_is_where_it_was(inet: Inet, data: st.DataObject) -> None:
    """Of a realize, of a release; again nothing is nowhere meanwhile."""
    kernel = Watchful([nic(inet)])
    host = HostLinks(kernel)
    steps = len((await host.check(novlan_network())).steps)
    kernel.fail_at = data.draw(st.integers(0, steps - 1))
    with pytest.raises(BackendFailed):
        await host.realize(novlan_network())
    assert (set(kernel.links), shown(kernel.links["eth1"].inet)) == ({"eth1"}, shown(inet))
    await host.realize(novlan_network())
    before = {name: set((link.inet or Inet()).own) for name, link in kernel.links.items()}
    steps = len((await host.check_release(OURS, "eth1")).steps)
    kernel.fail_at = data.draw(st.integers(0, steps - 1))
    with pytest.raises(BackendFailed):
        await host.release(OURS, "eth1")
    assert {name: set((link.inet or Inet()).own) for name, link in kernel.links.items()} == before
    assert kernel.missed == []


class Answers:
    """A prober whose targets stop answering when told so."""

    def __init__(self, *lost: str) -> None:
        self.lost = {*lost}
        self.asked: list[str] = []
        self.hold: asyncio.Event | None = None

    async def targets(self, gateways: frozenset[str]) -> frozenset[Target]:
        return frozenset({Target(gateway) for gateway in gateways} | {Target("203.0.113.5", 5672)})

    async def answering(self, device: str, targets: frozenset[Target], seconds: float) -> frozenset[Target]:
        self.asked.append(device)
        if device != "eth1" and self.hold is not None:
            await self.hold.wait()
        return frozenset(one for one in targets if device == "eth1" or str(one) not in self.lost)


@pytest.mark.parametrize("lost", ["gateway 192.0.2.1", "gateway fe80::9", "broker 203.0.113.5:5672"])
async def test_a_move_after_which_somebody_does_not_answer_is_undone(lost: str) -> None:
    """The error names who; nothing is left of the move, and it is not tried again at once."""
    kernel = Watchful([nic()])
    host = HostLinks(kernel, prober=Answers(lost))
    with pytest.raises(BackendFailed) as caught:
        await host.realize(novlan_network())
    assert (caught.value.details["step"], caught.value.details["lost"]) == ("probe", [lost])
    assert (set(kernel.links), kernel.links["eth1"].inet) == ({"eth1"}, HOME)
    assert kernel.missed == []
    done = len(kernel.applied)
    with pytest.raises(BackendFailed):
        await host.realize(novlan_network())
    assert len(kernel.applied) == done


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - a kernel in memory has no events
        await asyncio.sleep(0)


async def test_other_networks_go_on_while_answers_are_awaited() -> None:
    """And an asker that is cancelled meanwhile leaves no move unconfirmed."""
    other = replace(NIC, name="eth2", mac="02:00:00:00:00:09")
    kernel, prober = FakeKernel([nic(), other]), Answers()
    prober.hold = asyncio.Event()
    host = HostLinks(kernel, prober=prober)
    moving = asyncio.create_task(host.realize(novlan_network()))
    await until(lambda: "br_eth1" in prober.asked)
    assert kernel.links["br_eth1"].group == UNCONFIRMED
    wanted = Desired(OTHER, 1, "eth2", (bridge("br_eth2", owner=OTHER, generation=1),), "br_eth2")
    await host.realize(wanted)
    assert kernel.links["eth2"].master == "br_eth2"
    moving.cancel()
    prober.hold.set()
    await until(lambda: not kernel.links["br_eth1"].group)
    assert kernel.links["eth1"].master == "br_eth1"


@pytest.mark.parametrize("reached", [True, False])
async def test_what_a_former_process_left_unconfirmed_is_ended_at_the_start(reached: bool) -> None:
    """Confirmed when the broker answers, undone when not; with a VM's tap on it the bridge stays, without the NIC."""
    tap = Link("vnet0", "tun", mac="fe:00:00:00:00:05", master="br_eth1")
    moved = bridge("br_eth1", mac=MAC, group=UNCONFIRMED, inet=HOME, addresses=HOME.texts)
    for links in ([moved], [moved, tap]):
        kernel = FakeKernel([replace(NIC, master="br_eth1"), *links])
        host = HostLinks(kernel, prober=Answers(*([] if reached else ["broker 203.0.113.5:5672"])))
        undone = await host.settle()
        assert undone == (frozenset() if reached else {OURS})
        assert kernel.links["eth1"].master == ("br_eth1" if reached else None)
        home = kernel.links["br_eth1" if reached else "eth1"].inet or Inet()
        assert set(HOME.own) <= set(home.things)
        assert ("br_eth1" in kernel.links) == (reached or tap in links)
        assert all(link.group == 0 for link in kernel.links.values())
        assert await host.settle() == frozenset()


def shared_network(owner: object = OURS, vlan: int = 10, **bridge_options: object) -> Desired:
    shared = Link("brv_eth1", "bridge", SHARED, 0, up=True, options=options(stp=False, **bridge_options))
    device = Link(f"eth1.{vlan}", "vlan", owner, 7, parent="brv_eth1", up=True, options=options(vlan_id=vlan))  # type: ignore[arg-type]
    return Desired(owner, 7, "eth1", (shared, device), "brv_eth1")  # type: ignore[arg-type]


async def test_a_shared_bridge_takes_the_addresses_and_gives_them_back_with_its_last_network() -> None:
    """As any other bridge that has the NIC as its port."""
    kernel = Watchful([nic()])
    host = HostLinks(kernel)
    await asyncio.gather(host.realize(shared_network(OURS, 10)), host.realize(shared_network(OTHER, 20)))
    assert set(HOME.own) <= set((kernel.links["brv_eth1"].inet or Inet()).things)
    await host.release(OURS, "eth1")
    assert set(HOME.own) <= set((kernel.links["brv_eth1"].inet or Inet()).things)
    await host.release(OTHER, "eth1")
    assert (set(kernel.links), kernel.links["eth1"].inet) == ({"eth1"}, HOME)
    assert kernel.missed == []


async def test_an_undone_move_leaves_a_shared_bridge_to_those_who_use_it_meanwhile() -> None:
    """Their devices stand on it."""
    kernel, prober = FakeKernel([nic()]), Answers("gateway 192.0.2.1")
    prober.hold = asyncio.Event()
    host = HostLinks(kernel, prober=prober)
    moving = asyncio.create_task(host.realize(shared_network(OURS, 10)))
    await until(lambda: "brv_eth1" in prober.asked)
    await host.realize(shared_network(OTHER, 20))
    prober.hold.set()
    with pytest.raises(BackendFailed):
        await moving
    assert set(kernel.links) == {"eth1", "brv_eth1", "eth1.20"}
    assert kernel.links["eth1"].inet == HOME


async def test_a_bridge_that_filters_what_has_no_tag_takes_no_addresses() -> None:
    """The host would be cut off: refused before anything is changed."""
    kernel = FakeKernel([nic()])
    with pytest.raises(PreconditionFailed) as caught:
        await HostLinks(kernel).realize(shared_network(vlan_filtering=True, default_pvid=0))
    assert (caught.value.details["device"], kernel.applied) == ("eth1", [])
    assert "VLAN tag" in caught.value.message


async def test_a_bridge_under_another_name_takes_over_from_the_one_before() -> None:
    """The stale bridge of ours carries the addresses; they are on the new one before it goes."""
    old = bridge("br_old", mac=MAC, inet=HOME, addresses=HOME.texts)
    kernel = Watchful([replace(NIC, master="br_old"), old])
    host = HostLinks(kernel)
    await host.observe()
    await host.realize(novlan_network())
    assert set(kernel.links) == {"eth1", "br_eth1"}
    assert set(HOME.own) <= set((kernel.links["br_eth1"].inet or Inet()).things)
    assert kernel.missed == []


def test_the_steps_are_the_commands_that_an_operator_would_type() -> None:
    """`l2.plan` shows them."""
    words = [
        (Address("192.0.2.7", 24, broadcast="192.0.2.255"), "192.0.2.7/24 dev x broadcast 192.0.2.255"),
        (Address("10.0.0.1", 32, peer="10.0.0.2"), "10.0.0.1 peer 10.0.0.2/32 dev x"),
        (Address("2001:db8::7", 64, flags=0x200), "2001:db8::7/64 dev x noprefixroute nodad"),
        (Route("0.0.0.0/0", GATEWAY, metric=9, table=7), "0.0.0.0/0 via 192.0.2.1 dev x table 7 metric 9"),
        (Route("10.0.0.0/8", "fe80::1", metrics=((2, 1400),)), "10.0.0.0/8 via inet6 fe80::1 dev x mtu 1400"),
    ]
    assert [thing.words("x") for thing, _ in words] == [wanted for _, wanted in words]


@pytest.mark.parametrize(
    ("path", "text", "keeper"),
    [
        ("run/systemd/netif/links/2", "# x\nADMIN_STATE=configured\nOPER_STATE=routable\n", "systemd-networkd"),
        ("run/systemd/netif/links/2", "ADMIN_STATE=unmanaged\n", None),
        ("run/systemd/netif/links/3", "ADMIN_STATE=configured\n", None),
        ("run/NetworkManager/devices/2", "[device]\nmanaged=true\n", "NetworkManager"),
        ("run/NetworkManager/devices/2", "[device]\nmanaged=false\n", None),
        ("run/dhclient.eth1.pid", "1", "dhclient"),
        ("run/dhcpcd/eth1.pid", "1", "dhcpcd"),
        ("run/dhclient.eth11.pid", "1", None),
    ],
)
def test_who_manages_a_nic_is_read_from_what_the_programs_say(
    tmp_path: Path, path: str, text: str, keeper: str | None
) -> None:
    """Nothing is run for it."""
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(text)
    assert Keepers(tmp_path)(NIC) == keeper


async def test_an_unused_shared_bridge_gives_the_addresses_back() -> None:
    """What a process left that died between two steps."""
    left = Link("brv_eth1", "bridge", SHARED, 0, mac=MAC, inet=HOME, addresses=HOME.texts)
    kernel = Watchful([replace(NIC, master="brv_eth1"), left])
    await HostLinks(kernel).release_unused()
    assert set(kernel.links) == {"eth1"}
    assert set(HOME.own) <= set((kernel.links["eth1"].inet or Inet()).things)
    assert kernel.missed == []


def test_a_table_knows_where_an_address_went() -> None:
    """Tunnels are asked by it."""
    table = LinkTable([nic()])
    assert table.carrier_of("192.0.2.7") is not None
