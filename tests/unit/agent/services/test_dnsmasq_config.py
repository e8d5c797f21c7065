"""dnsmasq's files: who is served with what."""

from ipaddress import ip_address, ip_interface
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from viaduct_agent.services.dnsmasq.config import (
    CONF,
    HOSTS,
    NAMES,
    OPTIONS,
    SERVERS,
    Served,
    files,
    stale_addresses,
    without_leases,
)  # fmt: skip
from viaduct_common.messages.services.specs import DhcpSpec, DnsSpec, ServedNic

OWN = (ip_interface("10.0.0.1/24"), ip_interface("fd00::1/64"))


@st.composite
def any_nic(draw: st.DrawFn) -> ServedNic:
    number = draw(st.integers(0, 2**16 - 1))
    return ServedNic(
        nic_uuid=draw(st.uuids()),
        mac=f"fa:00:00:00:{number >> 8:02x}:{number & 255:02x}",
        host_name=draw(st.none() | st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True)),
        ips=[ip_address(f"10.0.0.{n}") for n in draw(st.lists(st.integers(2, 250), max_size=2))],
        default=draw(st.booleans()),
    )


networks = st.lists(any_nic(), max_size=6, unique_by=(lambda nic: nic.mac, lambda nic: str(nic.ips[:1] or nic.mac)))


def served(nics: list[ServedNic], dhcp: dict[str, Any] | None = None, dns: dict[str, Any] | None = None) -> Served:
    return Served(
        UUID(int=3), "inside", OWN, tuple(nics),
        None if dhcp is None else DhcpSpec.model_validate({"mtu": 1450, **dhcp}),
        None if dns is None else DnsSpec.model_validate(dns),
    )  # fmt: skip


@given(nics=networks)
def test_hosts_are_the_nics_and_nobody_else(nics: list[ServedNic]) -> None:
    """One line for each that has an address here; a second NIC of a VM has the tag."""
    lines = files(served(nics, {}), "/d")[HOSTS].splitlines()
    expected = {nic.mac: nic for nic in nics if nic.ips}
    assert {line.split(",")[0] for line in lines} == set(expected)
    for line in lines:
        nic = expected[line.split(",")[0]]
        assert str(nic.ips[0]) in line.split(",")
        assert ("set:second" in line.split(",")) == (not nic.default)


@given(before=networks, after=networks)
def test_stale_leases_are_those_of_addresses_that_changed_hands(
    before: list[ServedNic], after: list[ServedNic]
) -> None:
    """An address that a NIC keeps is never stale, one whose NIC is gone always."""
    old, new = (files(served(nics, {}), "/d")[HOSTS] for nics in (before, after))
    assert stale_addresses(old, old) == frozenset()
    assert stale_addresses("", new) == frozenset()
    owners = {(nic.mac, str(nic.ips[0])) for nic in after if nic.ips}
    stale = stale_addresses(old, new)
    for nic in before:
        if nic.ips and (nic.mac, str(nic.ips[0])) not in owners:
            assert str(nic.ips[0]) in stale


def test_stale_leases_alone_are_forgotten() -> None:
    """Of either version; the server's identifier stays."""
    leases = (
        "1700 fa:00:00:00:00:01 10.0.0.5 web *\n1700 fa:00:00:00:00:02 10.0.0.55 * *\n"
        "duid 00:01\n1700 123 fd00::5 web 00:01\n"
    )
    kept = "1700 fa:00:00:00:00:02 10.0.0.55 * *\nduid 00:01\n"
    assert without_leases(leases, frozenset({"10.0.0.5", "fd00::5"})) == kept
    assert without_leases(leases, frozenset()) == leases


def test_routes_hold_the_default_route_for_those_nics_that_get_routers() -> None:
    """RFC 3442: who takes option 121 ignores option 3."""
    dhcp = {"routers": ["10.0.0.1"], "routes": [{"prefix": "192.0.2.0/24", "next_hop": "10.0.0.9"}]}
    lines = files(served([], dhcp), "/d")[OPTIONS].splitlines()
    for option in (121, 249):
        assert f"tag:!second,{option},192.0.2.0/24,10.0.0.9,0.0.0.0/0,10.0.0.1" in lines
        assert f"tag:second,{option},192.0.2.0/24,10.0.0.9" in lines
    assert "tag:!second,option:router,10.0.0.1" in lines
    assert "tag:second,option:router" in lines
    assert "option:mtu,1450" in lines
    assert not [line for line in files(served([], {}), "/d")[OPTIONS].splitlines() if "121" in line]


def test_router_advertises_itself_only_if_it_is_one() -> None:
    """Another's address among the routers is another's to advertise; the last resort says that it is one."""
    for routers, resort, lifetime in (
        (["fd00::1"], False, "200,1800"), (["fd00::2"], False, "200,0"), (["fd00::2"], True, "low,200,1800"),
    ):  # fmt: skip
        one = served([], {"routers": routers})
        conf = files(Served(one.l3_network, one.device, OWN, (), one.dhcp, None, resort), "/d")[CONF]
        assert f"ra-param=inside,mtu:1450,{lifetime}\n" in conf


def test_names_and_forwarders_are_in_files_that_are_read_anew() -> None:
    """Records forward and reverse, forwarders in order; without the service no port is open."""
    dns = {
        "domain": "x.example",
        "forwarders": ["9.9.9.9", "1.1.1.1"],
        "records": [{"host_name": "web", "ips": ["10.0.0.5", "fd00::5"]}],
    }
    found = files(served([], None, dns), "/d")
    assert found[NAMES] == "10.0.0.5 web.x.example web\nfd00::5 web.x.example web\n"
    assert found[SERVERS] == "server=9.9.9.9\nserver=1.1.1.1\n"
    assert "port=0" not in found[CONF]
    assert "dhcp-range" not in found[CONF]
    assert "port=0\n" in files(served([], {}), "/d")[CONF]
