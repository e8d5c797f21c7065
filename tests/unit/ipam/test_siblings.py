"""The rules between ranges of one L3 network, against a model that looks at every address."""

import ipaddress
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from viaduct_common.errors import InvalidRequest
from viaduct_common.messages.ipam import CreateRange
from viaduct_ipam.model.ranges import Bounds, Range, bounds_of
from viaduct_ipam.model.siblings import beside, pools_left_alone

L3 = uuid4()
NOW = datetime.now(UTC)


def request(**fields: Any) -> CreateRange:
    return CreateRange.model_validate({"l3_network_uuid": L3, **fields})


def add(siblings: list[Bounds], **fields: Any) -> list[Bounds]:
    """The bounds that the request makes beside the siblings."""
    asked = request(**fields)
    return list(beside(bounds_of(asked), siblings, asked))


def culprit(siblings: list[Bounds], **fields: Any) -> str:
    with pytest.raises(InvalidRequest) as refused:
        add(siblings, **fields)
    return str(refused.value.details["field"])


def assignable(bounds: list[Bounds]) -> list[str]:
    return [str(one.address(n)) for one in bounds for low, high in one.assignable.parts for n in range(low, high + 1)]


FOUR = add([], start_ip="10.0.0.10", end_ip="10.0.0.20", prefix_length=24, gateway="10.0.0.1")
ENDS = {"start_ip": "10.0.0.30", "end_ip": "10.0.0.40"}


def test_normal_range_without_gateway_takes_its_siblings() -> None:
    """Unless it is the gateway alone, it then hands out all but that."""
    [one] = add(FOUR, start_ip="10.0.0.1", end_ip="10.0.0.2", prefix_length=24)

    assert str(one.gateway) == "10.0.0.1"
    assert assignable([one]) == ["10.0.0.2"]
    assert culprit(FOUR, start_ip="10.0.0.1", end_ip="10.0.0.1", prefix_length=24) == "startIp"


def test_pool_and_other_ip_version_need_not_share_the_subnet() -> None:
    """The rule is for the normal ranges of one IP version."""
    assert add(FOUR, start_ip="10.1.0.1", end_ip="10.1.0.9", prefix_length=16, type="addressPool")
    assert add(FOUR, start_ip="2001:db8::1", end_ip="2001:db8::9", prefix_length=64)
    assert add(FOUR, network_cidr="2001:db8::/64", address_mode="slaac")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"start_ip": "10.0.1.30", "end_ip": "10.0.1.40", "prefix_length": 24}, "startIp"),
        ({"start_ip": "10.0.1.30", "end_ip": "10.0.1.40", "prefix_length": 25}, "startIp"),
        ({**ENDS, "prefix_length": 25}, "prefixLength"),
        ({**ENDS, "prefix_length": 23}, "prefixLength"),
        ({**ENDS, "netmask": "255.255.255.128"}, "netmask"),
        ({"start_ip": "10.0.0.200", "end_ip": "10.0.0.201", "netmask": "255.255.255.128"}, "netmask"),
        ({**ENDS, "netmask": "255.255.255.128", "prefix_length": 25}, "netmask"),
        ({**ENDS, "prefix_length": 24, "gateway": "10.0.0.254"}, "gateway"),
        ({"network_cidr": "10.0.1.0/24"}, "networkCidr"),
        ({"network_cidr": "10.0.0.0/30", "type": "addressPool"}, "networkCidr"),
        ({**ENDS, "prefix_length": 24, "type": "addressPool", "gateway": "10.0.0.15"}, "gateway"),
        ({"start_ip": "10.0.0.1", "end_ip": "10.0.0.1", "prefix_length": 32, "type": "addressPool"}, "startIp"),
    ],
)
def test_what_does_not_go_with_its_siblings_names_its_field(fields: dict[str, Any], field: str) -> None:
    """Another subnet, netmask or gateway, and a gateway that another range hands out."""
    assert culprit(FOUR, **fields) == field


def test_normal_ipv6_ranges_share_their_address_mode() -> None:
    """A pool, which is stateful, does not matter."""
    stateful = add([], start_ip="2001:db8::10", end_ip="2001:db8::20", prefix_length=64)
    whole = {"start_ip": "2001:db8::21", "end_ip": "2001:db8::ffff:ffff:ffff:ffff", "prefix_length": 64}

    for mode in ("slaac", "statelessDhcp"):
        assert culprit(stateful, **whole, address_mode=mode) == "addressMode"
        guests = add([], network_cidr="2001:db8::/64", address_mode=mode)
        pool = add(guests, network_cidr="2001:db8:7::/64", type="addressPool")
        assert add(pool, network_cidr="2001:db8:8::/64", address_mode="slaac")
        asked = request(start_ip="2001:db8::", end_ip="2001:db8::", prefix_length=64)
        with pytest.raises(InvalidRequest) as refused:
            beside(bounds_of(asked), guests, asked)
        assert refused.value.details == {"field": "addressMode", "addressMode": mode}
    assert add(stateful, **whole)


TOP = "2001:db8::ffff:ffff:ffff:ffff"


