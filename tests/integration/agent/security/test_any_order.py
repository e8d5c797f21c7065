"""Whatever is applied and removed, in whatever order, by however many agents: what is wanted last is what there is."""

import asyncio
import json
import socket
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from viaduct_agent.services.api import ServiceOnHost
from viaduct_common.errors import BackendFailed, InvalidRequest

from .conftest import Fresh
from .filters import Filter, members, nic, rule, rules
from .machines import Machine, Site, run

pytestmark = pytest.mark.lab
GROUPS = ("a", "b")
RULES = (
    rule(ports=[(22, 22)]),
    rule("egress", 6, "UDP", group="b", action="drop"),
    rule(protocol="ICMP", icmpType=8, cidrs=["10.0.0.0/8", "10.9.0.0/24"]),
)
ADDRESSES = ("10.9.0.1", "10.9.0.2", "fd09::1", "fd09::ffff:10.1.2.3", "::ffff:1.2.3.4")


@st.composite
def a_change(draw: st.DrawFn) -> tuple[str, Any]:
    """An action, and what it is about; machines by their position."""
    action = draw(st.sampled_from(("apply", "apply", "apply", "remove", "restart", "tamper")))
    if action in {"restart", "tamper"}:
        return action, None
    kind = draw(st.sampled_from(("nic", "rules", "members")))
    if kind == "nic":
        groups = draw(st.lists(st.sampled_from(GROUPS), unique=True))
        return action, (
            kind,
            draw(st.integers(0, 2)),
            groups,
            draw(st.sampled_from(("br0", "br1"))),
            draw(st.booleans()),
        )
    if kind == "rules":
        return action, (kind, draw(st.sampled_from(GROUPS)), draw(st.lists(st.sampled_from(RULES), max_size=3)))
    ips = draw(st.sets(st.sampled_from(ADDRESSES)))
    return action, (kind, draw(st.sampled_from(GROUPS)), ips, draw(st.integers(0, 2)))


def wanted(site: Site, about: Any) -> ServiceOnHost:
    kind, first, *more = about
    if kind == "nic":
        return nic(site.machines[first], more[0], bridge=more[1], antiSpoofing=more[2])
    return rules(first, *more[0]) if kind == "rules" else members(first, *more)


async def test_any_sequence_of_changes_ends_in_the_same_ruleset(site: Site, fresh: Fresh) -> None:
    """With restarts, and with a stranger's hand in the tables, which a check finds and an apply repairs."""
    site.add_bridge("br1")

    async def play(changes: list[tuple[str, Any]]) -> None:
        agent = await fresh.agent()
        for action, about in changes:
            if action == "restart":
                agent, before = await fresh.agent(), agent
                agent.wanted = before.wanted
            elif action == "tamper":
                await _tamper(site, agent)
            elif action == "apply":
                await agent.apply(wanted(site, about))
            else:
                await agent.remove(wanted(site, about))
        last = _listing(site)
        for want in agent.wanted.values():
            checked = await agent.backends[want.kind].check(want)
            assert (checked.present, checked.differences, checked.steps) == (True, (), ()), want
        for kind, backend in agent.backends.items():
            expected = {want.uuid: 1 for want in agent.wanted.values() if want.kind == kind}
            assert await backend.found() == expected
        kept = list(agent.wanted.values())
        await agent.clear()
        assert _listing(site) == {}
        await agent.apply(*sorted(kept, key=lambda want: want.uuid))
        assert _listing(site) == last
        await agent.clear()

    loop = asyncio.get_running_loop()

    @settings(max_examples=25, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.lists(a_change(), max_size=12))
    def sequences(changes: list[tuple[str, Any]]) -> None:
        asyncio.run_coroutine_threadsafe(play(changes), loop).result()

    await asyncio.to_thread(sequences)


async def test_a_restart_and_a_repetition_touch_nothing(site: Site, fresh: Fresh) -> None:
    """The kernel's handles are the old ones: no rule, set or chain was made anew, and no packet was without them."""
    one, two, _ = site.machines
    wants = [nic(one, ["a"]), nic(two, ["a", "b"]), rules("a", *RULES), members("b", ADDRESSES)]
    await (await fresh.agent()).apply(*wants)
    before = _handles(site)
    again = await fresh.agent()
    assert await again.apply(*wants) == ()
    assert [(await again.backends[want.kind].check(want)).differences for want in wants] == [()] * len(wants)
    assert _handles(site) == before


