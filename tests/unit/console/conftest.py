"""An overview of a small fleet, and a way to see what is printed."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import StringIO
from uuid import UUID

import pytest
from rich.console import Console, RenderableType

from viaduct_common.messages.base import ErrorBody
from viaduct_common.messages.cluster import ClusterInventory
from viaduct_common.messages.host import HostInventory
from viaduct_common.messages.l2 import L2NetworkInventory
from viaduct_common.messages.operation import OperationInventory, OperationStep
from viaduct_common.messages.realization import RealizationInventory
from viaduct_console.overview import Overview

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
ZONE, CLUSTER, HOST1, HOST2, BLUE = (UUID(int=number) for number in range(1, 6))


@pytest.fixture
def printed() -> Callable[[RenderableType], str]:
    """What a wide terminal without colours shows, line ends cleaned."""

    def render(view: RenderableType) -> str:
        console = Console(file=StringIO(), width=160, force_terminal=False)
        console.print(view)
        assert isinstance(console.file, StringIO)
        return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())

    return render


@pytest.fixture
def overview() -> Overview:
    """Two hosts, one of them lost; a network that is realized on the other only; an attach that runs."""
    dates = {"created_at": NOW, "updated_at": NOW}
    return Overview(
        clusters=[
            ClusterInventory(
                uuid=CLUSTER, zone_uuid=ZONE, name="cluster1", hypervisor_type="KVM", revision=1, **dates
            )
        ],
        hosts=[_host(HOST1, "host1", "connected", 1.0), _host(HOST2, "[red]host2", "disconnected", 7200.0)],
        l2_networks=[
            L2NetworkInventory.model_validate(
                {
                    "uuid": BLUE, "name": "blue", "zone_uuid": ZONE, "physical_interface": "eth1",
                    "type": "L2VlanNetwork", "attached_cluster_uuids": [CLUSTER], "mtu": 1500,
                    "bridge_name": "br_eth1_10", "vlan": 10, **dates,
                }
            )
        ],
        realizations=[_realization(HOST1, "realized"), _realization(HOST2, "failed")],
        running_operations=[operation("running")],
    )  # fmt: skip


def _host(uuid: UUID, name: str, state: str, seen_seconds_ago: float) -> HostInventory:
    return HostInventory(
        uuid=uuid,
        cluster_uuid=CLUSTER,
        name=name,
        state=state,
        health=[{"name": "br_netfilter", "ok": state == "connected"}],
        last_seen_at=NOW - timedelta(seconds=seen_seconds_ago),
        revision=1,
        created_at=NOW,
        updated_at=NOW,
    )


def _realization(host: UUID, state: str) -> RealizationInventory:
    error = ErrorBody(code="BACKEND_FAILED", message="no eth1") if state == "failed" else None
    return RealizationInventory(
        l2_network_uuid=BLUE, host_uuid=host, desired="present", generation=1, state=state, error=error, since=NOW
    )


def operation(state: str) -> OperationInventory:
    """An attach of blue to cluster1: done by host1, refused by host2 unless it runs."""
    ended = state != "running"
    error = ErrorBody(code="BACKEND_FAILED", message="no eth1") if state == "failed" else None
    steps = [
        OperationStep(
            host_uuid=HOST1, phase="realize", state="done", changes=["ip link add br_eth1_10"],
            started_at=NOW, finished_at=NOW + timedelta(milliseconds=40),
        ),
        OperationStep(
            host_uuid=HOST2, phase="realize", state="failed" if error else "pending", error=error,
            started_at=NOW + timedelta(milliseconds=1), finished_at=NOW if ended else None,
        ),
    ]  # fmt: skip
    return OperationInventory(
        uuid=UUID(int=9),
        type="l2.attach",
        state=state,
        phase="ended" if ended else "realize",
        l2_network_uuid=BLUE,
        cluster_uuid=CLUSTER,
        error=error,
        steps=steps,
        created_at=NOW - timedelta(seconds=5),
        deadline_at=NOW + timedelta(seconds=55),
        finished_at=NOW if ended else None,
    )


@pytest.fixture
def operation_of() -> Callable[[str], OperationInventory]:
    """Make an operation in a state."""
    return operation
