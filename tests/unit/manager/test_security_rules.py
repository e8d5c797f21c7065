"""The deciding parts of security groups: good rules, the same rules, their order, slices of members."""

import itertools
import random
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_network
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viaduct_common.errors import AlreadyExists, Exhausted, InvalidRequest, NotFound, PreconditionFailed
from viaduct_common.messages.services.security_groups import NewRule, PortRange
from viaduct_common.messages.services.security_specs import MEMBER_SLICES, SecurityMembersSpec
from viaduct_manager.model.security_membership import Grounds, Joining, refuse_joining
from viaduct_manager.model.security_rules import (
    DEFAULT_PRIORITY,
    MAX_GROUPS_OF_NIC,
    StoredRule,
    check_rule,
    default_rules,
    expand,
    matches,
    networks,
    port_spans,
    refuse_duplicates,
    slice_of,
)
from viaduct_manager.network_services.security_group.facts import members_desired, sliced

GROUP, OTHER, L3, NIC = (UUID(int=number) for number in range(1, 5))
HOST = UUID(int=9)


def rule(**fields: Any) -> NewRule:
    return NewRule.model_validate({"direction": "ingress", "protocol": "TCP", "ports": [{"start": 22}], **fields})


def stored(one: NewRule, number: int = 1, *, default: bool = False) -> StoredRule:
    return StoredRule(UUID(int=1000 + number), one, default, number)


