"""The order in which a NIC's groups and rules are asked."""

from ipaddress import ip_address, ip_network
from uuid import UUID

from viaduct_agent.services.security.model import Address, Body, Group, Instance, Members, Nic, Rule, World
from viaduct_agent.services.security.verdicts import TCP, UDP, Flow, admitted

ONE, TWO, FAR = map(ip_address, ("10.0.0.1", "10.0.0.2", "192.0.2.1"))
FIRST, SECOND = UUID(int=1), UUID(int=2)
ALLOW = Rule("ingress", 4, "TCP", ((22, 22),))
DENY = Rule("ingress", 4, "TCP", ((1, 100),), allow=False)


def world(
    *groups: Group, order: tuple[UUID, ...] = (FIRST, SECOND), members: frozenset[Address] = frozenset()
) -> World:
    nic = Nic(UUID(int=9), "tap", "br", "02:00:00:00:00:01", frozenset({ONE}), order, frozenset({"egress"}), True)
    bodies: list[Body] = [nic, *groups, Members(SECOND, 0, members)]
    return World({UUID(int=100 + at): Instance("any", 1, body) for at, body in enumerate(bodies)})


def flow(port: int = 22, *, source: str = "192.0.2.1", bridge: str | None = None) -> Flow:
    return Flow(TCP, ip_address(source), ONE, (4000, port), bridge)


def test_the_first_rule_that_matches_decides() -> None:
    assert admitted(flow(), world(Group(FIRST, (ALLOW, DENY))))
    assert not admitted(flow(), world(Group(FIRST, (DENY, ALLOW))))


def test_groups_are_asked_in_the_nics_order() -> None:
    groups = Group(FIRST, (ALLOW,)), Group(SECOND, (DENY,))
    assert admitted(flow(), world(*groups))
    assert not admitted(flow(), world(*groups, order=(SECOND, FIRST)))


def test_the_policy_decides_what_no_rule_does() -> None:
    assert not admitted(flow(200), world(Group(FIRST, (ALLOW, DENY))))
    assert admitted(Flow(UDP, ONE, FAR, (1, 2)), world(Group(FIRST, (ALLOW,))))


def test_a_group_without_rules_yet_says_nothing_and_no_group_lets_all_pass() -> None:
    assert not admitted(flow(), world())
    assert admitted(flow(), world(order=()))


def test_a_remote_group_is_its_members_and_networks_are_theirs() -> None:
    remote = Rule("ingress", 4, "ALL", group=SECOND)
    assert admitted(flow(), world(Group(FIRST, (remote,)), members=frozenset({FAR})))
    assert not admitted(flow(), world(Group(FIRST, (remote,)), members=frozenset({TWO})))
    near = Rule("ingress", 4, "ALL", networks=frozenset({ip_network("10.0.0.0/8")}))
    assert admitted(flow(source="10.0.0.2"), world(Group(FIRST, (near,))))
    assert not admitted(flow(), world(Group(FIRST, (near,))))


def test_another_bridges_flow_is_no_business_of_the_nic() -> None:
    assert admitted(flow(bridge="another"), world())
    assert not admitted(flow(bridge="br"), world())
