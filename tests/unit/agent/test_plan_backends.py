"""The planner with what every backend wants, tunnels and shared bridges included: from any state of a host."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from typing import Any
from uuid import UUID, uuid5

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from viaduct_agent.backends.api import L2OnHost
from viaduct_agent.backends.gretap import GretapBackend
from viaduct_agent.backends.linkbackend import LinkBackend
from viaduct_agent.backends.novlan import NoVlanBackend
from viaduct_agent.backends.vlan import VlanBackend
from viaduct_agent.backends.vlanaware import VlanAwareBridgeBackend
from viaduct_agent.backends.vxlan import VxlanBackend
from viaduct_agent.links.differences import differences
from viaduct_agent.links.entries import Entry, Forwarding, Member, Neighbour
from viaduct_agent.links.host import HostLinks
from viaduct_agent.links.kinds import Options, options
from viaduct_agent.links.marks import SHARED
from viaduct_agent.links.model import DelLink, Desired, Link, inverse
from viaduct_agent.links.plan import plan
from viaduct_agent.links.release import plan_release, plan_unused
from viaduct_agent.links.table import LinkTable, after
from viaduct_agent.testing import FakeKernel
from viaduct_common import naming
from viaduct_common.errors import InUse, ViaductError
from viaduct_common.messages.agent import Peer, PeerNic
from viaduct_common.messages.l2 import L2NetworkInventory

OURS = UUID("11111111-1111-4111-8111-111111111111")
OTHER = UUID("22222222-2222-4222-8222-222222222222")
MAC = "02:00:00:00:00:01"
LOCAL = "10.0.0.1"
REMOTES = ["10.0.0.2", "10.0.0.3", "10.0.0.4"]
NIC_MACS = [f"52:54:00:00:00:{number:02x}" for number in range(4)]
NIC_IPS = ["192.168.1.1", "192.168.1.2", "fd00::1"]
BACKENDS: list[tuple[type[LinkBackend], str, dict[str, Any]]] = [
    (NoVlanBackend, "L2NoVlanNetwork", {}),
    (VlanBackend, "L2VlanNetwork", {"vlan": 10}),
    (VlanAwareBridgeBackend, "L2VlanNetwork", {"vlan": 10}),
    (VxlanBackend, "L2VxlanNetwork", {"vni": 7}),
    (GretapBackend, "OvsGreL2Network", {"key": 7}),
]
BRIDGES = ["br_eth1", "br_eth1_10", "brv_eth1", "br_vx_7", "br_gr_7"]
GRE_NAMES = [naming.gre_device_name(7, remote) for remote in REMOTES]
NAMES = [*BRIDGES, "eth1.10", "eth1.20", "vxlan7", *GRE_NAMES, "old", "vnet0"]

nics = st.builds(
    lambda mac, ips: PeerNic(mac=mac, ips=ips),
    st.sampled_from(NIC_MACS),
    st.lists(st.sampled_from([ip_address(text) for text in NIC_IPS]), unique=True, max_size=2),
)


@st.composite
def any_peers(draw: st.DrawFn) -> tuple[Peer, ...]:
    return tuple(
        Peer(host_uuid=uuid5(OURS, remote), tunnel_ip=ip_address(remote), nics=draw(st.lists(nics, max_size=2)))
        for remote in draw(st.lists(st.sampled_from(REMOTES), unique=True))
    )


@st.composite
def any_desired(draw: st.DrawFn, owner: UUID = OURS) -> Desired:
    """What one of the backends wants for some network."""
    kind, l2_type, own = draw(st.sampled_from(BACKENDS))
    vlan = draw(st.sampled_from([10, 20]))
    own = {"vlan": vlan} if "vlan" in own else own
    bridge, others = {
        "L2NoVlanNetwork": ("br_eth1", []),
        "L2VlanNetwork": ("br_eth1_10", [f"eth1.{vlan}"]),
        "L2VxlanNetwork": ("br_vx_7", ["vxlan7"]),
        "OvsGreL2Network": ("br_gr_7", []),
    }[l2_type]
    network = L2NetworkInventory.model_validate(
        {
            "uuid": owner, "name": "n", "zoneUuid": OTHER, "physicalInterface": "eth1", "type": l2_type,
            "mtu": draw(st.sampled_from([1280, 1400])), "bridgeName": bridge, "deviceNames": [bridge, *others],
            "createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z", **own,
        }
    )  # fmt: skip
    want = L2OnHost(
        draw(st.integers(1, 9)), network, "eth1", tunnel_ip=ip_address(LOCAL), peers=draw(any_peers())
    )  # fmt: skip
    return kind(HostLinks(FakeKernel())).desired_links(want)


def any_options(kind: str | None) -> st.SearchStrategy[Options]:
    made: dict[str | None, st.SearchStrategy[Options]] = {
        "bridge": st.builds(
            options, stp=st.booleans(), forward_delay=st.sampled_from([0, 1500]), vlan_filtering=st.booleans(),
            default_pvid=st.sampled_from([0, 1]),
        ),
        "vlan": st.builds(options, vlan_id=st.sampled_from([10, 20])),
        "vxlan": st.builds(
            options, vni=st.sampled_from([7, 8]), local=st.sampled_from([LOCAL, "10.0.0.9"]),
            udp_port=st.just(4789), learning=st.booleans(),
        ),
        "gretap": st.builds(
            options, local=st.sampled_from([LOCAL, "10.0.0.9"]), remote=st.sampled_from(REMOTES),
            in_key=st.sampled_from([7, 8]), out_key=st.just(7), in_flags=st.just(0x2000), out_flags=st.just(0x2000),
        ),
    }  # fmt: skip
    return made.get(kind, st.just(()))


any_entry: st.SearchStrategy[Entry] = st.one_of(
    st.builds(Forwarding, st.sampled_from(["00:00:00:00:00:00", *NIC_MACS]), st.sampled_from([None, *REMOTES])),
    st.builds(Neighbour, st.sampled_from(NIC_IPS), st.sampled_from(NIC_MACS)),
    st.builds(Member, st.sampled_from([10, 20])),
)


@st.composite
def any_host(draw: st.DrawFn) -> LinkTable:
    """An arbitrary host that the kernel could have: masters are bridges, parents are the NIC or the shared bridge."""
    nic = Link(
        "eth1", mac=MAC, up=draw(st.booleans()), master=draw(st.sampled_from([None, *BRIDGES[:3]])), entries=frozenset()
    )
    underlay = Link("eth0", mac="02:00:00:00:00:02", up=True, addresses=(f"{LOCAL}/24",))
    links = {"eth1": nic, "eth0": underlay}
    for name in draw(st.lists(st.sampled_from(NAMES), unique=True)):
        kind = draw(st.sampled_from(["bridge", "vlan", "vxlan", "gretap", "dummy"]))
        owner = draw(st.sampled_from([OURS, OTHER, SHARED, None] if name == "brv_eth1" else [OURS, OTHER, None]))
        links[name] = Link(
            name, kind, owner, None if owner is None else draw(st.integers(0, 9)),
            mtu=draw(st.sampled_from([1280, 1400, 1500])), mac=draw(st.sampled_from([MAC, "02:00:00:00:00:03"])),
            master=draw(st.sampled_from([None, *BRIDGES])),
            parent=draw(st.sampled_from(["eth1", "brv_eth1"])) if kind == "vlan" else None,
            up=draw(st.booleans()), options=draw(any_options(kind)),
            port=draw(st.builds(options, neigh_suppress=st.booleans(), isolated=st.booleans(), learning=st.just(True))),
            entries=frozenset(draw(st.lists(any_entry, max_size=3))),
        )  # fmt: skip
    for name, link in list(links.items()):
        master = links.get(link.master or "")
        plugged = master is not None and master.kind == "bridge" and link.kind != "bridge" and name != master.name
        if link.parent is not None and (link.parent not in links or links[link.parent].kind == "vlan" or plugged):
            link = replace(link, parent="eth1")  # noqa: PLW2901 - the same one, corrected
        own = [entry for entry in link.entries or () if _possible(entry, link, plugged)]
        links[name] = replace(
            link, master=link.master if plugged else None, port=link.port if plugged else (),
            entries=None if name == "eth0" else frozenset(own),
        )  # fmt: skip
    return LinkTable(replace(link, index=number + 2) for number, link in enumerate(links.values()))


def _possible(entry: Entry, link: Link, plugged: bool) -> bool:
    match entry:
        case Forwarding(_, via):
            return link.kind == "vxlan" if via is not None else plugged and link.kind in {"vxlan", "gretap"}
        case Neighbour():
            return link.kind == "bridge"
        case Member():
            return plugged or link.kind == "bridge"


def steps_or_refused(make: Callable[[], tuple[Any, ...]]) -> tuple[Any, ...]:
    try:
        return make()
    except ViaductError:
        assume(False)
        raise


def strangers(table: LinkTable) -> dict[str, Link]:
    """Links without our mark, but for what a plan may do to the NIC."""
    found = {name: link for name, link in table.items() if link.owner is None}
    found["eth1"] = replace(found["eth1"], up=True, master=None, port=(), entries=frozenset())
    return found


@settings(max_examples=120)
@given(any_desired(), any_host())
def test_a_plan_leads_from_any_state_to_the_wanted_one_and_touches_nothing_foreign(
    desired: Desired, actual: LinkTable
) -> None:
    """`plan(d, after(a, plan(d, a))) == ()`, or it is refused; another network's devices are as they were."""
    steps = steps_or_refused(lambda: plan(desired, actual))
    result = after(actual, steps)
    assert plan(desired, result) == ()
    assert differences(desired, result) == []
    assert strangers(result) == strangers(actual)
    assert [link for link in result.values() if link.owner == OTHER] == [
        link for link in actual.values() if link.owner == OTHER
    ]
    assert (steps == ()) == (differences(desired, actual) == [])


