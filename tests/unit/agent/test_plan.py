"""The planner: from any state of a host to the wanted one, and never through what is not ours."""

from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from viaduct_agent.links.addresses import Address, Inet
from viaduct_agent.links.differences import differences
from viaduct_agent.links.kinds import Options, options
from viaduct_agent.links.model import AddLink, DelLink, Desired, Link, SetLink, inverse
from viaduct_agent.links.plan import plan
from viaduct_agent.links.release import plan_release
from viaduct_agent.links.table import after
from viaduct_common.errors import Conflict, InUse, PreconditionFailed, ViaductError

OURS = UUID("11111111-1111-4111-8111-111111111111")
OTHER = UUID("22222222-2222-4222-8222-222222222222")
MAC = "02:00:00:00:00:01"
NIC = Link("eth1", mac=MAC, up=True, index=2)

PLAIN = options(stp=False, forward_delay=0)
NAMES = ["br_eth1_10", "eth1.10", "br_eth1", "old", "tap0"]


def bridge(name: str, **fields: object) -> Link:
    return replace(Link(name, "bridge", OURS, 7, up=True, options=PLAIN), **fields)  # type: ignore[arg-type]


def vlan_network(generation: int = 7, mtu: int = 1500) -> Desired:
    links = (
        bridge("br_eth1_10", generation=generation, mtu=mtu),
        Link(
            "eth1.10",
            "vlan",
            OURS,
            generation,
            mtu=mtu,
            master="br_eth1_10",
            parent="eth1",
            up=True,
            options=options(vlan_id=10),
        ),
    )
    return Desired(OURS, generation, "eth1", links)


def novlan_network(generation: int = 7, mtu: int = 1500) -> Desired:
    return Desired(OURS, generation, "eth1", (bridge("br_eth1", generation=generation, mtu=mtu),), "br_eth1")


def by_name(*links: Link) -> dict[str, Link]:
    return {link.name: replace(link, index=number + 2) for number, link in enumerate(links)}


@st.composite
def any_link(draw: st.DrawFn, name: str) -> Link:
    kind = draw(st.sampled_from(["bridge", "vlan", "dummy", None]))
    owner = draw(st.sampled_from([OURS, OTHER, None]))
    others = st.sampled_from([*(n for n in NAMES if n != name), "eth1", None])
    return Link(
        name,
        kind,
        owner,
        None if owner is None else draw(st.integers(0, 9)),
        mtu=draw(st.sampled_from([1280, 1400, 1500, 9000])),
        mac=draw(st.sampled_from([MAC, "02:00:00:00:00:02"])),
        master=draw(others),
        parent=draw(others) if kind == "vlan" else None,
        up=draw(st.booleans()),
        options=draw(any_options(kind)),
    )


def any_options(kind: str | None) -> st.SearchStrategy[Options]:
    match kind:
        case "bridge":
            return st.builds(options, stp=st.booleans(), forward_delay=st.sampled_from([0, 1500]))
        case "vlan":
            return st.builds(options, vlan_id=st.sampled_from([10, 20]))
        case _:
            return st.just(())


@st.composite
def any_host(draw: st.DrawFn) -> dict[str, Link]:
    """An arbitrary host that the kernel could have: masters are bridges, and parents are no children of their own."""
    links = {"eth1": Link("eth1", mac=MAC, up=draw(st.booleans()), master=draw(st.sampled_from([None, *NAMES[:4]])))}
    for name in draw(st.lists(st.sampled_from(NAMES), unique=True)):
        links[name] = draw(any_link(name))
    for name, link in list(links.items()):
        master = links.get(link.master or "")
        good = master is not None and master.kind == "bridge" and link.kind != "bridge"
        parent = link.parent if link.parent == "eth1" else None
        kind = link.kind if link.kind != "vlan" or parent else "dummy"
        own = () if kind == "dummy" else link.options
        links[name] = replace(link, master=link.master if good else None, parent=parent, kind=kind, options=own)
    return by_name(*links.values())


