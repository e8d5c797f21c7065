"""Digest, plugins, roles, topology, field paths."""

import random
from importlib.metadata import EntryPoint
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viaduct_common import plugins, topology
from viaduct_common.bus.intake import field_path
from viaduct_common.digest import holdings_digest
from viaduct_common.errors import Forbidden
from viaduct_common.messages.base import Role
from viaduct_common.messages.host import CreateHost
from viaduct_common.messages.registry import IPAM_REQUESTS, MANAGER_REQUESTS
from viaduct_common.messages.zone import CreateZone, GetZone
from viaduct_common.roles import RolePolicy

holdings = st.dictionaries(st.uuids(), st.integers(0, 2**63 - 1), max_size=20)


@given(held=holdings, seed=st.integers())
def test_digest_does_not_depend_on_the_order(held: dict[UUID, int], seed: int) -> None:
    """Manager and agent keep them in different orders."""
    pairs = list(held.items())
    random.Random(seed).shuffle(pairs)

    assert holdings_digest(pairs) == holdings_digest(held.items())


@given(one=holdings, two=holdings)
def test_digest_tells_different_holdings_apart(one: dict[UUID, int], two: dict[UUID, int]) -> None:
    """One network or one generation is enough."""
    assert (holdings_digest(one.items()) == holdings_digest(two.items())) == (one == two)


def test_digest_is_the_same_in_every_release() -> None:
    """An old agent and a new manager compare them."""
    assert holdings_digest([]) == "e3b0c44298fc1c149afbf4c8996fb924"
    assert holdings_digest([(UUID(int=1), 7)]) == "dfa3c52769cb8401f5b957f208877cb5"


class One:
    key = "one"


class Other:
    key = "one"


def test_two_plugins_of_one_key_stop_the_start_and_are_named() -> None:
    """Neither wins by chance."""
    with pytest.raises(plugins.PluginError, match=r"one: .*\.One and .*\.Other"):
        plugins.registry((One(), Other()), lambda plugin: plugin.key)


def test_registry_cannot_be_changed() -> None:
    """It is loaded once."""
    found = plugins.registry((One(),), lambda plugin: plugin.key)

    with pytest.raises(TypeError):
        found["two"] = One()  # type: ignore[index]


@pytest.mark.parametrize("value", ["nowhere.at:all", "json:nothing"])
def test_plugin_that_does_not_load_is_named(value: str) -> None:
    """With its group, and why."""
    with pytest.raises(plugins.PluginError, match=rf"broken \({value}\) of group viaduct.test"):
        plugins._load(EntryPoint("broken", value, "viaduct.test"))


def test_built_in_l2_types_are_found_as_a_third_partys_would_be() -> None:
    """By entry point."""
    assert {plugin.l2_type for plugin in plugins.load_plugins("viaduct.l2_types")} >= {
        "L2NoVlanNetwork",
        "L2VlanNetwork",
    }


@pytest.mark.parametrize(("role", "allowed"), [(None, 0), ("reader", 1), ("operator", 2), ("admin", 3)])
def test_role_reaches_to_its_rank(role: Role | None, allowed: int) -> None:
    """Each may what those before it may; anonymous senders have a role of their own."""
    named = RolePolicy(None, {} if role is None else {"somebody": role})
    anonymous = RolePolicy(role, {"somebody": "admin"})
    for rank, request in enumerate((GetZone, CreateZone, CreateHost), start=1):
        for policy, user in ((named, "somebody"), (anonymous, None), (anonymous, "")):
            if rank <= allowed:
                policy.authorize(user, request)
            else:
                with pytest.raises(Forbidden):
                    policy.authorize(user, request)


def test_named_user_without_a_role_does_not_become_anonymous() -> None:
    """Who logs in as a stranger has less than who does not say who he is."""
    with pytest.raises(Forbidden):
        RolePolicy("admin", {}).authorize("stranger", GetZone)


def test_requests_that_change_nothing_need_a_reader_only() -> None:
    """And none that changes something does, but a batch's items."""
    for name, request in (MANAGER_REQUESTS | IPAM_REQUESTS).items():
        assert (request.required_role == "reader") == (not request.mutating), name


def test_user_of_a_host_is_known_by_one_spelling() -> None:
    """UUID takes braces, capitals and more; a broker user with such a name is somebody else."""
    host = uuid4()

    assert topology.host_of_user(topology.agent_username(host)) == host
    for name in (str(host).upper(), f"{{{host}}}", f"urn:uuid:{host}", host.hex, "viaduct-manager", "", f"{host}\n"):
        if name != str(host):
            assert topology.host_of_user(name) is None


@pytest.mark.parametrize(
    ("loc", "given", "expected"),
    [
        (("name",), {}, "name"),
        (("name", "constrained-str"), {"name": 5}, "name"),
        (("filters", "name", "list[constrained-str]", 1), {"filters": {"name": ["a", 5]}}, "filters.name.1"),
        (("requests", 0, "messageId"), {"requests": [{}]}, "requests.0.messageId"),
        ((), [], ""),
        (("dns", 2, "ip_v4_address", "str"), {"dns": ["::1", "::2", "x"]}, "dns.2"),
    ],
)  # fmt: skip
def test_path_of_a_field_has_no_names_of_branches(loc: tuple[int | str, ...], given: object, expected: str) -> None:
    """Only what its sender wrote, or should have."""
    assert field_path(loc, given) == expected
