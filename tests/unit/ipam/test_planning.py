"""What a request gets, beyond the order of the search: sets of both versions, addresses held for somebody, cooling."""

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.ipam.plain_store import PlainStore, make_range, make_reservation, make_state, texts

from viaduct_common.errors import Exhausted, InvalidRequest, IpInUse, NotInRange, ViaductError
from viaduct_common.messages.ipam import AllocateIp

FOUR, SIX = ("10.0.0.1", "10.0.0.9"), ("2001:db8::1", "2001:db8::9")
MAC = "52:54:00:12:34:56"


def ask(**fields: Any) -> AllocateIp:
    return AllocateIp.model_validate({"l3_network_uuid": "6ba7b810-9dad-11d1-80b4-00c04fd430c8", **fields})


def number(ip: str) -> int:
    return int(ipaddress.ip_address(ip))


def test_a_dual_stack_set_comes_set_by_set() -> None:
    """Two sets of both versions; the order of the versions is the request's."""
    store = PlainStore(make_state([make_range(*FOUR), make_range(*SIX)]))

    [both] = store.allocate(ask(ip_versions=[4, 6], count=2))
    [turned] = store.allocate(ask(ip_versions=[6, 4]))

    assert texts(both) == ["10.0.0.1", "2001:db8::1", "10.0.0.2", "2001:db8::2"]
    assert texts(turned) == ["2001:db8::3", "10.0.0.3"]


def test_a_set_that_lacks_one_version_takes_nothing() -> None:
    """What was found of the other version is free again for the next in the same batch."""
    store = PlainStore(make_state([make_range(*FOUR), make_range("2001:db8::1", "2001:db8::2")]))

    refused, next_one = store.allocate(ask(ip_versions=[4, 6], count=3), ask())

    assert isinstance(refused, Exhausted)
    assert texts(next_one) == ["10.0.0.1"]


def test_a_required_address_may_lead_a_set() -> None:
    """The other version's is then any free one."""
    store = PlainStore(make_state([make_range(*FOUR), make_range(*SIX)]))

    [both] = store.allocate(ask(ip_versions=[4, 6], required_ip="10.0.0.7"))

    assert texts(both) == ["10.0.0.7", "2001:db8::1"]


@pytest.mark.parametrize(
    ("fields", "culprit"),
    [
        ({"ip_versions": [4, 4]}, "ipVersions"),
        ({"ip_versions": [4], "ip_version": 4}, "ipVersions"),
        ({"ip_versions": [4], "required_ip": "2001:db8::1"}, "ipVersions"),
        ({"ip_version": 4, "required_ip": "2001:db8::1"}, "ipVersion"),
        ({"count": 2, "required_ip": "10.0.0.1"}, "count"),
        ({"excluded_ips": ["10.0.0.1"], "required_ip": "10.0.0.1"}, "excludedIps"),
    ],
)
def test_a_request_that_contradicts_itself_is_refused(fields: dict[str, Any], culprit: str) -> None:
    """The culprit is named."""
    [refused] = PlainStore(make_state([make_range(*FOUR)])).allocate(ask(**fields))

    assert isinstance(refused, InvalidRequest)
    assert refused.details["field"] == culprit


@pytest.mark.parametrize("by", ["owner", "mac"])
def test_an_address_held_for_somebody_goes_to_him_alone(by: str) -> None:
    """Unasked, by its name, and to nobody else but who says so; once it is used he gets another."""
    holder = {"owner": "vm-1"} if by == "owner" else {"mac": MAC}
    held = make_reservation("10.0.0.5", "10.0.0.5", **holder)
    store = PlainStore(make_state([make_range(*FOUR)], [held]))

    [stranger, named_by_stranger, his, again] = store.allocate(
        ask(owner="vm-2", count=4),
        ask(owner="vm-2", required_ip="10.0.0.5"),
        ask(**holder),
        ask(**holder),
    )
    store.release(4, [number("10.0.0.5")])
    [by_name] = store.allocate(ask(**holder, required_ip="10.0.0.5"))
    store.release(4, [number("10.0.0.5")])
    [said_so] = store.allocate(ask(owner="vm-2", required_ip="10.0.0.5", allow_reserved=True))

    assert texts(stranger) == ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]
    assert named_by_stranger.details["reason"] == "RESERVED"
    assert (texts(his), texts(again)) == (["10.0.0.5"], ["10.0.0.6"])
    assert texts(by_name) == texts(said_so) == ["10.0.0.5"]


def test_sticky_gives_the_former_address_if_it_is_free() -> None:
    """To its owner, unless somebody has it; without an owner it is next fit."""
    store = PlainStore(make_state([make_range(*FOUR)], strategy="sticky"))
    store.former["vm-1"] = [(4, number("10.0.0.8"))]

    [anybody, his, in_use] = store.allocate(ask(), ask(owner="vm-1"), ask(owner="vm-1"))

    assert (texts(anybody), texts(his), texts(in_use)) == (["10.0.0.1"], ["10.0.0.8"], ["10.0.0.2"])


