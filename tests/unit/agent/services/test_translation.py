"""Rules of translation as text, and which connections a change of them concerns."""

import re
from ipaddress import IPv4Address, ip_address, ip_network
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from viaduct_agent.services.translation import Rules, table, translations
from viaduct_common.messages.services.specs import EipRule, PortForwardingRule

PUBLIC, PRIVATE = IPv4Address("203.0.113.3"), IPv4Address("10.0.0.5")
INSIDE = (ip_network("10.0.0.0/24"),)


@st.composite
def forwardings(draw: st.DrawFn) -> PortForwardingRule:
    size = draw(st.integers(0, 20))
    start, private = draw(st.integers(1, 65535 - size)), draw(st.integers(1, 65535 - size))
    return PortForwardingRule(
        rule_uuid=UUID(int=draw(st.integers(0, 2**64))),
        protocol=draw(st.sampled_from(["TCP", "UDP"])),
        public_ip=PUBLIC, public_start=start, public_end=start + size, private_ip=PRIVATE, private_start=private,
        allowed_cidr=draw(st.none() | st.just(ip_network("198.51.100.0/24"))),
    )  # fmt: skip


eips = st.tuples(st.uuids(), st.integers(1, 5), st.integers(1, 5)).map(
    lambda one: EipRule(
        eip_uuid=one[0], public_ip=ip_address(f"203.0.113.{one[1]}"), private_ip=ip_address(f"10.0.0.{one[2]}")
    )
)


@given(rule=forwardings())
def test_every_public_port_has_its_own_private_port(rule: PortForwardingRule) -> None:
    """In order, and no other port is translated."""
    (line,) = [line for line in table(Rules(INSIDE, forwardings=(rule,))).body.splitlines() if "dport" in line]
    assert line.startswith(f"ip daddr {PUBLIC} ")
    assert ("ip saddr 198.51.100.0/24" in line) == (rule.allowed_cidr is not None)
    ports = rule.protocol.lower()
    shift = rule.private_start - rule.public_start
    if shift == 0:
        assert line.endswith(f"dnat ip to {PRIVATE}")
    elif rule.public_start == rule.public_end:
        assert line.endswith(f"{ports} dport {rule.public_start} dnat ip to {PRIVATE}:{rule.private_start}")
    else:
        assert f"{ports} dport {rule.public_start}-{rule.public_end} " in line
        pairs = {int(a): int(b) for a, b in re.findall(r"(\d+) : (\d+)", line.partition("map")[2])}
        assert pairs == {port: port + shift for port in range(rule.public_start, rule.public_end + 1)}


@given(before=st.lists(forwardings(), max_size=4), after=st.lists(forwardings(), max_size=4), kept=forwardings())
def test_only_what_changed_is_forgotten(
    before: list[PortForwardingRule], after: list[PortForwardingRule], kept: PortForwardingRule
) -> None:
    """A rule that stays keeps its connections, whatever its uuid."""
    old = translations((), [*before, kept], [])
    new = translations((), [*after, kept.model_copy(update={"rule_uuid": UUID(int=1)})], [])
    assert not translations((), [kept], []) & (old ^ new)


@given(rules=st.lists(eips, max_size=4))
def test_without_rules_nobody_gets_out_and_nothing_in(rules: list[EipRule]) -> None:
    """The filter lets pass who has a public address, and otherwise drops."""
    body = table(Rules(INSIDE, eips=tuple(rules))).body
    accepts = [line for line in body.splitlines() if line.startswith('iifname "inside" ip saddr')]
    assert bool(accepts) == bool(rules)
    assert "hook forward priority filter; policy drop;" in body
    assert "hook input priority filter; policy drop;" in body
    assert 'iifname "inside" ip saddr @inside4 accept' in table(Rules(INSIDE, snat=(PUBLIC,))).body


def test_the_same_rules_have_the_same_digest_in_any_order() -> None:
    """Or a table would be replaced for nothing."""
    one = EipRule(eip_uuid=UUID(int=1), public_ip=PUBLIC, private_ip=PRIVATE)
    two = EipRule(eip_uuid=UUID(int=2), public_ip=ip_address("203.0.113.4"), private_ip=ip_address("10.0.0.6"))
    assert table(Rules(INSIDE, eips=(one, two))).digest == table(Rules(INSIDE, eips=(two, one))).digest
    assert table(Rules(INSIDE, eips=(one,))).digest != table(Rules(INSIDE, eips=(two,))).digest