wanted = st.sampled_from([vlan_network(), novlan_network(), vlan_network(8, 1400), novlan_network(3, 1280)])


def foreign(links: dict[str, Link], uplink: str) -> dict[str, Link]:
    return {name: link for name, link in links.items() if link.owner != OURS and name != uplink}


@given(wanted, any_host())
def test_a_plan_leads_from_any_state_to_the_wanted_one_and_touches_nothing_foreign(
    desired: Desired, actual: dict[str, Link]
) -> None:
    """`plan(d, after(a, plan(d, a))) == ()`, or it is refused with an error of ours."""
    try:
        steps = plan(desired, actual)
    except ViaductError:
        assume(False)
        raise
    result = after(actual, steps)

    assert plan(desired, result) == ()
    assert differences(desired, result) == []
    assert foreign(result, "eth1") == foreign(actual, "eth1")
    assert replace(result["eth1"], up=True, master=None) == replace(actual["eth1"], up=True, master=None)


@given(wanted, any_host())
def test_nothing_to_do_and_no_difference_are_the_same(desired: Desired, actual: dict[str, Link]) -> None:
    """Check says ok exactly when realize would do nothing."""
    try:
        steps = plan(desired, actual)
    except ViaductError:
        assume(False)
        raise
    assert (steps == ()) == (differences(desired, actual) == [])


@given(any_host(), st.booleans())
def test_a_release_leaves_nothing_of_ours_and_all_that_is_foreign(actual: dict[str, Link], force: bool) -> None:
    """After a release no mark of the network is left; links of others lose a master at most, and only if forced."""
    try:
        steps = plan_release(OURS, actual, "eth1", force=force)
    except InUse:
        assert not force
        return
    result = after(actual, steps)

    assert not [link for link in result.values() if link.owner == OURS]
    assert plan_release(OURS, result, "eth1", force=force) == ()
    before = foreign(actual, "eth1")
    assert {name: replace(link, master=None) for name, link in before.items()} == {
        name: replace(link, master=None) for name, link in foreign(result, "eth1").items()
    }
    if not force:
        assert foreign(result, "eth1") == before


@given(wanted, any_host())
def test_undoing_a_plan_backwards_restores_the_host(desired: Desired, actual: dict[str, Link]) -> None:
    """Last done, first undone: every link of before is there again with what it was."""
    try:
        steps = plan(desired, actual)
    except ViaductError:
        assume(False)
        raise
    assume(not any(isinstance(step, DelLink) for step in steps))  # re-creation frees ports; see execute's tests
    undo = tuple(back for step in reversed(steps) for back in inverse(step))
    assert after(after(actual, steps), undo) == actual


def test_from_nothing_a_vlan_network_is_two_devices_and_no_more() -> None:
    """One message per device."""
    steps = plan(vlan_network(), by_name(NIC))
    assert [type(step) for step in steps] == [AddLink, AddLink]
    made = f"ip link add name br_eth1_10 mtu 1500 address {MAC} up type bridge forward_delay 0 stp_state 0"
    on_it = f"ip link add link eth1 name eth1.10 mtu 1500 address {MAC} master br_eth1_10 up type vlan id 10"
    assert [step.command for step in steps] == [
        f"{made} && ip link set dev br_eth1_10 alias viaduct:{OURS}:7",
        f"{on_it} && ip link set dev eth1.10 alias viaduct:{OURS}:7",
    ]


def test_a_new_generation_of_the_same_network_is_only_marked_anew() -> None:
    """Nothing else is touched."""
    actual = after(by_name(NIC), plan(vlan_network(7), by_name(NIC)))
    steps = plan(vlan_network(8), actual)
    assert [step.changed for step in steps if isinstance(step, SetLink)] == [{"alias"}, {"alias"}]
    assert len(steps) == 2


