"""The rules of ranges, against a model that looks at every address."""

import ipaddress
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from viaduct_common.errors import InvalidRequest
from viaduct_common.messages.ipam import CreateRange
from viaduct_ipam.model.ranges import FORBIDDEN, Bounds, bounds_of

L3 = uuid4()


def request(**fields: Any) -> CreateRange:
    return CreateRange.model_validate({"l3_network_uuid": L3, **fields})


def culprit(**fields: Any) -> str:
    """The field that a request is refused for."""
    with pytest.raises(InvalidRequest) as refused:
        bounds_of(request(**fields))
    return str(refused.value.details["field"])


def assignable(bounds: tuple[Bounds, ...]) -> list[str]:
    return [str(one.address(n)) for one in bounds for low, high in one.assignable.parts for n in range(low, high + 1)]


def small_networks() -> st.SearchStrategy[Any]:
    """Subnets of at most 256 addresses, in ordinary space."""
    four = st.builds(
        lambda number, length: ipaddress.ip_network((0x0A000000 + number, length), strict=False),
        st.integers(0, 2**24 - 1),
        st.integers(24, 32),
    )
    six = st.builds(
        lambda number, length: ipaddress.ip_network(((0x20010DB8 << 96) + number, length), strict=False),
        st.integers(0, 2**96 - 1),
        st.integers(120, 128),
    )
    return four | six


def edges(network: Any) -> set[Any]:
    return {network[0], network[-1]} if network.version == 4 and network.prefixlen < 31 else set()


@given(small_networks(), st.data())
def test_bounds_hand_out_all_but_gateway_and_edges(network: Any, data: st.DataObject) -> None:
    """Whatever lies between the bounds is handed out, less network address, broadcast address and gateway."""
    low = data.draw(st.integers(0, network.num_addresses - 1))
    high = data.draw(st.integers(low, network.num_addresses - 1))
    gateway = data.draw(st.none() | st.sampled_from(sorted(set(network) - edges(network)) or [None]))
    wanted = [ip for ip in list(network)[low : high + 1] if ip not in edges(network) and ip != gateway]
    fields = {"start_ip": network[low], "end_ip": network[high], "gateway": gateway, "prefix_length": network.prefixlen}

    if not wanted:
        assert culprit(**fields) == "startIp"
        return
    bounds = bounds_of(request(**fields))

    assert len(bounds) == 1
    assert assignable(bounds) == [str(ip) for ip in wanted]
    assert bounds[0].assignable.size == len(wanted)
    assert bounds[0].network == network


@given(small_networks(), st.data())
def test_cidr_is_split_around_its_gateway(network: Any, data: st.DataObject) -> None:
    """The parts hold every host but the gateway, none is empty, and no part holds the gateway or an edge."""
    hosts = [ip for ip in network if ip not in edges(network)]
    if network.version == 6 and network.prefixlen < 127:
        hosts = hosts[1:]  # the subnet-router anycast address
    gateway = data.draw(st.none() | st.sampled_from(hosts))
    inside = data.draw(st.integers(0, network.num_addresses - 1))
    fields = {"network_cidr": f"{network[inside]}/{network.prefixlen}", "gateway": gateway}
    wanted = [ip for ip in hosts if ip != (gateway or hosts[0])]

    if not wanted:
        assert culprit(**fields) == "networkCidr"
        return
    bounds = bounds_of(request(**fields))

    listed = [str(one.address(n)) for one in bounds for n in range(int(one.first), int(one.last) + 1)]
    assert listed == assignable(bounds) == [str(ip) for ip in wanted]
    assert len(bounds) == (2 if (gateway or hosts[0]) not in {hosts[0], hosts[-1]} else 1)
    assert {(one.network, one.gateway) for one in bounds} == {(network, gateway or hosts[0])}