@settings(max_examples=120)
@given(any_desired(), any_desired(), any_host())
def test_any_wanted_state_can_follow_any_other(first: Desired, second: Desired, actual: LinkTable) -> None:
    """Another backend, VLAN or generation of the same network, other peers; then nothing of the first is left."""
    between = after(actual, steps_or_refused(lambda: plan(first, actual)))
    result = after(between, steps_or_refused(lambda: plan(second, between)))
    assert plan(second, result) == ()
    assert differences(second, result) == []
    assert {link.name for link in result.owned_by(OURS)} <= {link.name for link in second.links}
    # A VLAN that the first joined on the shared bridge is left, unless it was there before, or goes on.
    for device, vlan in first.members - second.members:
        link, was = result.get(device), actual.get(device)
        if link is not None and (was is None or Member(vlan) not in (was.entries or ())):
            assert Member(vlan) not in (link.entries or ())


@settings(max_examples=80)
@given(any_desired(), any_host())
def test_undoing_a_plan_backwards_restores_the_host(desired: Desired, actual: LinkTable) -> None:
    """Last done, first undone: every link of before is there again with all that hung on it."""
    steps = steps_or_refused(lambda: plan(desired, actual))
    assume(not any(isinstance(step, DelLink) for step in steps))  # re-creation frees ports
    undo = tuple(back for step in reversed(steps) for back in inverse(step))
    restored = after(after(actual, steps), undo)
    assert {name: replace(link, entries=link.entries or None) for name, link in restored.items()} == {
        name: replace(link, entries=link.entries or None) for name, link in actual.items()
    }


