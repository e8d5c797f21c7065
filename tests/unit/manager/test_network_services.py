"""The deciding parts of network services: rules of attaching, what differs, what fits into a message."""

import json
from ipaddress import ip_address, ip_network
from typing import Any
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from viaduct_common.errors import InvalidRequest, PreconditionFailed, ServiceConflict
from viaduct_common.messages.base import ErrorBody
from viaduct_common.messages.l3 import L3HostRoute
from viaduct_common.messages.services.commands import (
    ApplyServicesCommand,
    CheckServicesCommand,
    RemoveServicesCommand,
    ServiceDesired,
    SyncServicesCommand,
)
from viaduct_manager import service_orders
from viaduct_manager.model.attaching import Offer, check_offers, check_rivals, field_below, wanted_types
from viaduct_manager.model.l3_options import check_dns, check_host_routes, check_mtu
from viaduct_manager.model.nic_defaults import Candidate, choose_default
from viaduct_manager.model.retries import SERVICE_CODES, retry_after_seconds
from viaduct_manager.model.service_plan import Told, plan
from viaduct_manager.network_services.api import ServiceKey

HOSTS = [UUID(int=number) for number in range(1, 6)]
PROVIDERS = [UUID(int=number) for number in range(100, 103)]
TYPES = ["DHCP", "DNS", "SNAT", "EIP"]

specs = st.dictionaries(st.sampled_from(["a", "b"]), st.integers(0, 2), max_size=2)
wanted_strategy = st.dictionaries(st.sampled_from(HOSTS), specs)
told_strategy = st.lists(
    st.builds(Told, host_uuid=st.sampled_from(HOSTS), present=st.booleans(), spec=specs, untold=st.booleans()),
    unique_by=lambda one: one.host_uuid,
)


# ---- what differs ------------------------------------------------------------------------------------------------


@given(wanted=wanted_strategy, told=told_strategy, leaving=st.sets(st.sampled_from(HOSTS)))
def test_hosts_have_what_should_be_once_they_did_what_differs(
    wanted: dict[UUID, Any], told: list[Told], leaving: set[UUID]
) -> None:
    """And nothing differs after that."""
    made = plan(wanted, told, leaving)
    after = {one.host_uuid: one for one in told if one.host_uuid not in made.forget}
    after |= {uuid: Told(uuid, True, spec) for uuid, spec in made.present.items()}
    after |= {uuid: Told(uuid, False, after[uuid].spec) for uuid in made.absent}

    has = {uuid: dict(one.spec) for uuid, one in after.items() if one.present}
    assert has == {uuid: spec for uuid, spec in wanted.items() if uuid not in leaving}
    assert not plan(wanted, after.values(), leaving).hosts


@given(wanted=wanted_strategy, told=told_strategy)
def test_no_host_is_told_what_it_was_told_before(wanted: dict[UUID, Any], told: list[Told]) -> None:
    made = plan(wanted, told)
    for one in told:
        if one.present and wanted.get(one.host_uuid) == one.spec:
            assert one.host_uuid not in {*made.present, *made.absent, *made.forget}
        if not one.present and one.host_uuid not in wanted:
            assert one.host_uuid not in {*made.present, *made.absent, *made.forget}


@given(told=told_strategy)
def test_host_that_never_heard_of_it_is_not_asked_to_remove_it(told: list[Told]) -> None:
    made = plan({}, told)
    assert made.forget == {one.host_uuid for one in told if one.present and one.untold}
    assert made.absent == {one.host_uuid for one in told if one.present and not one.untold}


def test_key_is_the_same_everywhere_and_for_nothing_else() -> None:
    subject = UUID(int=7)
    uuids = {ServiceKey(kind, subject, part).uuid for kind in ("flat", "router") for part in (0, 1)}
    assert len(uuids | {ServiceKey("flat", UUID(int=8)).uuid}) == 5


# ---- rules of attaching ------------------------------------------------------------------------------------------

asked_strategy = st.dictionaries(st.sampled_from(PROVIDERS), st.lists(st.sampled_from(TYPES), min_size=1), min_size=1)


@given(asked=asked_strategy)
def test_one_provider_for_each_type_of_a_request(asked: dict[UUID, list[str]]) -> None:
    doubled = any(set(asked[one]) & set(asked[other]) for one in asked for other in asked if one != other)
    if doubled:
        with pytest.raises(ServiceConflict):
            wanted_types(asked)
    else:
        wanted = wanted_types(asked)
        assert set(wanted) == {name for types in asked.values() for name in types}
        assert all(name in asked[uuid] for name, uuid in wanted.items())


@given(asked=asked_strategy, offered=st.sets(st.sampled_from(TYPES)), associated=st.booleans())
def test_what_is_asked_for_is_offered_and_to_be_had(
    asked: dict[UUID, list[str]], offered: set[str], associated: bool
) -> None:
    assume(len(asked) == 1)
    wanted = wanted_types(asked)
    offers = {uuid: Offer("one", sorted(offered), associated) for uuid in asked}
    if associated and set(wanted) <= offered:
        check_offers(wanted, offers)
    else:
        with pytest.raises((InvalidRequest, PreconditionFailed)):
            check_offers(wanted, offers)


