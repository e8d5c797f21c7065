"""Derived names: short enough, stable, and rarely equal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viaduct_common.naming import MAX_NAME, bridge_name, vlan_device_name

interfaces = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="/:%"), min_size=1, max_size=15
)
vlans = st.integers(1, 4094)


@given(interface=interfaces, vlan=vlans)
def test_every_name_fits_the_kernel(interface: str, vlan: int) -> None:
    """IFNAMSIZ - 1 characters at most, whatever the interface."""
    for name in (bridge_name(interface), bridge_name(interface, vlan), vlan_device_name(interface, vlan)):
        assert 1 <= len(name) <= MAX_NAME


@given(interface=interfaces, vlan=vlans)
def test_name_is_readable_when_it_fits(interface: str, vlan: int) -> None:
    """The documented form, unless it is too long."""
    for name, readable in (
        (bridge_name(interface), f"br_{interface}"),
        (bridge_name(interface, vlan), f"br_{interface}_{vlan}"),
        (vlan_device_name(interface, vlan), f"{interface}.{vlan}"),
    ):
        assert name == readable or len(readable) > MAX_NAME


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (bridge_name("enp175s0f0np0"), "br_11cc4277cd7e"),
        (bridge_name("enp175s0f0np0", 4000), "br_5d8712004155"),
        (vlan_device_name("enp175s0f0np0", 4000), "vl_5d8712004155"),
        (bridge_name("eth1", 10), "br_eth1_10"),
    ],
)
def test_name_is_the_same_for_ever(name: str, expected: str) -> None:
    """Hosts carry these names: a release that derived others would strand them."""
    assert name == expected


def test_long_names_of_many_networks_do_not_collide() -> None:
    """Every VLAN on eight interfaces with names of full length."""
    names = {bridge_name(f"interface-num-{n}", vlan) for n in range(8) for vlan in range(1, 4095)}

    assert len(names) == 8 * 4094


def test_interface_and_vlan_are_told_apart_in_the_hash() -> None:
    """`x_1` with 2 is not `x` with `1_2`, once hashed."""
    assert bridge_name("interface-num_1", 2) != bridge_name("interface-num", 12)
