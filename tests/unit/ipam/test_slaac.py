"""Addresses that guests make, against the examples of the standards and against the text of the rule."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viaduct_ipam.model.slaac import slaac_address


@pytest.mark.parametrize(
    ("prefix", "mac", "address"),
    [
        # RFC 2464 §4 and RFC 4291 appendix A: the bit "u" is inverted, so 34 becomes 36.
        ("fe80::/64", "34:56:78:9a:bc:de", "fe80::3656:78ff:fe9a:bcde"),
        ("2001:db8::/64", "52:54:00:12:34:56", "2001:db8::5054:ff:fe12:3456"),
        ("2001:db8:1:2::/64", "00:00:00:00:00:00", "2001:db8:1:2:200:ff:fe00:0"),
        ("2001:db8:1:2::/64", "fe:ff:ff:ff:ff:ff", "2001:db8:1:2:fcff:ffff:feff:ffff"),
        ("2001:db8::/64", "02:00:00:00:00:01", "2001:db8::ff:fe00:1"),
    ],
)
def test_address_is_prefix_and_modified_eui_64(prefix: str, mac: str, address: str) -> None:
    """As the standards, and the Linux kernel's addrconf_ifid_eui48, make it."""
    assert str(slaac_address(ipaddress.IPv6Network(prefix), mac)) == address


@given(st.integers(0, 2**64 - 1), st.binary(min_size=6, max_size=6))
def test_address_spells_out_its_mac(prefix: int, octets: bytes) -> None:
    """Octet by octet: the vendor's three with the second lowest bit of the first inverted, ff, fe, the other three."""
    network = ipaddress.IPv6Network((prefix << 64, 64))

    made = slaac_address(network, ":".join(f"{octet:02x}" for octet in octets)).packed

    assert made[:8] == network.network_address.packed[:8]
    assert made[8:] == bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]


@given(st.sets(st.binary(min_size=6, max_size=6), min_size=2, max_size=20))
def test_no_two_macs_make_one_address(macs: set[bytes]) -> None:
    """Within one subnet."""
    network = ipaddress.IPv6Network("2001:db8::/64")

    assert len({slaac_address(network, mac.hex(":")) for mac in macs}) == len(macs)


def test_another_prefix_length_is_a_mistake_of_the_caller() -> None:
    """Ranges see to it that it is a /64."""
    with pytest.raises(ValueError, match="/64"):
        slaac_address(ipaddress.IPv6Network("2001:db8::/63"), "52:54:00:12:34:56")
