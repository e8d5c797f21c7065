"""The kernel's verdict on the first packet of a flow is that of the evaluator, whatever the rules are."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from viaduct_agent.services.security.verdicts import ICMP, ICMPV6, TCP, UDP, admitted

from .filters import Filter, members, nic, rule, rules
from .flows import Arena, Try
from .machines import Machine, Site

pytestmark = pytest.mark.lab
PORTS = (1000, 1001, 1005)
NETWORKS = {4: ("10.9.0.1/32", "10.9.0.0/30", "0.0.0.0/0", "192.0.2.0/24"),
            6: ("fd09::1/128", "fd09::/126", "::/0", "2001:db8::/32")}  # fmt: skip
GROUPS = ("a", "b", "other")
SITUATIONS = int(os.environ.get("VIADUCT_TEST_SITUATIONS", "25"))


@st.composite
def a_rule(draw: st.DrawFn) -> dict[str, Any]:
    version = draw(st.sampled_from((4, 6)))
    protocol = draw(st.sampled_from(("ALL", "TCP", "UDP", "ICMP")))
    more: dict[str, Any] = {}
    ports: list[tuple[int, int]] = []
    if protocol in {"TCP", "UDP"}:
        ports = draw(st.lists(st.sampled_from(((1000, 1000), (1001, 1004), (1, 1000), (1005, 65535))), max_size=3))
    if protocol == "ICMP" and draw(st.booleans()):
        more["icmpType"] = draw(st.sampled_from((8, 128)))
        more["icmpCode"] = draw(st.sampled_from((None, 0, 1)))
    peer = draw(st.sampled_from(("anybody", "networks", "group")))
    if peer == "networks":
        more["cidrs"] = draw(st.lists(st.sampled_from(NETWORKS[version]), min_size=1, max_size=2, unique=True))
    group = draw(st.sampled_from((*GROUPS, "nobody"))) if peer == "group" else None
    direction = draw(st.sampled_from(("ingress", "egress")))
    return rule(
        direction, version, protocol, ports=ports, group=group, action=draw(st.sampled_from(("allow", "drop"))), **more
    )


@st.composite
def a_situation(draw: st.DrawFn) -> dict[str, Any]:
    """Groups and policies of two NICs, rules of the groups, and the members of each by their numbers."""
    nics = [
        {
            "groups": draw(st.lists(st.sampled_from(GROUPS), max_size=3, unique=True)),
            "ingressPolicy": draw(st.sampled_from(("allow", "drop"))),
            "egressPolicy": draw(st.sampled_from(("allow", "drop"))),
        }
        for _ in range(2)
    ]
    given_rules = {group: draw(st.lists(a_rule(), max_size=4)) for group in GROUPS}
    numbers = {group: draw(st.sets(st.sampled_from((1, 2, 3)))) for group in GROUPS}
    return {"nics": nics, "rules": given_rules, "members": numbers}


@pytest.fixture
def arena(site: Site) -> Iterator[Arena]:
    arena = Arena([*site.machines, site.own], PORTS)
    yield arena
    arena.close()


def all_tries(site: Site) -> list[Try]:
    """Between two NICs that are filtered, a port that is not, and the bridge itself."""
    everybody = [*site.machines, site.own]
    pairs = [(one, other) for one in everybody for other in everybody if one is not other]
    return [
        Try(protocol, version, one, other, port)
        for one, other in pairs
        for version in (4, 6)
        for protocol in (TCP, UDP, ICMP if version == 4 else ICMPV6)
        for port in (PORTS if protocol in {TCP, UDP} else (0,))
    ]


async def test_every_flow_is_judged_as_the_evaluator_says(site: Site, filter_: Filter, arena: Arena) -> None:
    """TCP, UDP and ICMP; ports in and beside a range; four peers; both directions; IPv4 and IPv6."""
    tries = all_tries(site)

    @settings(max_examples=SITUATIONS, deadline=None, database=None, suppress_health_check=list(HealthCheck),
              phases=(Phase.explicit, Phase.generate), derandomize=True)  # fmt: skip
    @given(st.lists(a_situation(), min_size=1, max_size=1))
    def collect(drawn: list[dict[str, Any]]) -> None:
        situations.extend(drawn)

    situations: list[dict[str, Any]] = []
    collect()
    for situation in situations:
        site.forget_connections()
        await _apply(filter_, site.machines, situation)
        world = filter_.world
        expected = {one for one in tries if admitted(one.flow(), world)}
        found = arena.arriving(tries, expected)
        assert {*map(_told, found)} == {*map(_told, expected)}, (situation, site.nft())


async def _apply(filter_: Filter, machines: list[Machine], situation: dict[str, Any]) -> None:
    for group in GROUPS:
        chosen = [machine for number, machine in enumerate(machines, 1) if number in situation["members"][group]]
        ips = [ip for machine in chosen for ip in (machine.ipv4, machine.ipv6)]
        await filter_.apply(rules(group, *situation["rules"][group]), members(group, ips))
    for machine, more in zip(machines, situation["nics"], strict=False):
        await filter_.apply(nic(machine, **more))


def _told(one: Try) -> str:
    flow = one.flow()
    return f"{flow.protocol} {flow.source} > {flow.target} {flow.ports}"
