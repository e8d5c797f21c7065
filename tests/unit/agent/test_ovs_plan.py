"""The planner of Open vSwitch: from any state to the wanted one, and never through what is not ours."""

import json
from dataclasses import replace
from random import Random
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from viaduct_agent.ovs.model import (
    BOND,
    AddPort,
    Bridges,
    DelBridge,
    DelPort,
    Desired,
    Port,
    Step,
    after,
    format_mark,
    owner_of,
    parse_mark,
    steps_between,
)
from viaduct_agent.ovs.operations import operations
from viaduct_agent.ovs.plan import differences, plan, plan_release
from viaduct_common.errors import Conflict, InUse, ViaductError

from .ovs_states import OTHER, OURS, any_desired, any_state, bridge, tunnel

randoms = st.randoms(use_true_random=False)


def planned(desired: Desired, actual: Bridges) -> tuple[Step, ...]:
    try:
        return plan(desired, actual)
    except ViaductError:
        assume(False)
        raise


def foreign(bridges: Bridges) -> tuple[dict[str, object], dict[str, tuple[str, Port]]]:
    """What does not carry our mark: bridges without their ports, and ports with where they are."""
    own = {name: replace(one, ports=()) for name, one in bridges.items() if one.owner != OURS}
    ports = {port.name: (one.name, port) for one in bridges.values() for port in one.ports if port.owner != OURS}
    return {**own}, ports


@given(randoms)
def test_a_plan_leads_from_any_state_to_the_wanted_one_and_touches_nothing_foreign(random: Random) -> None:
    """`plan(d, after(a, plan(d, a))) == ()`, or it is refused with an error of ours."""
    desired, actual = any_desired(random), any_state(random)
    steps = planned(desired, actual)
    result = after(actual, steps)

    assert plan(desired, result) == ()
    assert differences(desired, result) == []
    assert foreign(result) == foreign(actual)
    assert all(owner_of(step) == OURS for step in steps)


@given(randoms)
def test_nothing_to_do_and_no_difference_are_the_same(random: Random) -> None:
    """Check says ok exactly when realize would do nothing."""
    desired, actual = any_desired(random), any_state(random)
    assert (planned(desired, actual) == ()) == (differences(desired, actual) == [])


@given(randoms)
def test_a_refused_plan_is_about_a_name_or_a_port_of_others(random: Random) -> None:
    """CONFLICT names what is not ours, IN_USE the ports that are not; nothing else is a reason."""
    desired, actual = any_desired(random), any_state(random)
    bridges, ports = foreign(actual)
    taken = desired.device_names & (bridges.keys() | ports.keys())
    stale = [one for one in actual.values() if one.owner == OURS and one.name != desired.bridge.name]
    used = {port.name for one in stale for port in one.ports if port.owner != OURS}
    if taken:
        with pytest.raises(Conflict) as conflict:
            plan(desired, actual)
        assert conflict.value.details["device"] in taken
    elif used:
        with pytest.raises(InUse) as in_use:
            plan(desired, actual)
        assert set(in_use.value.details["ports"]) == used
    else:
        plan(desired, actual)


@given(randoms, st.booleans())
def test_a_release_leaves_nothing_of_ours_and_all_that_is_foreign(random: Random, force: bool) -> None:
    """Ports of others go at most with a bridge of ours, and only if forced."""
    actual = any_state(random)
    try:
        steps = plan_release(OURS, actual, force=force)
    except InUse:
        assert not force
        return
    result = after(actual, steps)

    assert not [one for one in result.values() if one.owner == OURS]
    assert not [port for one in result.values() for port in one.ports if port.owner == OURS]
    assert plan_release(OURS, result, force=force) == ()
    bridges, ports = foreign(actual)
    assert foreign(result)[0] == bridges
    ours = {name for name, one in actual.items() if one.owner == OURS}
    assert foreign(result)[1] == {name: (on, port) for name, (on, port) in ports.items() if on not in ours}
    if not force:
        assert foreign(result) == foreign(actual)


@given(randoms)
def test_the_steps_back_undo_the_steps_there(random: Random) -> None:
    """From wherever a plan leads, the steps between lead back: what a failed realize relies on."""
    before, beyond = any_state(random), any_state(random)
    assert after(before, steps_between(before, beyond)) == beyond
    assert after(beyond, steps_between(beyond, before)) == before


@given(randoms)
def test_every_step_has_a_command_and_operations_that_json_can_carry(random: Random) -> None:
    """And every change of a row that is there stands behind a look at its mark."""
    desired, actual = any_desired(random), any_state(random)
    steps = planned(desired, actual)
    assert all(step.command.startswith("ovs-vsctl ") for step in steps)
    found = operations(steps)
    assert json.loads(json.dumps(found)) == found
    guards = sum(operation["op"] == "wait" for operation in found)
    assert guards == sum(not type(step).__name__.startswith("Add") for step in steps)


