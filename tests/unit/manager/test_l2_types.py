"""The L2 types: conflict keys, names, and their registry."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viaduct_common.errors import InvalidRequest, UnsupportedType
from viaduct_common.plugins import PluginError
from viaduct_manager.l2_types.novlan import L2NoVlanType
from viaduct_manager.l2_types.registry import L2Types
from viaduct_manager.l2_types.vlan import L2VlanType

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
    for l2_type, fields in ((L2NoVlanType(), {}), (L2VlanType(), {"vlan": 7})):
        assert l2_type.bridge_name("eth1", fields) in l2_type.device_names("eth1", fields)


def test_two_types_of_one_name_stop_the_start() -> None:
    """A third party cannot take over a built-in by accident."""
    with pytest.raises(PluginError, match="L2VlanNetwork"):
        L2Types((L2VlanType(), L2NoVlanType(), L2VlanType()))


def test_type_parses_its_own_fields() -> None:
    """Right, wrong, unknown, missing, and a type that nobody provides."""
    types = L2Types((L2VlanType(), L2NoVlanType()))

    assert types.parse_fields("L2VlanNetwork", {"vlan": 7}) == {"vlan": 7}
    for name, fields, culprit in (
        ("L2VlanNetwork", {"vlan": "7"}, "vlan"),
        ("L2VlanNetwork", {}, "vlan"),
        ("L2VlanNetwork", {"vlan": 7, "vni": 1}, "vni"),
        ("L2NoVlanNetwork", {"vlan": 7}, "vlan"),
    ):
        with pytest.raises(InvalidRequest) as refusal:
            types.parse_fields(name, fields)
        assert refusal.value.details["field"] == culprit
    with pytest.raises(UnsupportedType):
        types.parse_fields("L2TokenRing", {})