def test_another_vlan_never_meets_the_former_one_in_the_bridge() -> None:
    """The stale device carries our mark and is not wanted: it leaves before the new one comes, and goes last."""
    old = replace(
        vlan_network(),
        links=(bridge("br_eth1_10"), replace(vlan_network().links[1], name="eth1.20", options=options(vlan_id=20))),
    )
    actual = after(by_name(NIC), plan(old, by_name(NIC)))
    commands = [" ".join(step.command.split()[:6]) for step in plan(vlan_network(), actual)]
    assert commands == [
        "ip link set dev eth1.20 nomaster",
        "ip link add link eth1 name",
        "ip link del dev eth1.20",
    ]


@pytest.mark.parametrize(
    ("desired", "actual", "error", "device"),
    [
        (vlan_network(), by_name(), PreconditionFailed, "eth1"),
        (vlan_network(), by_name(replace(NIC, kind="bridge")), PreconditionFailed, "eth1"),
        (vlan_network(), by_name(replace(NIC, mtu=1400)), PreconditionFailed, "eth1"),
        (vlan_network(), by_name(replace(NIC, mac=None)), PreconditionFailed, "eth1"),
        (vlan_network(), by_name(replace(NIC, owner=OTHER, generation=1)), PreconditionFailed, "eth1"),
        (vlan_network(), by_name(replace(NIC, master="bond0"), Link("bond0", "bond")), PreconditionFailed, "eth1"),
        (novlan_network(), by_name(replace(NIC, master="br9"), Link("br9", "bridge")), PreconditionFailed, "eth1"),
        (
            novlan_network(),
            by_name(replace(NIC, inet=Inet((Address("192.0.2.1", 24),), ("x manages eth1",)))),
            PreconditionFailed,
            "eth1",
        ),
        (
            novlan_network(),
            by_name(replace(NIC, inet=Inet((Address("192.0.2.1", 24, valid_seconds=3600),)))),
            PreconditionFailed,
            "eth1",
        ),
        (vlan_network(), by_name(NIC, Link("br_eth1_10", "bridge")), Conflict, "br_eth1_10"),
        (vlan_network(), by_name(NIC, Link("eth1.10", "vlan", OTHER, 1)), Conflict, "eth1.10"),
    ],
)
def test_what_cannot_be_done_safely_is_refused_naming_the_device(
    desired: Desired, actual: dict[str, Link], error: type[ViaductError], device: str
) -> None:
    """The code says what kind of trouble, `details.device` where."""
    with pytest.raises(error) as caught:
        plan(desired, actual)
    assert caught.value.code == error.code
    assert caught.value.details["device"] == device


def test_a_vlan_network_may_stand_beside_a_bridge_on_the_same_nic() -> None:
    """NoVlan and VLAN networks share an interface; tagged frames reach the VLAN device first."""
    actual = by_name(replace(NIC, master="br_eth1"), bridge("br_eth1", owner=OTHER))
    assert len(plan(vlan_network(), actual)) == 2


def test_a_release_gives_the_nic_back_first_and_finds_it_by_its_mac_alone() -> None:
    """Of a leftover only the mark is known: the bridge has the NIC's MAC."""
    actual = by_name(replace(NIC, master="br_eth1"), bridge("br_eth1", mac=MAC))
    steps = plan_release(OURS, actual)
    assert [step.command for step in steps] == ["ip link set dev eth1 nomaster", "ip link del dev br_eth1"]


def test_a_release_with_a_vm_on_the_bridge_is_refused_naming_its_tap() -> None:
    """VM taps are never unplugged unless forced."""
    tap = Link("vnet0", "tun", mac="fe:00:00:00:00:05", master="br_eth1")
    actual = by_name(replace(NIC, master="br_eth1"), bridge("br_eth1", mac=MAC), tap)
    with pytest.raises(InUse) as caught:
        plan_release(OURS, actual, "eth1")
    assert caught.value.details["ports"] == ["vnet0"]
    assert len(plan_release(OURS, actual, "eth1", force=True)) == 2