@given(small_networks())
def test_pool_by_cidr_without_gateway_is_handed_out_whole(network: Any) -> None:
    """An address pool needs no gateway; a /32 pool is one address."""
    skip = 1 if network.version == 6 and network.prefixlen < 127 else 0

    [bounds] = bounds_of(request(network_cidr=str(network), type="addressPool"))

    assert bounds.gateway is None
    assert assignable((bounds,)) == [str(ip) for ip in network if ip not in edges(network)][skip:]


@pytest.mark.parametrize(
    ("cidr", "count"),
    [("10.0.0.0/24", 253), ("10.0.0.0/30", 1), ("10.0.0.0/31", 1), ("2001:db8::/127", 1), ("2001:db8::/126", 2),
     ("2001:db8::/64", 2**64 - 2), ("10.0.0.0/8", 2**24 - 3), ("2400::/12", 2**116 - 2)],
)  # fmt: skip
def test_cidr_takes_its_first_address_for_the_gateway(cidr: str, count: int) -> None:
    """The rest is counted exactly, however large."""
    bounds = bounds_of(request(network_cidr=cidr))

    assert sum(one.assignable.size for one in bounds) == count
    assert bounds[0].gateway == bounds[0].first - 1


BASE: dict[str, Any] = {
    "start_ip": "10.0.0.10",
    "end_ip": "10.0.0.20",
    "prefix_length": 24,
    "gateway": "10.0.0.1",
}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"start_ip": None}, "startIp"),
        ({"end_ip": None}, "endIp"),
        ({"end_ip": "10.0.0.9"}, "endIp"),
        ({"end_ip": "2001:db8::1"}, "endIp"),
        ({"end_ip": "10.0.1.10"}, "endIp"),
        ({"prefix_length": None}, "prefixLength"),
        ({"prefix_length": 0}, "prefixLength"),
        ({"prefix_length": 33}, "prefixLength"),
        ({"prefix_length": 24, "netmask": "255.255.0.0"}, "prefixLength"),
        ({"prefix_length": None, "netmask": "255.0.255.0"}, "netmask"),
        ({"prefix_length": None, "netmask": "0.0.0.0"}, "netmask"),
        ({"prefix_length": None, "netmask": "0.0.0.255"}, "netmask"),
        ({"prefix_length": None, "netmask": "ffff::"}, "netmask"),
        ({"gateway": "10.0.1.1"}, "gateway"),
        ({"gateway": "10.0.0.0"}, "gateway"),
        ({"gateway": "10.0.0.255"}, "gateway"),
        ({"gateway": "2001:db8::1"}, "gateway"),
        ({"start_ip": "10.0.0.1", "end_ip": "10.0.0.1"}, "startIp"),
        ({"start_ip": "10.0.0.0", "end_ip": "10.0.0.1"}, "startIp"),
        ({"start_ip": "127.0.0.1", "end_ip": "127.0.0.9", "gateway": None}, "startIp"),
        ({"start_ip": "169.254.3.1", "end_ip": "169.254.3.9", "gateway": None}, "startIp"),
        ({"start_ip": "224.0.0.1", "end_ip": "224.0.0.9", "gateway": None}, "startIp"),
        ({"start_ip": "255.255.255.1", "end_ip": "255.255.255.9", "gateway": None}, "startIp"),
        ({"start_ip": "0.0.0.0", "end_ip": "0.0.0.9", "gateway": None}, "startIp"),
        ({"start_ip": "64.0.0.1", "end_ip": "127.255.255.254", "prefix_length": 1, "gateway": None}, "endIp"),
        ({"start_ip": "fe80::1", "end_ip": "fe80::9", "prefix_length": 64, "gateway": None}, "startIp"),
        ({"start_ip": "ff02::1", "end_ip": "ff02::9", "prefix_length": 64, "gateway": None}, "startIp"),
        ({"start_ip": "::", "end_ip": "::9", "prefix_length": 64, "gateway": None}, "startIp"),
        ({"network_cidr": "10.0.0.0/24"}, "networkCidr"),
        ({"gateway": "2001:db8::1", "end_ip": "2001:db8::9"}, "endIp"),
        ({"start_ip": "10.0.0.20", "end_ip": "10.0.0.10"}, "endIp"),
        ({"start_ip": "126.0.0.1", "end_ip": "128.0.0.1", "prefix_length": 1, "gateway": None}, "endIp"),
        ({"start_ip": "239.0.0.1", "end_ip": "240.0.0.1", "prefix_length": 3, "gateway": None}, "startIp"),
        ({"start_ip": "223.0.0.1", "end_ip": "224.0.0.0", "prefix_length": 2, "gateway": None}, "endIp"),
        ({"start_ip": "::ffff:a00:1", "end_ip": "::ffff:a00:2", "prefix_length": 112, "gateway": None}, "startIp"),
        ({"start_ip": "::1", "end_ip": "::1", "prefix_length": 128, "gateway": None}, "startIp"),
        ({"address_mode": "stateful"}, "addressMode"),
        ({"address_mode": "slaac"}, "addressMode"),
    ],
)
def test_bad_bounds_name_their_field(change: dict[str, Any], field: str) -> None:
    """Each rule of a range by its ends, broken alone."""
    assert bounds_of(request(**BASE))

    assert culprit(**{**BASE, **change}) == field