@given(asked=asked_strategy, there=st.dictionaries(st.sampled_from(TYPES), st.sampled_from(PROVIDERS)))
def test_rival_is_named(asked: dict[UUID, list[str]], there: dict[str, UUID]) -> None:
    assume(len(asked) == 1)
    wanted = wanted_types(asked)
    rivals = {name: uuid for name, uuid in there.items() if name in wanted and wanted[name] != uuid}
    attached = {name: (uuid, str(uuid)) for name, uuid in there.items()}
    if not rivals:
        check_rivals(wanted, attached)
        return
    with pytest.raises(ServiceConflict) as refusal:
        check_rivals(wanted, attached)
    details = refusal.value.details
    assert rivals[details["serviceType"]] == UUID(details["providerUuid"])


@pytest.mark.parametrize(
    ("below", "strip", "field"),
    [("DHCP.leaseSeconds", "", "config.DHCP.leaseSeconds"), ("DHCP.leaseSeconds", "DHCP", "config.leaseSeconds"),
     ("DHCP", "DHCP", "config"), ("", "", "config")],
)  # fmt: skip
def test_objection_to_a_config_names_its_place_in_the_request(below: str, strip: str, field: str) -> None:
    assert field_below("config", InvalidRequest.of_field(below, "no"), strip=strip).details["field"] == field


# ---- L3 networks and NICs ----------------------------------------------------------------------------------------


@given(mtu=st.none() | st.integers(68, 9216), l2_mtu=st.integers(68, 9216))
def test_mtu_is_at_most_the_l2_networks(mtu: int | None, l2_mtu: int) -> None:
    if mtu is None or mtu <= l2_mtu:
        check_mtu(mtu, l2_mtu)
    else:
        with pytest.raises(InvalidRequest):
            check_mtu(mtu, l2_mtu)


@given(servers=st.lists(st.integers(1, 6).map(ip_address), max_size=6))
def test_dns_servers_are_each_named_once(servers: list[Any]) -> None:
    if len(set(servers)) == len(servers):
        check_dns(servers)
    else:
        with pytest.raises(InvalidRequest):
            check_dns(servers)


PREFIXES = [ip_network("192.0.2.0/24"), ip_network("192.0.2.0/25"), ip_network("fd00::/64")]
HOPS = [ip_address("10.0.0.1"), ip_address("fd00::1")]


route_strategy = st.tuples(st.sampled_from(PREFIXES), st.sampled_from(HOPS)).map(
    lambda pair: L3HostRoute(prefix=pair[0], next_hop=pair[1])
)


@given(routes=st.lists(route_strategy))
def test_host_routes_are_unique_and_of_one_version_each(routes: list[L3HostRoute]) -> None:
    prefixes = [route.prefix for route in routes]
    good = len(set(prefixes)) == len(prefixes)
    good = good and all(route.prefix.version == route.next_hop.version for route in routes)
    if good:
        check_host_routes(routes)
    else:
        with pytest.raises(InvalidRequest):
            check_host_routes(routes)


@given(
    l3s=st.lists(st.integers(1, 3), min_size=1, max_size=5),
    former=st.none() | st.integers(0, 4),
    wanted=st.none() | st.integers(1, 4),
)
def test_default_nic_is_on_the_network_asked_for_and_stays_where_it_can(
    l3s: list[int], former: int | None, wanted: int | None
) -> None:
    nics = [Candidate(UUID(int=100 + i), UUID(int=l3), default=i == former) for i, l3 in enumerate(l3s)]
    asked = None if wanted is None else UUID(int=wanted)
    if wanted is not None and wanted not in l3s:
        with pytest.raises(InvalidRequest):
            choose_default(asked, nics)
        return
    chosen = next(nic for nic in nics if nic.uuid == choose_default(asked, nics))
    assert asked is None or chosen.l3_uuid == asked
    held = next((nic for nic in nics if nic.default), None)
    if held is not None and (asked is None or held.l3_uuid == asked):
        assert chosen == held


# ---- messages and retries ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [ApplyServicesCommand, RemoveServicesCommand, CheckServicesCommand, SyncServicesCommand]
)
@given(count=st.integers(1, 30), limit=st.integers(800, 6000), most=st.integers(1, 30))
def test_large_command_is_split_into_what_comes_to_the_same(
    kind: type[service_orders.AnyCommand], count: int, limit: int, most: int
) -> None:
    """Each part is small enough, or one item; a sync's first part lists what comes in the others."""
    items = [
        ServiceDesired(service_uuid=UUID(int=number), kind="flat", generation=number, spec={"text": "x" * 100})
        for number in range(1, count + 1)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service_orders.topology, "MAX_COMMAND_BYTES", limit)
        patch.setattr(service_orders, "MOST_ITEMS", most)
        parts = service_orders.split(kind(items=items))
    assert [item for part in parts for item in part.command.items] == items
    for part in parts:
        assert json.loads(part.body)["items"]
        is_sync = isinstance(part.command, SyncServicesCommand)
        assert is_sync or len(part.command.items) == 1 or len(part.body) <= limit
        assert len(part.command.items) <= max(1, most)
    if kind is SyncServicesCommand:
        first, *rest = parts
        assert isinstance(first.command, SyncServicesCommand)
        assert all(isinstance(part.command, ApplyServicesCommand) for part in rest)
        assert set(first.command.listed) == {item.service_uuid for part in rest for item in part.command.items}


def test_bridge_that_is_not_there_yet_is_waited_for_by_services_alone() -> None:
    error = ErrorBody(code="PRECONDITION_FAILED", message="x")
    assert retry_after_seconds(error, 0, releasing=False) is None
    assert retry_after_seconds(error, 0, releasing=False, transient=SERVICE_CODES) is not None
    never = ErrorBody(code="INVALID_REQUEST", message="x")
    assert retry_after_seconds(never, 0, releasing=False, transient=SERVICE_CODES) is None
