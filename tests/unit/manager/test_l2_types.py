"""The L2 types: conflict keys, names, and their registry."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viaduct_common import naming
from viaduct_common.errors import InvalidRequest, UnsupportedType
from viaduct_common.messages.l2 import L2NetworkInventory
from viaduct_common.plugins import PluginError
from viaduct_manager.l2_types.api import L2Type, VmPort
from viaduct_manager.l2_types.novlan import L2NoVlanType
from viaduct_manager.l2_types.ovsgre import OvsGreType
from viaduct_manager.l2_types.registry import L2Types
from viaduct_manager.l2_types.vlan import L2VlanType
from viaduct_manager.l2_types.vxlan import L2VxlanType

EXAMPLES: tuple[tuple[L2Type, dict[str, Any]], ...] = (
    (L2NoVlanType(), {}),
    (L2VlanType(), {"vlan": 7}),
    (L2VxlanType(), {"vni": 7, "vniRange": None, "udpPort": 4789}),
    (OvsGreType(), {"key": 7}),
)
vnis = st.integers(1, 12)
vxlans = st.builds(
    lambda one, two, fixed, port: {
        "vni": one if fixed else None,
        "vniRange": None if fixed else {"startVni": min(one, two), "endVni": max(one, two)},
        "udpPort": port,
    },
    vnis,
    vnis,
    st.booleans(),
    st.sampled_from([4789, 8472]),
)


def meant(fields: dict[str, Any]) -> set[int]:
    """The VNIs, as the request names them."""
    if fields["vni"] is not None:
        return {fields["vni"]}
    return set(range(fields["vniRange"]["startVni"], fields["vniRange"]["endVni"] + 1))


places = st.tuples(st.sampled_from(["eth0", "eth1", "eth0_1"]), st.none() | st.integers(1, 30))


def key(place: tuple[str, int | None]) -> str:
    interface, vlan = place
    if vlan is None:
        return L2NoVlanType().conflict_key(interface, {})
    return L2VlanType().conflict_key(interface, {"vlan": vlan})


@given(one=places, two=places)
def test_two_networks_conflict_only_in_one_place(one: tuple[str, int | None], two: tuple[str, int | None]) -> None:
    """Interface and tag, nothing else."""
    assert (key(one) == key(two)) == (one == two)


def test_bridge_is_one_of_the_devices() -> None:
    """What is checked for collisions includes what VMs are plugged into."""
    for l2_type, fields in (*EXAMPLES, (OvsGreType(), {"key": 2**32 - 1}), (L2VxlanType(), {"vni": 2**24 - 1})):
        names = l2_type.device_names("eth1", fields)
        assert l2_type.bridge_name("eth1", fields) in names
        assert all(len(name) <= naming.MAX_NAME for name in names)


@given(one=vxlans, two=vxlans)
def test_vxlans_overlap_exactly_where_they_share_a_vni(one: dict[str, Any], two: dict[str, Any]) -> None:
    """Fixed or a range, on whatever port; equal ones have equal keys, too."""
    spans = [L2VxlanType().spans(fields) for fields in (one, two)]
    vnis = [{vni for span in taken for vni in range(span.first, span.last + 1)} for taken in spans]
    keys = [L2VxlanType().conflict_key("eth1", fields) for fields in (one, two)]

    assert vnis == [meant(one), meant(two)]
    assert {span.space for taken in spans for span in taken} == {"vni"}
    assert (keys[0] == keys[1]) <= bool(meant(one) & meant(two))


def test_mtu_is_an_underlay_of_1500_less_the_overhead() -> None:
    """RFC 7348 §5; RFC 2784 and 2890: outer IPv4 20, then UDP 8 and VXLAN 8, or GRE with key 8, then Ethernet 14."""
    mtus = {l2_type.l2_type: l2_type.default_mtu(fields) for l2_type, fields in EXAMPLES}

    assert mtus == {
        "L2NoVlanNetwork": 1500,
        "L2VlanNetwork": 1500,
        "L2VxlanNetwork": 1500 - 20 - 8 - 8 - 14,
        "OvsGreL2Network": 1500 - 20 - 8 - 14,
    }


def test_range_of_vnis_is_realised_at_vm_time_and_names_no_device() -> None:
    """What an account has of it does."""
    fields = {"vni": None, "vniRange": {"startVni": 5, "endVni": 7}, "udpPort": 4789}

    assert L2VxlanType().at_vm_time(fields)
    assert L2VxlanType().bridge_name("eth1", fields) == ""
    assert L2VxlanType().device_names("eth1", fields) == []
    assert not any(l2_type.at_vm_time(own) for l2_type, own in EXAMPLES)


@pytest.mark.parametrize(
    ("l2_type", "own_fields", "backend", "port"),
    [
        (L2NoVlanType(), {}, "bridge", VmPort("br_recorded")),
        (L2VlanType(), {"vlan": 7}, "bridge", VmPort("br_recorded")),
        (L2VlanType(), {"vlan": 7}, "vlanAwareBridge", VmPort("brv_eth1", vlan=7)),
        (L2VxlanType(), {"vni": 7}, "bridge", VmPort("br_recorded")),
        (OvsGreType(), {"key": 7}, "openvswitch", VmPort("br_recorded", virtual_port="openvswitch")),
        (OvsGreType(), {"key": 7}, "gretap", VmPort("br_recorded")),
    ],
)
def test_vm_is_plugged_in_where_the_backend_builds(
    l2_type: L2Type, own_fields: dict[str, Any], backend: str, port: VmPort
) -> None:
    """By the recorded name of the bridge, for a name never changes."""
    network = L2NetworkInventory.model_validate(
        {
            "uuid": uuid4(),
            "name": "net",
            "zone_uuid": uuid4(),
            "physical_interface": "eth1",
            "type": l2_type.l2_type,
            "mtu": 1500,
            "bridge_name": "br_recorded",
            "created_at": datetime.now(UTC),
            "updated_at": datetime.now(UTC),
            **own_fields,
        }
    )

    assert backend in l2_type.backends
    assert l2_type.vm_port(network, backend) == port


def test_backends_change_only_where_another_would_build() -> None:
    """To name the usual one is no change, nor is what a plugin that is gone had."""
    types = L2Types((L2VlanType(), OvsGreType()))
    usual, other = {"L2VlanNetwork": "bridge"}, {"L2VlanNetwork": "vlanAwareBridge"}

    assert types.changed_backends({}, usual) == types.changed_backends(usual, {}) == []
    assert types.changed_backends(usual, other) == types.changed_backends(other, {}) == ["L2VlanNetwork"]
    assert types.changed_backends({"Gone": "x"}, {"Gone": "x"} | other) == ["L2VlanNetwork"]
    assert types.backend_of("L2VlanNetwork", {}) == "bridge"
    assert types.backend_of("L2VlanNetwork", other) == "vlanAwareBridge"


def test_two_types_of_one_name_stop_the_start() -> None:
    """A third party cannot take over a built-in by accident."""
    with pytest.raises(PluginError, match="L2VlanNetwork"):
        L2Types((L2VlanType(), L2NoVlanType(), L2VlanType()))


def test_type_parses_its_own_fields() -> None:
    """Right, wrong, unknown, missing, and a type that nobody provides."""
    types = L2Types((L2VlanType(), L2NoVlanType(), L2VxlanType(), OvsGreType()))

    assert types.parse_fields("L2VlanNetwork", {"vlan": 7}) == {"vlan": 7}
    assert types.parse_fields("OvsGreL2Network", {"key": 0}) == {"key": 0}
    assert types.parse_fields("L2VxlanNetwork", {"vni": 7}) == {"vni": 7, "vniRange": None, "udpPort": 4789}
    for both_or_none in ({}, {"vni": 7, "vniRange": {"startVni": 1, "endVni": 2}}):
        with pytest.raises(InvalidRequest, match="either vni or vniRange"):
            types.parse_fields("L2VxlanNetwork", both_or_none)
    for name, fields, culprit in (
        ("L2VlanNetwork", {"vlan": "7"}, "vlan"),
        ("L2VlanNetwork", {}, "vlan"),
        ("L2VlanNetwork", {"vlan": 7, "vni": 1}, "vni"),
        ("L2NoVlanNetwork", {"vlan": 7}, "vlan"),
        ("L2VxlanNetwork", {"vni": 0}, "vni"),
        ("L2VxlanNetwork", {"vni": 1, "key": 1}, "key"),
        ("L2VxlanNetwork", {"vniRange": {"startVni": 1}}, "vniRange.endVni"),
        ("OvsGreL2Network", {"key": 2**32}, "key"),
    ):
        with pytest.raises(InvalidRequest) as refusal:
            types.parse_fields(name, fields)
        assert refusal.value.details["field"] == culprit
    with pytest.raises(UnsupportedType):
        types.parse_fields("L2TokenRing", {})
