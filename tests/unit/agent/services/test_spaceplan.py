"""Plans for namespaces: nothing to do where all is right, and a step for whatever is not."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viaduct_agent.links.marks import format_service_mark
from viaduct_agent.services.space import Route, Rule, Space, WantedLeg
from viaduct_agent.services.spaceplan import Have, Inner, Outer, plan_namespace, plan_space
from viaduct_common.errors import Conflict

SERVICE = UUID(int=7)
MARK = format_service_mark(SERVICE, 1)

macs = st.integers(0, 2**24 - 1).map(lambda n: f"fa:00:00:{n >> 16:02x}:{n >> 8 & 255:02x}:{n & 255:02x}")
addresses = st.frozensets(st.integers(1, 200).map(lambda n: f"10.0.0.{n}/24"), max_size=3)
legs = st.builds(
    lambda mac, mtu, own, vlan: WantedLeg(f"vs{mac[9:]}", f"in{mac[9:]}", "br", mac, mtu, own, vlan),
    macs, st.integers(1280, 9000), addresses, st.none() | st.integers(1, 4094),
)  # fmt: skip
routes = st.builds(Route, st.just(4), st.integers(0, 255).map(lambda n: f"10.{n}.0.0/16"), st.just("a"))
rules = st.builds(Rule, st.just(4), st.integers(1, 9), st.integers(256, 300), st.just("10.0.0.5"))
spaces = st.builds(
    Space,
    uuid=st.just(SERVICE), name=st.just("vr"), mark=st.just(MARK),
    legs=st.lists(legs, max_size=4, unique_by=lambda leg: leg.mac).map(tuple),
    routes=st.frozensets(routes, max_size=3), rules=st.frozensets(rules, max_size=3),
    sysctls=st.just((("net.ipv4.ip_forward", "1"),)),
)  # fmt: skip


def there(want: Space) -> Have:
    """The host on which all of it is right."""
    outers, inners = {}, {"lo": Inner(None, "00:00:00:00:00:00", 65536, up=True)}
    for index, leg in enumerate(want.legs, start=10):
        outers[leg.outer] = Outer(index, leg.mtu, True, MARK, leg.bridge, leg.vlan)
        inners[leg.inner] = Inner(index, leg.mac, leg.mtu, True, leg.addresses)
    return Have(True, outers, inners, want.routes, want.rules, dict(want.sysctls))


@given(want=spaces)
def test_nothing_is_done_where_all_is_right(want: Space) -> None:
    """Applying it again changes nothing."""
    assert plan_namespace(want, there(want)) == ()
    assert plan_space(want, there(want)) == ()


@given(want=spaces)
def test_from_nothing_each_leg_is_made_and_marked_before_it_is_plugged_in(want: Space) -> None:
    """What a crash leaves behind has the mark."""
    words = [step.words for step in plan_space(want, Have())]
    for leg in want.legs:
        (made,) = [n for n, line in enumerate(words) if f"add name {leg.outer} " in line]
        marked = words.index(f"link set dev {leg.outer} alias {MARK} addrgenmode none")
        plugged = words.index(f"link set dev {leg.outer} master {leg.bridge}")
        assert made < marked < plugged


BREAKS: dict[str, Any] = {
    "mtu": lambda outer, inner: (replace(outer, mtu=1), inner),
    "down": lambda outer, inner: (replace(outer, up=False), inner),
    "alias": lambda outer, inner: (replace(outer, alias=format_service_mark(SERVICE, 0)), inner),
    "bridge": lambda outer, inner: (replace(outer, bridge=None), inner),
    "vlan": lambda outer, inner: (replace(outer, vlan=(outer.vlan or 0) + 1), inner) if outer.vlan else (outer, None),
    "mac": lambda outer, inner: (outer, replace(inner, mac="fa:ff:ff:ff:ff:ff")),
    "inner mtu": lambda outer, inner: (outer, replace(inner, mtu=1)),
    "inner down": lambda outer, inner: (outer, replace(inner, up=False)),
    "address": lambda outer, inner: (outer, replace(inner, addresses=inner.addresses | {"192.0.2.1/32"})),
    "other peer": lambda outer, inner: (outer, replace(inner, peer=99)),
    "no peer": lambda outer, inner: (outer, None),
}


@given(want=spaces.filter(lambda space: bool(space.legs)), broken=st.sampled_from(sorted(BREAKS)))
def test_whatever_is_wrong_with_a_leg_has_a_step_for_it_and_for_no_other(want: Space, broken: str) -> None:
    """Other legs are left alone: their traffic goes on."""
    leg, have = want.legs[0], there(want)
    outer, inner = BREAKS[broken](have.outers[leg.outer], have.inners[leg.inner])
    inners = {**have.inners, leg.inner: inner}
    if inner is None:
        del inners[leg.inner]
    steps = plan_space(want, replace(have, outers={**have.outers, leg.outer: outer}, inners=inners))
    assert steps
    assert {step.difference.device for step in steps} <= {leg.outer, leg.inner}


@given(want=spaces, gone=routes, other=rules)
def test_routes_and_rules_that_nobody_wants_are_taken_away(want: Space, gone: Route, other: Rule) -> None:
    """And a route that gets another next hop is replaced in place."""
    have = there(want)
    steps = plan_space(want, replace(have, routes=have.routes | {gone}, rules=have.rules | {other}))
    words = [step.words for step in steps]
    assert words == [
        *([] if other in want.rules else [f"rule del {other.words}"]),
        *([] if gone in want.routes else [f"route del {gone.words}"]),
    ]
    moved = frozenset(replace(route, via="10.0.0.9") for route in want.routes)
    assert all("route replace" in step.words for step in plan_space(want, replace(have, routes=moved)))


def test_a_device_of_a_strangers_is_not_touched() -> None:
    """Even with the wanted name: CONFLICT, naming it."""
    leg = WantedLeg("vsx", "inside", "br", "fa:00:00:00:00:01", 1500, frozenset())
    want = Space(SERVICE, "vr", MARK, (leg,))
    for alias in (None, "mine", format_service_mark(UUID(int=8), 1)):
        with pytest.raises(Conflict) as caught:
            plan_space(want, Have(True, {"vsx": Outer(3, 1500, True, alias)}))
        assert caught.value.details["device"] == "vsx"


def test_an_end_whose_other_is_gone_with_its_namespace_is_made_anew() -> None:
    """Somebody deleted the namespace's name while a process was in it: the pair lives on, out of reach."""
    leg = WantedLeg("vsx", "inside", "br", "fa:00:00:00:00:01", 1500, frozenset())
    steps = plan_space(Space(SERVICE, "vr", MARK, (leg,)), Have(True, {"vsx": Outer(3, 1500, True, MARK)}))
    assert steps[0].words == "link del dev vsx"
    assert steps[1].words.startswith("link add name vsx ")


def test_index_of_the_inner_end_is_never_one_that_a_host_counts_up_to() -> None:
    """The ends of a pair have different ones, so that the kernel does not wait before it connects them."""
    assert WantedLeg("a", "b", "br", "fa:00:00:00:00:01", 1500, frozenset()).index >= 1 << 30