@pytest.mark.parametrize(
    "cidr",
    ["10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/255.255.255.0", "10.0.0.0/0.0.0.255", "10.0.0/24", "x/24",
     "0.0.0.0/0", "::/0", "127.0.0.0/8", "0.0.0.0/1", "169.254.0.0/16", "240.0.0.0/8", "192.0.0.0/2", "fe80::/64",
     "fe80::1%eth0/64", "ff00::/8", "::/64", "10.0.0.1/32", "2001:db8::1/128", "10.0.0.0/24/24", "10.0.0.0/٢٤"],
)  # fmt: skip
def test_bad_cidr_is_refused(cidr: str) -> None:
    """No network, one that holds what is never handed out, or one that holds nothing beside its gateway."""
    assert culprit(network_cidr=cidr) == "networkCidr"


@pytest.mark.parametrize("gateway", ["10.0.1.1", "10.0.0.0", "10.0.0.255", "2001:db8::1"])
def test_bad_gateway_of_a_cidr_is_refused(gateway: str) -> None:
    """It is a host address of the subnet."""
    assert culprit(network_cidr="10.0.0.0/24", gateway=gateway) == "gateway"


@given(st.integers(1, 32))
def test_netmask_and_prefix_length_say_the_same(length: int) -> None:
    """Either gives the same bounds; both may be given when they agree."""
    netmask = ipaddress.ip_network(("0.0.0.0", length)).netmask
    ends = {"start_ip": "10.0.0.10", "end_ip": "10.0.0.10"}

    by_length = bounds_of(request(**ends, prefix_length=length))

    assert by_length == bounds_of(request(**ends, netmask=netmask))
    assert by_length == bounds_of(request(**ends, netmask=netmask, prefix_length=length))


@given(st.ip_addresses(v=4) | st.ip_addresses(v=6), st.integers(0, 2**20), st.integers(1, 128))
def test_no_range_ever_hands_out_forbidden_space(first: Any, size: int, length: int) -> None:
    """Whatever bounds are accepted, no loopback, multicast, link-local, class E or unspecified address is in them."""
    top = 2**first.max_prefixlen - 1
    last = type(first)(min(int(first) + size, top))
    assume(length <= first.max_prefixlen)

    try:
        bounds_of(request(start_ip=first, end_ip=last, prefix_length=length))
    except InvalidRequest:
        return

    for _, network in FORBIDDEN:
        if network.version == first.version:
            assert last < network[0] or first > network[-1]


SIX: dict[str, Any] = {
    "start_ip": "2001:db8::1",
    "end_ip": "2001:db8::ffff:ffff:ffff:ffff",
    "prefix_length": 64,
}