ranges = st.builds(
    lambda start, size: PortRange(start=start, end=min(start + size, 65535)), st.integers(1, 65535), st.integers(0, 40)
)
cidrs = st.builds(
    lambda number, bits: IPv4Network((number & ~(2 ** (32 - bits) - 1), bits)),
    st.integers(0, 2**32 - 1),
    st.integers(4, 32),
)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"ports": []}, "ports"),
        ({"protocol": "UDP", "ports": []}, "ports"),
        ({"protocol": "ALL"}, "ports"),
        ({"protocol": "ICMP"}, "ports"),
        ({"ports": [{"start": 22}, {"start": 90, "end": 80}]}, "ports.1.end"),
        ({"icmpType": 8}, "icmpType"),
        ({"icmpCode": 0}, "icmpCode"),
        ({"protocol": "ICMP", "ports": [], "icmpCode": 0}, "icmpCode"),
        ({"cidrs": ["10.0.0.0/8"], "remoteGroupUuid": str(OTHER)}, "remoteGroupUuid"),
        ({"cidrs": ["10.0.0.0/8", "fd00::/8"]}, "cidrs.1"),
        ({"ipVersion": 6, "cidrs": ["10.0.0.0/8"]}, "cidrs.0"),
    ],
)
def test_rule_that_contradicts_itself_is_refused_by_its_field(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        check_rule(rule(**fields), "rules.3")
    assert refusal.value.details["field"] == f"rules.3.{field}"


@pytest.mark.parametrize(
    "fields",
    [
        {"protocol": "ALL", "ports": []},
        {"protocol": "ICMP", "ports": []},
        {"protocol": "ICMP", "ports": [], "icmpType": 8, "icmpCode": 0},
        {"ports": [{"start": 1, "end": 65535}]},
        {"ipVersion": 6, "cidrs": ["fd00::/8"]},
        {"remoteGroupUuid": str(OTHER)},
    ],
)
def test_good_rules_are_good(fields: dict[str, Any]) -> None:
    check_rule(rule(**fields), "rules.0")


@given(st.lists(ranges, min_size=1, max_size=10))
def test_port_spans_are_disjoint_and_mean_the_same(ports: list[PortRange]) -> None:
    spans = port_spans(ports)
    before = {port for one in ports for port in range(one.start, (one.end or one.start) + 1)}
    assert {port for start, end in spans for port in range(start, end + 1)} == before
    assert all(end + 1 < start for (_, end), (start, _) in itertools.pairwise(spans))


@given(st.lists(cidrs, max_size=10), st.integers(0, 2**32 - 1))
def test_networks_mean_the_same(given_: list[IPv4Network], number: int) -> None:
    address = IPv4Address(number)
    assert any(address in one for one in given_) == any(address in one for one in networks(given_))


def test_everybody_is_nobody_in_particular() -> None:
    assert networks([ip_network("0.0.0.0/1"), ip_network("128.0.0.0/1")]) == []
    assert networks([ip_network("fd00::/8"), ip_network("::/0")]) == []


@given(st.lists(ranges, min_size=1, max_size=6), st.lists(cidrs, max_size=6), st.integers(0, 99), st.randoms())
def test_same_rule_in_another_notation_is_the_same(
    ports: list[PortRange], given_: list[IPv4Network], priority: int, chance: random.Random
) -> None:
    one = rule().model_copy(update={"ports": ports, "cidrs": given_})
    again = [*ports, ports[0]], [*given_, *given_[:1]]
    chance.shuffle(again[0])
    chance.shuffle(again[1])
    other = one.model_copy(
        update={"ports": again[0], "cidrs": again[1], "priority": priority, "enabled": False, "description": "again"}
    )
    assert matches(one) == matches(other)
    with pytest.raises(AlreadyExists) as refusal:
        refuse_duplicates([rule(direction="egress"), other], [stored(one)])
    assert refusal.value.details["ruleUuid"] == str(UUID(int=1001))
    assert refusal.value.details["field"] == "rules.1"
    with pytest.raises(AlreadyExists) as refusal:
        refuse_duplicates([one, other], [])
    assert (refusal.value.details["field"], refusal.value.details["sameAs"]) == ("rules.1", "rules.0")


@pytest.mark.parametrize(
    "fields",
    [
        {"direction": "egress"},
        {"ipVersion": 6},
        {"protocol": "UDP"},
        {"ports": [{"start": 22, "end": 23}]},
        {"cidrs": ["10.0.0.0/8"]},
        {"remoteGroupUuid": str(OTHER)},
        {"action": "drop"},
    ],
)
def test_rules_that_differ_are_no_duplicates(fields: dict[str, Any]) -> None:
    refuse_duplicates([rule(), rule(**fields)], [])
    refuse_duplicates([rule(**fields)], [stored(rule())])


@given(st.lists(st.tuples(st.integers(0, DEFAULT_PRIORITY), st.booleans()), max_size=8), st.randoms())
def test_rules_are_told_by_priority_then_age_and_defaults_last(
    added: list[tuple[int, bool]], chance: random.Random
) -> None:
    own = [stored(rule(priority=one, enabled=on), number) for number, (one, on) in enumerate(added, 10)]
    defaults = [stored(one, number, default=True) for number, one in enumerate(default_rules(GROUP))]
    all_of_them = [*own, *defaults]
    chance.shuffle(all_of_them)
    order = [one.rule_uuid for one in expand(all_of_them)]
    expected = sorted((one for one in own if one.rule.enabled), key=lambda one: (one.rule.priority, one.place))
    assert order == [one.uuid for one in [*expected, *defaults]]


def test_new_group_lets_its_members_in_and_everything_out() -> None:
    assert [(one.direction, one.ip_version, one.remote_group_uuid, one.action) for one in default_rules(GROUP)] == [
        ("ingress", 4, GROUP, "allow"),
        ("ingress", 6, GROUP, "allow"),
        ("egress", 4, None, "allow"),
        ("egress", 6, None, "allow"),
    ]
    for one in default_rules(GROUP):
        check_rule(one, "default")


members = st.dictionaries(st.uuids(version=4), st.integers(0, 2**32 - 1).map(IPv4Address), min_size=1, max_size=200)


@given(members, st.uuids(version=4), st.integers(0, 2**32 - 1).map(IPv4Address))
def test_change_of_one_member_changes_one_slice(there: dict[UUID, IPv4Address], nic: UUID, ip: IPv4Address) -> None:
    before = sliced((GROUP, uuid, [one]) for uuid, one in there.items())
    after = sliced((GROUP, uuid, [one]) for uuid, one in {**there, nic: ip}.items())
    changed = {key for key in before.keys() | after.keys() if before.get(key, []) != after.get(key, [])}
    assert {key.part for key in changed} <= {slice_of(nic)}
    assert sorted(one for ips in before.values() for one in ips) == sorted(there.values())


def test_thousand_members_make_small_slices() -> None:
    chance = random.Random(7)
    nics = [UUID(int=chance.getrandbits(128), version=4) for _ in range(1000)]
    counts = [sum(slice_of(nic) == part for nic in nics) for part in range(MEMBER_SLICES)]
    assert sum(counts) == 1000
    assert max(counts) <= 40


def test_slice_without_members_is_nowhere() -> None:
    assert members_desired(GROUP, 3, [], {HOST}).by_host == {}
    [spec] = members_desired(GROUP, 3, [ip_address("10.0.0.2"), ip_address("10.0.0.1")], {HOST}).by_host.values()
    assert SecurityMembersSpec.model_validate(spec).ips == [ip_address("10.0.0.1"), ip_address("10.0.0.2")]


GOOD = Grounds({GROUP}, {(GROUP, L3)}, {L3})


@pytest.mark.parametrize(
    ("grounds", "others", "error"),
    [
        (Grounds(set(), {(GROUP, L3)}, {L3}), 0, NotFound),
        (Grounds({GROUP}, {(GROUP, L3)}, set()), 0, PreconditionFailed),
        (Grounds({GROUP}, {(OTHER, L3)}, {L3}), 0, PreconditionFailed),
        (GOOD, MAX_GROUPS_OF_NIC, Exhausted),
    ],
    ids=["no group", "no service", "not attached", "too many"],
)
def test_nic_that_may_not_join_is_refused_by_its_field(
    grounds: Grounds, others: int, error: type[InvalidRequest]
) -> None:
    with pytest.raises(error) as refusal:
        refuse_joining([Joining(NIC, L3, GROUP, "nicUuids.0", others)], grounds)
    assert refusal.value.details["field"] == "nicUuids.0"


def test_nic_that_may_join_does() -> None:
    refuse_joining([Joining(NIC, L3, GROUP, "nicUuids.0", MAX_GROUPS_OF_NIC - 1)], GOOD)
