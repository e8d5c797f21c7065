"""What the tables say."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from rich.console import RenderableType

from viaduct_common.messages.l2 import L2NetworkInventory
from viaduct_common.messages.operation import OperationInventory
from viaduct_console import tables
from viaduct_console.overview import Overview

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
Printed = Callable[[RenderableType], str]


def test_status_shows_hosts_networks_and_operations(overview: Overview, printed: Printed) -> None:
    """One look: where each host stands, what is realized where and why not elsewhere, what runs."""
    text = printed(tables.overview_view(overview, NOW))

    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "host1 cluster1 connected 1.0 s ago 1 of 1 ok" in lines
    assert "[red]host2 cluster1 disconnected 2 h ago 0 of 1 br_netfilter" in lines
    assert "blue L2VlanNetwork eth1 vlan 10 br_eth1_10 cluster1 1 realized" in lines
    assert "[red]host2 failed: BACKEND_FAILED, no eth1" in lines
    assert f"{UUID(int=9)} l2.attach blue cluster1 realize 5.0 s 55 s" in lines


@pytest.mark.parametrize(
    ("own_fields", "said"),
    [
        ({"vni": 7000, "vniRange": None, "udpPort": 4789}, "eth1 udpPort 4789 vni 7000"),
        ({"vni": None, "vniRange": {"endVni": 1000, "startVni": 999}}, "eth1 vniRange 999-1000"),
    ],
)
def test_place_of_a_network_says_the_fields_that_it_has(
    overview: Overview, own_fields: dict[str, object], said: str
) -> None:
    """Of a type with a choice of fields those that were chosen."""
    raw = json.loads(overview.l2_networks[0].to_json())
    del raw["vlan"]
    network = L2NetworkInventory.from_json(json.dumps({**raw, **own_fields}))

    assert tables.place_of(network) == said


def test_an_empty_fleet_is_said_in_words(printed: Printed) -> None:
    """No table without rows."""
    empty = Overview(clusters=[], hosts=[], l2_networks=[], realizations=[], running_operations=[])

    text = printed(tables.overview_view(empty, NOW))

    assert text.split("\n\n") == [
        "No host is registered.",
        "No L2 network exists.",
        "No operation is running.",
    ]


def test_maintenance_stands_beside_the_state(overview: Overview, printed: Printed) -> None:
    """A host in maintenance is connected all the same."""
    host = overview.hosts[0].model_copy(update={"maintenance": True})

    text = printed(tables.hosts_table(overview.model_copy(update={"hosts": [host]}), NOW))

    assert "connected, maintenance" in text


@pytest.mark.parametrize("state", ["running", "failed"])
def test_an_operation_shows_each_hosts_part(
    state: str, overview: Overview, printed: Printed, operation_of: Callable[[str], OperationInventory]
) -> None:
    """What was changed, and for a failure whose and why."""
    text = printed(tables.operation_view(operation_of(state), overview))

    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[0].startswith(f"l2.attach blue / cluster1 {state}")
    assert "host1 realize done 40 ms ip link add br_eth1_10" in lines
    assert ("BACKEND_FAILED: no eth1" in lines) == (state == "failed")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.04, "40 ms"), (1.0, "1.0 s"), (59.6, "60 s"), (600, "10 min"), (7200, "2 h"), (1e6, "12 days"), (-5, "-5.0 s")],
)
def test_a_duration_is_said_shortly(value: float, text: str) -> None:
    """Never more than two digits that matter."""
    assert tables.seconds(value) == text


def test_ages() -> None:
    """A clock that is a little behind makes no negative age."""
    assert tables.age(None, NOW) == "never"
    assert tables.age(NOW + timedelta(seconds=1), NOW) == "0 ms ago"