@pytest.mark.parametrize(
    ("fields", "mode"),
    [
        ({"network_cidr": "10.0.0.0/24"}, None),
        ({"network_cidr": "2001:db8::/64"}, "stateful"),
        ({"network_cidr": "2001:db8::/64", "address_mode": "slaac"}, "slaac"),
        ({"network_cidr": "2001:db8::/64", "address_mode": "slaac", "gateway": "2001:db8::99"}, "slaac"),
        ({"network_cidr": "2001:db8::/64", "address_mode": "statelessDhcp"}, "statelessDhcp"),
        ({"network_cidr": "2001:db8::/96", "address_mode": "stateful"}, "stateful"),
        ({"network_cidr": "2001:db8::/64", "type": "addressPool"}, "stateful"),
        ({"network_cidr": "2001:db8::/64", "type": "addressPool", "address_mode": "stateful"}, "stateful"),
        ({**SIX, "address_mode": "slaac"}, "slaac"),
        ({**SIX, "prefix_length": None, "netmask": "ffff:ffff:ffff:ffff::", "address_mode": "slaac"}, "slaac"),
    ],
)
def test_ipv6_ranges_have_an_address_mode(fields: dict[str, Any], mode: str | None) -> None:
    """Stateful unless another is named; IPv4 has none; each part of a split has it."""
    assert {one.address_mode for one in bounds_of(request(**fields))} == {mode}


@pytest.mark.parametrize("mode", ["slaac", "statelessDhcp"])
@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"network_cidr": "2001:db8::/63"}, "networkCidr"),
        ({"network_cidr": "2001:db8::/65"}, "networkCidr"),
        ({"network_cidr": "2001:db8::/128", "type": "addressPool"}, "addressMode"),
        ({**SIX, "prefix_length": 48}, "prefixLength"),
        ({**SIX, "prefix_length": None, "netmask": "ffff:ffff:ffff::"}, "netmask"),
        ({"network_cidr": "2001:db8::/64", "type": "addressPool"}, "addressMode"),
        ({"network_cidr": "10.0.0.0/24"}, "addressMode"),
    ],
)
def test_addresses_that_guests_make_want_a_64(mode: str, fields: dict[str, Any], field: str) -> None:
    """Any other prefix length is refused, and so is an address pool and IPv4."""
    assert culprit(**fields, address_mode=mode) == field


def test_whole_ipv6_networks_have_no_broadcast_address() -> None:
    """The last address is handed out; of a /127 both are, where one is not the gateway (RFC 6164); a /128 is one."""
    assert assignable(bounds_of(request(network_cidr="2001:db8::/126")))[-1] == "2001:db8::3"
    assert assignable(bounds_of(request(network_cidr="2001:db8::/127"))) == ["2001:db8::1"]
    both = {"start_ip": "2001:db8::", "end_ip": "2001:db8::1", "prefix_length": 127}
    assert assignable(bounds_of(request(**both))) == ["2001:db8::", "2001:db8::1"]
    one = {"start_ip": "2001:db8::7", "end_ip": "2001:db8::7", "prefix_length": 128}
    assert assignable(bounds_of(request(**one))) == ["2001:db8::7"]
    assert assignable(bounds_of(request(network_cidr="2001:db8::7/128", type="addressPool"))) == ["2001:db8::7"]


def test_point_to_point_networks_have_no_edges() -> None:
    """Both addresses of an IPv4 /31 are hosts (RFC 3021); a /32 is one."""
    assert assignable(bounds_of(request(network_cidr="10.0.0.4/31"))) == ["10.0.0.5"]
    assert assignable(bounds_of(request(network_cidr="10.0.0.4/31", gateway="10.0.0.5"))) == ["10.0.0.4"]
    both = {"start_ip": "10.0.0.4", "end_ip": "10.0.0.5", "prefix_length": 31}
    assert assignable(bounds_of(request(**both))) == ["10.0.0.4", "10.0.0.5"]
    assert assignable(bounds_of(request(start_ip="10.0.0.4", end_ip="10.0.0.4", prefix_length=32))) == ["10.0.0.4"]
    assert assignable(bounds_of(request(network_cidr="10.0.0.4/32", type="addressPool"))) == ["10.0.0.4"]