@settings(max_examples=120)
@given(any_desired(), any_host(), st.booleans())
def test_a_release_leaves_nothing_of_ours_and_all_that_is_foreign(
    desired: Desired, actual: LinkTable, force: bool
) -> None:
    """After it no mark of the network is left, nor a shared bridge that nobody uses."""
    there = after(actual, steps_or_refused(lambda: plan(desired, actual)))
    try:
        steps = plan_release(OURS, there, "eth1", force=force)
    except InUse:
        assert not force
        return
    result = after(there, steps)
    assert result.owned_by(OURS) == []
    assert plan_release(OURS, result, "eth1", force=force) == ()
    if not force:
        assert strangers(result) == strangers(there)
    if desired.members and not any(link.owner == OTHER for link in there.standing_on("brv_eth1")):
        assert "brv_eth1" not in result or plan_unused(result) == ()


@given(any_host())
def test_an_unused_shared_bridge_goes_and_one_in_use_stays(actual: LinkTable) -> None:
    """Left by a process that died between two steps."""
    result = after(actual, plan_unused(actual))
    assert plan_unused(result) == ()
    bridge = actual.get("brv_eth1")
    if bridge is None or bridge.owner != SHARED:
        assert dict(result) == dict(actual)
    elif actual.standing_on("brv_eth1"):
        assert "brv_eth1" in result


@pytest.mark.parametrize(("kind", "l2_type", "own"), BACKENDS)
def test_from_nothing_every_network_is_made_and_leaves_nothing(
    kind: type[LinkBackend], l2_type: str, own: dict[str, Any]
) -> None:
    """Not vacuous: each backend's plan is accepted on a plain host."""
    names = {"L2NoVlanNetwork": ["br_eth1"], "L2VlanNetwork": ["br_eth1_10", "eth1.10"],
             "L2VxlanNetwork": ["br_vx_7", "vxlan7"], "OvsGreL2Network": ["br_gr_7"]}[l2_type]  # fmt: skip
    network = L2NetworkInventory.model_validate(
        {
            "uuid": OURS, "name": "n", "zoneUuid": OTHER, "physicalInterface": "eth1", "type": l2_type, "mtu": 1400,
            "bridgeName": names[0], "deviceNames": names, "createdAt": "2026-01-01T00:00:00Z",
            "updatedAt": "2026-01-01T00:00:00Z", **own,
        }
    )  # fmt: skip
    peer = Peer(
        host_uuid=OTHER, tunnel_ip=ip_address(REMOTES[0]), nics=[PeerNic(mac=NIC_MACS[0], ips=[ip_address(NIC_IPS[0])])]
    )
    want = L2OnHost(1, network, "eth1", tunnel_ip=ip_address(LOCAL), peers=(peer,))
    desired = kind(HostLinks(FakeKernel())).desired_links(want)
    plain = LinkTable([
        Link("eth1", mac=MAC, up=True, index=2, entries=frozenset()),
        Link("eth0", mac=MAC, up=True, index=3, addresses=(f"{LOCAL}/24",)),
    ])  # fmt: skip
    made = after(plain, plan(desired, plain))
    assert plan(desired, made) == ()
    assert dict(after(made, plan_release(OURS, made, "eth1"))) == dict(plain)