@pytest.mark.parametrize(
    ("start", "end", "gateway", "field"),
    [
        ("2001:db8::1", TOP, None, None),
        ("2001:db8::", TOP, None, None),
        ("2001:db8::2", TOP, "2001:db8::1", None),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:fffe", TOP, None),
        ("2001:db8::2", TOP, None, "startIp"),
        ("2001:db8::3", TOP, "2001:db8::1", "startIp"),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:fffe", None, "endIp"),
        ("2001:db8::1", "2001:db8::ff", "2001:db8::1", "endIp"),
    ],
)
def test_addresses_that_guests_make_want_the_whole_subnet(
    start: str, end: str, gateway: str | None, field: str | None
) -> None:
    """All but subnet-router anycast and gateway, which no guest makes."""
    fields = {"start_ip": start, "end_ip": end, "gateway": gateway, "prefix_length": 64, "address_mode": "slaac"}

    if field is None:
        assert add([], **fields)
    else:
        assert culprit([], **fields) == field


def test_part_of_a_subnet_of_guests_can_be_made_again() -> None:
    """With what is there, it is the whole."""
    low, high = add([], network_cidr="2001:db8::/64", address_mode="slaac", gateway="2001:db8::100")
    again = {"start_ip": low.first, "end_ip": low.last, "prefix_length": 64, "address_mode": "slaac"}

    assert add([high], **again) == [low]
    assert culprit([high], **{**again, "start_ip": low.first + 1}) == "startIp"


# Two neighbouring /28, so that all that can be asked for is soon tried.
SPACE = ipaddress.ip_network("10.0.0.0/27")
hosts = st.integers(0, 31).map(lambda number: SPACE[number])
asks = st.fixed_dictionaries(
    {
        # Short ones, so that several find room.
        "ends": st.tuples(st.integers(0, 31), st.integers(0, 5)).map(
            lambda pair: (SPACE[pair[0]], SPACE[min(31, sum(pair))])
        ),
        "prefix_length": st.sampled_from([27, 28, 28, 28]),
        "gateway": st.sampled_from([None, SPACE[1], SPACE[17]]) | hosts,
        "type": st.sampled_from(["normal", "normal", "addressPool"]),
    }
)


@given(st.lists(asks, min_size=4, max_size=12))
def test_what_stands_together_keeps_every_rule(asked: list[dict[str, Any]]) -> None:
    """Ranges are added one by one; what is refused breaks a rule, and what is accepted breaks none."""
    there: list[Bounds] = []
    for ask in asked:
        first, last = ask["ends"]
        fields = {key: value for key, value in ask.items() if key != "ends"} | {"start_ip": first, "end_ip": last}
        if any(first <= one.last and one.first <= last for one in there):
            continue  # the database refuses it
        try:
            [alone] = bounds_of(request(**fields))
        except InvalidRequest:
            continue
        normal = [one for one in there if one.type == "normal"]
        inherited = normal[0].gateway if normal and ask["type"] == "normal" else None
        gateway = alone.gateway or inherited
        broken = broken_rules(alone, gateway, there)
        event("refused" if broken else "accepted")
        if broken:
            assert culprit(there, **fields) in broken
        else:
            [made] = add(there, **fields)
            assert made.gateway == gateway
            there.append(made)


def broken_rules(new: Bounds, gateway: Any, there: list[Bounds]) -> set[str]:
    """The fields that may be named; by looking at every address."""

    def given_out(one: Bounds, its_gateway: Any) -> set[Any]:
        edges = {one.network[0], one.network[-1]}
        numbers = range(int(one.first), int(one.last) + 1)
        return {ipaddress.ip_address(n) for n in numbers} - edges - {its_gateway}

    fields = set()
    for other in there:
        if new.type == other.type == "normal":
            if new.network != other.network:
                fields |= {"prefixLength"} if new.prefix_length != other.prefix_length else {"startIp"}
                fields |= set() if new.first in other.network else {"startIp"}
            if gateway != other.gateway:
                fields.add("gateway")
        if gateway in given_out(other, other.gateway):
            fields.add("gateway")
        if other.gateway in given_out(new, gateway):
            fields.add("startIp")
    if not given_out(new, gateway):
        fields.add("startIp")
    return fields


def stored(bounds: list[Bounds]) -> list[Range]:
    return [Range(uuid4(), L3, None, one, 0, None, NOW) for one in bounds]


def test_pools_are_left_alone_by_the_last_normal_range_of_their_version() -> None:
    """By no other, and not by a pool."""
    four, pool4 = FOUR, add([], network_cidr="10.9.0.0/24", type="addressPool")
    other = add(FOUR, **ENDS, prefix_length=24)
    six, pool6 = add([], network_cidr="2001:db8::/64"), add([], network_cidr="2001:db8:9::/64", type="addressPool")
    one, second, low_pool, only, high_pool = stored([*four, *other, *pool4, *six, *pool6])
    ranges = [one, second, low_pool, only, high_pool]

    assert pools_left_alone(one, ranges) == []
    assert pools_left_alone(one, [one, low_pool, only, high_pool]) == [low_pool.uuid]
    assert pools_left_alone(only, ranges) == [high_pool.uuid]
    assert pools_left_alone(low_pool, [low_pool]) == []
    assert pools_left_alone(one, [one, only]) == []
