"""Decisions about VMs' networks: moves, matching, migrations, MACs, libvirt's XML."""

from dataclasses import replace
from ipaddress import ip_address
from itertools import product
from typing import Any
from uuid import UUID, uuid4
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viaduct_common.errors import Conflict, InvalidRequest, PreconditionFailed
from viaduct_common.messages.vm import NicRequest
from viaduct_common.plugins import PluginError
from viaduct_common.postgres.pool import Connection
from viaduct_manager.model.libvirt import interface_element
from viaduct_manager.model.macs import derived_mac
from viaduct_manager.model.migration import Migration, decide_migration
from viaduct_manager.model.nic_matching import HeldNic, free_indexes, match, required_ips
from viaduct_manager.model.vm_moves import VmMove, VmStanding, next_move
from viaduct_manager.nic_ipam import requests_for
from viaduct_manager.store.nic_addresses import Claimed
from viaduct_manager.vm_hooks.account_networks import AccountNetworks
from viaduct_manager.vm_hooks.api import PlannedNic, VmPlan, VmRelease
from viaduct_manager.vm_hooks.registry import VmHooks

PHASES = {
    "vm.prepareNetworks": ("realize", "allocate", "services", "rollback"),
    "vm.migrateNetworks": ("realize", "services", "rollback"),
    "vm.releaseNetworks": ("release",),
}
PLACES = [(kind, phase) for kind, phases in PHASES.items() for phase in phases]
standings = st.builds(
    lambda place, **facts: VmStanding(*place, **facts),
    st.sampled_from(PLACES),
    overdue=st.booleans(),
    to_realize=st.integers(0, 2),
    failed=st.booleans(),
    at_ipam=st.integers(0, 2),
    to_serve=st.booleans(),
)


@given(at=standings)
def test_operation_whose_time_is_up_waits_for_nobody(at: VmStanding) -> None:
    """Whatever it waits for may never come."""
    if at.overdue:
        assert next_move(at) is not VmMove.WAIT


@given(at=standings)
def test_operation_succeeds_only_when_nothing_is_left_to_do(at: VmStanding) -> None:
    """Nor when something has failed, nor while it is being undone."""
    if next_move(at) is VmMove.SUCCEED:
        assert at.phase != "rollback"
        assert not {"services": at.to_serve or at.failed, "release": at.at_ipam}[at.phase]


@given(at=standings)
def test_services_are_asked_for_once_the_nics_are_complete(at: VmStanding) -> None:
    """With addresses, or on a destination that has their networks."""
    if next_move(at) is VmMove.SERVE:
        assert at.phase == {"vm.prepareNetworks": "allocate", "vm.migrateNetworks": "realize"}[at.type]
        assert not at.failed
        assert not (at.at_ipam if at.phase == "allocate" else at.to_realize)


@given(at=standings)
def test_whatever_failed_is_undone_before_it_is_told(at: VmStanding) -> None:
    """A release alone has nothing to undo."""
    if next_move(at) is VmMove.FAIL:
        assert at.phase == "rollback" or at.type == "vm.releaseNetworks"


def test_unknown_phase_is_no_silent_wait() -> None:
    """It is a bug, and says so."""
    with pytest.raises(ValueError, match="no move"):
        next_move(VmStanding("vm.migrateNetworks", "allocate"))


# ---- matching ------------------------------------------------------------------------------------------------------

L3S = [UUID(int=1), UUID(int=2)]
IPS = [ip_address(f"10.0.0.{i}") for i in range(3)]
MACS = [derived_mac(UUID(int=i), 0) for i in range(3)]
requests = st.builds(
    lambda l3, mac, ip: NicRequest(l3_network_uuid=l3, mac=mac, ip=ip),
    st.sampled_from(L3S),
    st.none() | st.sampled_from(MACS),
    st.none() | st.sampled_from(IPS),
)
held_nics = st.lists(
    st.tuples(st.sampled_from(L3S), st.sampled_from(MACS), st.sampled_from(IPS)),
    max_size=4,
    unique_by=(lambda one: one[1], lambda one: one[2]),
).map(lambda all_: [HeldNic(UUID(int=10 + i), l3, i, mac, frozenset({ip})) for i, (l3, mac, ip) in enumerate(all_)])


def matched(wanted: list[NicRequest], held: list[HeldNic]) -> list[UUID | None]:
    return match([(one, required_ips(one, "nics.0")) for one in wanted], held)


@given(wanted=st.lists(requests, max_size=4), held=held_nics)
def test_a_nic_is_matched_once_and_only_with_what_was_asked_for(wanted: list[NicRequest], held: list[HeldNic]) -> None:
    """Never one of another network, MAC or address."""
    found = matched(wanted, held)

    taken = [uuid for uuid in found if uuid is not None]
    assert len(set(taken)) == len(taken)
    by_uuid = {nic.uuid: nic for nic in held}
    for request, uuid in zip(wanted, found, strict=True):
        if uuid is not None:
            nic = by_uuid[uuid]
            assert nic.l3_uuid == request.l3_network_uuid
            assert request.mac in {None, nic.mac}
            assert request.ip is None or request.ip in nic.ips