def test_from_nothing_a_network_is_its_bridge_and_its_tunnels() -> None:
    """The commands are those that an operator would type."""
    desired = Desired(bridge("br_gr_7").with_ports([tunnel("gr1")]))
    mark = f"external_ids:viaduct-owner={OURS} external_ids:viaduct-generation=1"
    flags = "stp_enable=false rstp_enable=false mcast_snooping_enable=false"
    made = f"set Bridge br_gr_7 datapath_type=system fail_mode=standalone {flags} {mark}"
    port = f"set Port gr1 protected=true tag=[] trunks=[] vlan_mode=[] {mark}"
    interface = "set Interface gr1 type=gre options={key=7,local_ip=10.0.0.1,remote_ip=10.0.1.1}"
    assert [step.command for step in plan(desired, {})] == [
        f"ovs-vsctl add-br br_gr_7 -- {made} -- set Interface br_gr_7 mtu_request=1458",
        f"ovs-vsctl add-port br_gr_7 gr1 -- {port} -- {interface}",
    ]


def test_a_peer_that_comes_or_goes_is_one_port() -> None:
    """Nothing else is touched, a VM's port on the bridge least of all."""
    tap = Port("vnet0")
    actual = {"br_gr_7": bridge("br_gr_7").with_ports([tunnel("gr1"), tap])}
    two = Desired(bridge("br_gr_7").with_ports([tunnel("gr1"), tunnel("gr2")]))
    assert plan(two, actual) == (AddPort("br_gr_7", tunnel("gr2")),)
    none = Desired(bridge("br_gr_7"))
    assert plan(none, actual) == (DelPort("br_gr_7", tunnel("gr1")),)


def test_a_tunnel_that_somebody_made_a_bond_is_made_anew() -> None:
    """A second interface cannot be set away."""
    odd = replace(tunnel("gr1"), kind=BOND, options=())
    desired = Desired(bridge("br_gr_7").with_ports([tunnel("gr1")]))
    steps = plan(desired, {"br_gr_7": bridge("br_gr_7").with_ports([odd])})
    assert steps == (DelPort("br_gr_7", odd), AddPort("br_gr_7", tunnel("gr1")))


def test_a_bridge_of_ours_of_another_name_goes_but_not_with_a_vm_on_it() -> None:
    """The wanted one is made in the same transaction."""
    desired = Desired(bridge("br_gr_7"))
    assert [type(step).__name__ for step in plan(desired, {"old": bridge("old")})] == ["DelBridge", "AddBridge"]
    with pytest.raises(InUse) as caught:
        plan(desired, {"old": bridge("old").with_ports([Port("vnet0")])})
    assert caught.value.details["ports"] == ["vnet0"]


def test_a_deletion_fails_if_a_port_came_since_the_look() -> None:
    """The guard compares the ports with those that we saw, the local one among them."""
    seen = replace(bridge("br_gr_7"), row="b", local_row="l").with_ports([replace(tunnel("gr1"), row="p")])
    guard = operations([DelBridge(seen)])[0]
    assert guard["rows"] == [{"name": "br_gr_7", "ports": ["set", [["uuid", "l"], ["uuid", "p"]]]}]


@pytest.mark.parametrize("owner", [OURS, OTHER, None])
@pytest.mark.parametrize("generation", [0, 7, None])
def test_a_mark_is_read_as_it_was_written(owner: UUID | None, generation: int | None) -> None:
    """Without an owner there is no mark."""
    expected = (None, None) if owner is None else (owner, generation)
    assert parse_mark({"theirs": "x", **format_mark(owner, generation)}) == expected


@pytest.mark.parametrize("text", ["", "ours", str(OURS).upper().replace("1", "A"), "{" + str(OURS) + "}", OURS.hex])
def test_what_only_looks_like_a_mark_is_none(text: str) -> None:
    """Hands off what we did not write."""
    assert parse_mark({"viaduct-owner": text}) == (None, None)


def test_a_port_that_a_killed_vm_left_behind_holds_nobody_up() -> None:
    """Its row stays in the database, its device is gone; one whose device is there is in use."""
    dead = Port("vnic1", error="could not open network device vnic1 (No such device)")
    assert plan_release(OURS, {"br_gr_7": bridge("br_gr_7").with_ports([dead])})
    with pytest.raises(InUse) as caught:
        plan_release(OURS, {"br_gr_7": bridge("br_gr_7").with_ports([dead, Port("vnic2")])})
    assert caught.value.details["ports"] == ["vnic2"]