def test_a_former_address_that_is_reserved_now_is_not_given() -> None:
    """A reservation is stronger than a habit."""
    store = PlainStore(make_state([make_range(*FOUR)], [make_reservation("10.0.0.8", "10.0.0.8")], "sticky"))
    store.former["vm-1"] = [(4, number("10.0.0.8")), (4, number("10.9.9.9"))]

    [given] = store.allocate(ask(owner="vm-1"))

    assert texts(given) == ["10.0.0.1"]


def cooling_store(strategy: str) -> PlainStore:
    """All but .9 is free; .9 cools, and was vm-1's."""
    state = make_state([make_range(*FOUR)], strategy=strategy)
    store = PlainStore(state)
    store.take(4, [number("10.0.0.9")])
    store.cooling[4, number("10.0.0.9")] = "vm-1"
    store.former["vm-1"] = [(4, number("10.0.0.9"))]
    next(iter(state.counters.values())).cooling = 1
    return store


def test_a_cooling_address_goes_back_to_its_former_owner_only() -> None:
    """By name or by sticky, and once: whoever else asks is told that it cools."""
    store = cooling_store("firstAvailable")
    [stranger, nobody, his, his_again] = store.allocate(
        ask(owner="vm-2", required_ip="10.0.0.9"),
        ask(required_ip="10.0.0.9"),
        ask(owner="vm-1", required_ip="10.0.0.9"),
        ask(owner="vm-1", required_ip="10.0.0.9"),
    )
    [by_habit, all_others, too_many] = cooling_store("sticky").allocate(ask(owner="vm-1"), ask(count=8), ask())

    assert (stranger.details["reason"], nobody.details["reason"]) == ("COOLING", "COOLING")
    assert texts(his) == texts(by_habit) == ["10.0.0.9"]
    assert his_again.details["reason"] == "USED"
    assert len(texts(all_others)) == 8
    assert isinstance(too_many, Exhausted)


def test_a_refused_set_leaves_a_cooling_address_cooling() -> None:
    """Undoing half a set must not free what was not free before."""
    store = cooling_store("firstAvailable")

    [refused, stranger, his] = store.allocate(
        ask(owner="vm-1", required_ip="10.0.0.9", ip_versions=[4, 6]),
        ask(owner="vm-2", required_ip="10.0.0.9"),
        ask(owner="vm-1", required_ip="10.0.0.9"),
    )

    assert isinstance(refused, Exhausted)
    assert stranger.details["reason"] == "COOLING"
    assert texts(his) == ["10.0.0.9"]


@pytest.mark.parametrize(
    ("ip", "error", "reason"),
    [
        ("10.0.0.4", IpInUse, "USED"),
        ("10.0.0.0", NotInRange, "NETWORK"),
        ("10.0.0.10", NotInRange, "NOT_IN_RANGE"),
        ("2001:db8::1", NotInRange, "NOT_IN_RANGE"),
    ],
)
def test_a_required_address_is_refused_for_its_reason(ip: str, error: type[ViaductError], reason: str) -> None:
    """Taken before, or handed out by no range."""
    store = PlainStore(make_state([make_range(*FOUR)]))
    store.take(4, [number("10.0.0.4")])

    [refused] = store.allocate(ask(required_ip=ip))

    assert isinstance(refused, error)
    assert refused.details["reason"] == reason


requests = st.fixed_dictionaries(
    {"count": st.integers(1, 5)},
    optional={
        "strategy": st.sampled_from(["firstAvailable", "random", "nextFit", "sticky"]),
        "ip_versions": st.sampled_from([[4], [6], [4, 6]]),
        "owner": st.sampled_from(["vm-1", "vm-2"]),
        "excluded_ips": st.lists(st.sampled_from(["10.0.0.1", "10.0.0.3", "2001:db8::2"]), max_size=3),
    },
)


@given(batches=st.lists(st.lists(requests, min_size=1, max_size=6), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_batches_give_each_address_once_and_all_or_none(batches: list[list[dict[str, Any]]], seed: int) -> None:
    """Whatever is asked together: nothing twice, nothing excluded, whole sets, and a refusal only where it is true."""
    store = PlainStore(make_state([make_range(*FOUR), make_range(*SIX)]))
    free = {4: {f"10.0.0.{n}" for n in range(1, 10)}, 6: {f"2001:db8::{n}" for n in range(1, 10)}}

    for batch in batches:
        for fields, outcome in zip(batch, store.allocate(*(ask(**one) for one in batch), seed=seed), strict=True):
            versions = fields.get("ip_versions", [4])
            excluded = set(fields.get("excluded_ips", ()))
            if isinstance(outcome, Exhausted):
                assert any(len(free[version] - excluded) < fields["count"] for version in versions)
                continue
            given_now = texts(outcome)
            assert len(given_now) == len(set(given_now)) == fields["count"] * len(versions)
            assert not excluded.intersection(given_now)
            for version in versions:
                mine = {ip for ip in given_now if ipaddress.ip_address(ip).version == version}
                assert len(mine) == fields["count"]
                assert mine <= free[version]
                free[version] -= mine