@given(held=held_nics, data=st.data())
def test_what_a_vm_has_is_found_again_whatever_was_said_of_it(held: list[HeldNic], data: st.DataObject) -> None:
    """Each NIC asked for by its network, and some by MAC or address as well, in any order."""
    order = data.draw(st.permutations(held))
    wanted = [
        NicRequest(
            l3_network_uuid=nic.l3_uuid,
            mac=nic.mac if data.draw(st.booleans()) else None,
            ip=next(iter(nic.ips)) if data.draw(st.booleans()) else None,
        )
        for nic in order
    ]
    assert set(matched(wanted, held)) == {nic.uuid for nic in held}


def test_two_of_one_version_are_refused() -> None:
    """And so are `ip` beside `ips`."""
    for fields in ({"ips": ["10.0.0.1", "10.0.0.2"]}, {"ip": "10.0.0.1", "ips": ["10.0.0.1"]}):
        request = NicRequest.model_validate({"l3_network_uuid": L3S[0], **fields})
        with pytest.raises(InvalidRequest) as refusal:
            required_ips(request, "nics.3")
        assert refusal.value.details["field"] == "nics.3.ips"
    both = NicRequest.model_validate({"l3_network_uuid": L3S[0], "ips": ["10.0.0.1", "fd00::1"]})
    assert [ip.version for ip in required_ips(both, "nics.0")] == [4, 6]


@given(taken=st.sets(st.integers(0, 8)), count=st.integers(0, 5))
def test_places_in_a_vm_are_the_lowest_free_ones(taken: set[int], count: int) -> None:
    """A place that was given back is taken again."""
    free = free_indexes(taken, count)
    assert len(free) == count
    assert not taken & set(free)
    assert all(index in taken or index in free for index in range(max(free, default=0)))


# ---- migration -----------------------------------------------------------------------------------------------------

HERE, THERE, ELSEWHERE = UUID(int=1), UUID(int=2), UUID(int=3)


@pytest.mark.parametrize(
    ("action", "moving_to", "destination", "outcome"),
    [
        (None, None, THERE, Migration.MOVE),
        (None, None, HERE, Migration.ANSWER),
        (None, THERE, THERE, Migration.MOVE),
        ("begin", None, THERE, Migration.BEGIN),
        ("begin", THERE, THERE, Migration.ANSWER),
        ("begin", None, HERE, Conflict),
        ("finish", THERE, THERE, Migration.FINISH),
        ("finish", None, HERE, Migration.ANSWER),
        ("finish", None, THERE, Conflict),
        ("abort", THERE, THERE, Migration.ABORT),
        ("abort", None, THERE, Migration.ANSWER),
        *[(action, ELSEWHERE, THERE, Conflict) for action in (None, "begin", "finish", "abort")],
        *[(action, THERE, HERE, Conflict) for action in (None, "begin", "finish", "abort")],
    ],
)
def test_meaning_of_a_migration(
    action: str | None, moving_to: UUID | None, destination: UUID, outcome: Migration | type[Conflict]
) -> None:
    """What was done already is answered; what contradicts it is refused."""
    if isinstance(outcome, Migration):
        assert decide_migration(action, at=HERE, moving_to=moving_to, destination=destination) is outcome
    else:
        with pytest.raises(outcome):
            decide_migration(action, at=HERE, moving_to=moving_to, destination=destination)


# ---- what a NIC is given -------------------------------------------------------------------------------------------


@given(nic=st.uuids(), attempt=st.integers(0, 100))
def test_macs_are_locally_administered_and_of_one_interface(nic: UUID, attempt: int) -> None:
    """IEEE 802-2014, §8.2; the same NIC's are the same for ever, and each attempt another."""
    mac = derived_mac(nic, attempt)
    assert int(mac[:2], 16) & 0b11 == 0b10
    assert mac == derived_mac(nic, attempt) != derived_mac(nic, attempt + 1)
    assert NicRequest(l3_network_uuid=nic, mac=mac).mac == mac


names = st.text(alphabet=st.characters(codec="ascii", min_codepoint=33, max_codepoint=126), min_size=1, max_size=15)


@given(bridge=names, vlan=st.none() | st.integers(1, 4094), port=st.sampled_from([None, "openvswitch"]))
def test_libvirt_reads_what_was_written(bridge: str, vlan: int | None, port: str | None) -> None:
    """Whatever stands in a name, quotes and angle brackets included."""
    written = interface_element(mac=MACS[0], bridge=bridge, device="vnic0", mtu=1450, vlan=vlan, virtual_port=port)
    xml = ElementTree.fromstring(written)
    found = {element.tag: dict(element.attrib) for element in xml.iter()}

    assert found["source"] == {"bridge": bridge}
    assert found.get("tag") == (None if vlan is None else {"id": str(vlan)})
    assert found.get("virtualport") == (None if port is None else {"type": port})
    assert found["interface"] == {"type": "bridge"}