async def test_rules_are_there_before_the_device(site: Site, filter_: Filter) -> None:
    """The tap comes later, with the machine."""
    two = site.machines[1]
    later = Machine(f"{site.prefix}-9", "tap9", "02:00:00:00:00:09", two.ipv4 + 7, two.ipv6 + 7)
    await filter_.apply(rules("a"), nic(later, ["a"]))
    made = site.add_machine(9)
    assert made == later
    site.know_each_other(site.machines)
    with two.open(socket.AF_INET, socket.SOCK_STREAM) as sock, made.open(socket.AF_INET, socket.SOCK_STREAM) as server:
        server.bind(("", 80))
        server.listen()
        sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            sock.connect((str(made.ipv4), 80))
    await filter_.apply(rules("a", rule(ports=[(80, 80)])))
    with made.open(socket.AF_INET, socket.SOCK_STREAM) as server, two.open(socket.AF_INET, socket.SOCK_STREAM) as sock:
        server.bind(("", 80))
        server.listen()
        sock.settimeout(5)
        sock.connect((str(made.ipv4), 80))


async def test_a_change_of_one_member_is_an_element(site: Site, filter_: Filter) -> None:
    ips = [f"10.20.{high}.{low}" for high in range(4) for low in range(250)]
    await filter_.apply(rules("a", rule(group="b")), nic(site.machines[0], ["a"]), members("b", ips, 5))
    steps = await filter_.apply(members("b", [*ips, "10.99.0.1"], 5))
    (step,) = steps
    assert step.startswith("nft add element bridge viaduct_security m4_")
    assert step.endswith("{ 10.99.0.1 }")


@pytest.mark.parametrize("device", ['tap"; drop', "tap*", "tap one", "", "a" * 16])
async def test_a_device_that_no_rule_can_name_is_refused(site: Site, filter_: Filter, device: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await filter_.apply(nic(site.machines[0], deviceName=device))
    assert refused.value.details["field"] == "spec.deviceName"
    assert _listing(site) == {}


async def test_a_device_may_have_any_other_name(site: Site, filter_: Filter) -> None:
    """Also one that is a word of nft's own."""
    wants = [nic(site.machines[0], ["a"], deviceName=name, nicUuid=str(uuid))
             for name, uuid in zip(("tcp", "bridge", "1.2.3.4", "vnic0.1:2"), _UUIDS, strict=False)]  # fmt: skip
    for want in wants:
        await filter_.apply(want)
        assert (await filter_.backends[want.kind].check(want)).differences == ()


async def test_what_the_kernel_refuses_is_as_before(site: Site, filter_: Filter) -> None:
    """The world is again that of before, so that the next change does not repeat the refused one."""
    one = site.machines[0]
    await filter_.apply(nic(one))
    before = _listing(site)
    too_much = rule(protocol="ICMP", icmpType=70000)
    with pytest.raises(BackendFailed):
        await filter_.apply(rules("a", too_much))
    assert _listing(site) == before
    await filter_.apply(members("a", ["10.0.0.1"]))


_NUMBERS = count(1)
_UUIDS = tuple(f"00000000-0000-4000-8000-{number:012}" for number in range(10))


async def _tamper(site: Site, agent: Filter) -> None:
    """A stranger empties a map, adds a rule, and takes a chain's rules away: the check of each instance says so."""
    if not agent.wanted:
        return
    number = next(_NUMBERS)
    table = "bridge viaduct_security"
    _nft(site, f"add rule {table} sent counter", f"flush map {table} sent", f"flush chain {table} received",
         f"add set {table} strange{number} {{ type ipv4_addr; }}")  # fmt: skip
    for want in list(agent.wanted.values()):
        checked = await agent.backends[want.kind].check(want)
        assert checked.differences
        assert checked.steps
        break
    await agent.apply(*list(agent.wanted.values()))


def _nft(site: Site, *lines: str) -> None:
    run("ip", "netns", "exec", site.host, "nft", "-f", "-", stdin="\n".join(lines) + "\n")


def _handles(site: Site) -> str:
    return run("ip", "netns", "exec", site.host, "nft", "-a", "list", "ruleset").stdout


def _listing(site: Site) -> dict[str, Any]:
    """All of our tables but for the numbers that the kernel gave, in no order but that of rules."""
    shown = json.loads(run("ip", "netns", "exec", site.host, "nft", "-j", "list", "ruleset").stdout)
    found: dict[str, Any] = {}
    for item in shown["nftables"]:
        for kind, value in item.items():
            if kind == "metainfo":
                continue
            value.pop("handle", None)
            if kind == "rule":
                found.setdefault(f"{value['family']} {value['chain']} rules", []).append(value)
            else:
                value["elem"] = sorted(map(json.dumps, value.get("elem", [])))
                found[f"{kind} {value['family']} {value['name']}"] = value
    return found