@given(parent=names, mode=st.sampled_from(["bridge", "vepa", "private"]))
def test_libvirt_makes_a_macvtap_device_where_there_is_no_bridge(parent: str, mode: str) -> None:
    """And is not given an MTU, which it would refuse."""
    written = interface_element(mac=MACS[0], bridge="", device="vnic0", mtu=1450, parent=parent, mode=mode)
    found = {element.tag: dict(element.attrib) for element in ElementTree.fromstring(written).iter()}

    assert (found["interface"], found["source"]) == ({"type": "direct"}, {"dev": parent, "mode": mode})
    assert "mtu" not in found


def claimed(**fields: object) -> Claimed:
    usual = {"l3_uuid": L3S[0], "l2_uuid": L3S[1], "mac": MACS[0], "todo": "allocate", "addresses": "asked"}
    return Claimed(**{"uuid": UUID(int=9), "required_ips": (), "allocations": (), **usual, **fields})  # type: ignore[arg-type]


def test_requests_to_ipam_are_the_same_when_they_are_repeated() -> None:
    """By message id, also when the network has other ranges by then; those of different NICs never are."""
    nic, other = claimed(), claimed(uuid=UUID(int=8))
    [(dual, first)] = requests_for(nic, [4, 6])
    [(_, again)] = requests_for(nic, [4])
    [(_, another)] = requests_for(other, [4, 6])

    assert (dual.ip_versions, dual.owner, dual.mac) == ([4, 6], str(nic.uuid), nic.mac)
    assert first == again != another
    assert requests_for(nic, []) == []
    required = requests_for(claimed(required_ips=(IPS[0], ip_address("fd00::1"))), [])
    assert [str(request.required_ip) for request, _ in required] == ["10.0.0.0", "fd00::1"]
    assert len({message_id for _, message_id in required} | {first}) == 3


def test_two_hooks_of_one_name_stop_the_start() -> None:
    """And the built-in one is registered as any other."""
    with pytest.raises(PluginError, match="account-networks"):
        VmHooks((AccountNetworks(), AccountNetworks()))
    assert {"account-networks", "public-addresses"} <= set(VmHooks.from_entry_points().names)


class Recorder:
    """A hook that notes when it is called, changes each NIC's MAC, and objects if it is told to."""

    def __init__(self, name: str, calls: list[str], *, objects: bool = False) -> None:
        self.name = name
        self.calls = calls
        self.objects = objects

    async def pre_before_instantiate(self, plan: VmPlan, connection: Connection) -> None:
        self.calls.append(f"{self.name} before")
        if self.objects:
            raise PreconditionFailed("not this VM")

    async def pre_instantiate(self, plan: VmPlan, connection: Connection) -> VmPlan:
        self.calls.append(f"{self.name} plan")
        return replace(plan, nics=tuple(replace(nic, mac=f"{nic.mac or ''}{self.name}") for nic in plan.nics))

    async def pre_release(self, release: VmRelease, connection: Connection) -> None:
        self.calls.append(f"{self.name} release")


NOBODY: Any = None  # these hooks look at neither host nor database
PLAN = VmPlan("prepare", UUID(int=1), UUID(int=2), NOBODY, (PlannedNic(UUID(int=3), "nics.0", L3S[0], L3S[1]),), {})


async def test_everybody_is_heard_before_anybody_plans() -> None:
    """In the order of their names; each plans on what the one before has left."""
    calls: list[str] = []
    hooks = VmHooks((Recorder("b", calls), Recorder("a", calls)))
    planned = await hooks.plan(PLAN, NOBODY)
    await hooks.before_release(VmRelease("release", PLAN.vm_uuid, UUID(int=4), ()), NOBODY)

    assert calls == ["a before", "b before", "a plan", "b plan", "a release", "b release"]
    assert [nic.mac for nic in planned.nics] == ["ab"]


async def test_one_objection_is_enough() -> None:
    """And nobody has planned by then."""
    calls: list[str] = []
    hooks = VmHooks((Recorder("a", calls), Recorder("b", calls, objects=True), Recorder("c", calls)))
    with pytest.raises(PreconditionFailed, match="not this VM"):
        await hooks.plan(PLAN, NOBODY)
    assert calls == ["a before", "b before"]


def test_every_phase_has_its_moves() -> None:
    """No standing that can be is forgotten."""
    for place, overdue, to_realize, failed, at_ipam in product(PLACES, (False, True), (0, 1), (False, True), (0, 1)):
        at = VmStanding(*place, overdue=overdue, to_realize=to_realize, failed=failed, at_ipam=at_ipam)
        assert next_move(at) in VmMove


def test_uuids_of_strangers_are_not_matched() -> None:
    """A VM without NICs has none of what is asked for."""
    assert matched([NicRequest(l3_network_uuid=uuid4())], []) == [None]
