"""Services by the whole agent: its process in a host, a real broker and kernel, a plugin's kind of service."""

import json
import shutil
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from lab import Host, Lab

from local_stack.broker import Broker
from viaduct_common.digest import holdings_digest
from viaduct_common.messages.agent import HostHeartbeat, HostHello, L2Desired, RealizeL2Command, ReleaseL2Command
from viaduct_common.messages.l2 import L2NetworkInventory
from viaduct_common.messages.services.commands import (
    ApplyServicesCommand,
    CheckServicesCommand,
    RemoveServicesCommand,
    ServiceDesired,
    ServiceDrift,
    SyncServicesCommand,
)

from .commanding import managing, start_agent

pytestmark = [pytest.mark.lab, pytest.mark.slow]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


@pytest.fixture
def host(tmp_path: Path, broker: Broker) -> Iterator[Host]:
    with Lab(f"services-{uuid4().hex[:6]}", tmp_path / "lab") as lab:
        lab.forward(5672, f"127.0.0.1:{broker.port}")
        yield lab.start_hosts(["a"], kind="netns")[0]


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    """A folder that has the plugin installed."""
    folder = tmp_path / "plugins"
    facts = folder / "leg-0.1.dist-info"
    facts.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("leg_service.py"), folder)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: leg\nVersion: 0.1\n")
    (facts / "entry_points.txt").write_text("[viaduct.service_backends]\nleg = leg_service:LegBackend\n")
    return folder


def leg(uuid: UUID, generation: int = 1, **spec: Any) -> ServiceDesired:
    return ServiceDesired(service_uuid=uuid, kind="leg", generation=generation, spec={"mtu": 1400, **spec})


def mtu_of(host: Host, uuid: UUID) -> int | None:
    links: list[dict[str, Any]] = json.loads(host.run("ip -j link show").stdout)
    return next((link["mtu"] for link in links if link["ifname"] == f"leg{uuid.hex[:8]}"), None)


async def test_services_through_an_agents_life(host: Host, broker: Broker, plugins: Path) -> None:
    """Told of, applied, compared, mended at once, adopted after a kill, unproven until a sync, which removes the
    rest; what serves stays when the agent ends."""
    one, other = uuid4(), uuid4()
    async with managing(broker) as manager:
        await manager.enrol()
        agent = start_agent(host, manager.host_uuid, python_path=plugins)
        hello = await manager.hears(HostHello)
        assert "service/leg" in hello.capabilities
        assert hello.services == []
        done = await manager.answer_of_services(ApplyServicesCommand(items=[leg(one), leg(other)]))
        assert [item.outcome for item in done.items] == ["done", "done"]
        held = holdings_digest([(one, 1), (other, 1)])
        await manager.hears(HostHeartbeat, lambda beat: (beat.services_digest, beat.services_held) == (held, 2))

        host.run(f"ip link set leg{one.hex[:8]} mtu 1300")
        drift = await manager.hears(ServiceDrift)
        assert (drift.service_uuid, drift.repaired, drift.session_id) == (one, True, hello.session_id)
        assert [(found.attribute, found.actual) for found in drift.differences] == [("mtu", 1300)]
        assert mtu_of(host, one) == 1400
        host.run(f"ip link del leg{other.hex[:8]}")
        await manager.hears(ServiceDrift, lambda told: told.service_uuid == other)
        assert mtu_of(host, other) == 1400

        agent.stop(signal.SIGKILL)
        host.run(f"ip link set leg{one.hex[:8]} mtu 1300")
        again = start_agent(host, manager.host_uuid, python_path=plugins)
        reborn = await manager.hears(HostHello, lambda told: told.session_id != hello.session_id)
        assert {(held.service_uuid, held.generation) for held in reborn.services} == {(one, 1), (other, 1)}
        assert reborn.holds == []
        beat = await manager.hears(HostHeartbeat, lambda beat: beat.session_id == reborn.session_id)
        assert beat.services_digest != held
        checked = await manager.answer_of_services(CheckServicesCommand(items=[leg(one)]))
        assert checked.items[0].status == "drifted"
        synced = await manager.answer_of_services(SyncServicesCommand(items=[leg(one)]))
        assert synced.removed == [other]
        assert len(synced.items[0].changes) == 1
        assert (mtu_of(host, one), mtu_of(host, other)) == (1400, None)
        await manager.hears(HostHeartbeat, lambda beat: beat.services_digest == holdings_digest([(one, 1)]))

        again.stop(signal.SIGTERM)
        assert again.exit_status() == 0
        assert mtu_of(host, one) == 1400


async def test_a_service_and_its_bridge_keep_the_order(host: Host, broker: Broker, plugins: Path) -> None:
    """Without its bridge it fails and is tried again; with it, the bridge stays until it is gone."""
    one, now = uuid4(), datetime(2026, 1, 1, tzinfo=UTC)
    net = L2NetworkInventory(
        uuid=uuid4(), name="net", zone_uuid=uuid4(), physical_interface="eth1", type="L2NoVlanNetwork", mtu=1500,
        bridge_name="br_eth1", device_names=["br_eth1"], created_at=now, updated_at=now,
    )  # fmt: skip
    plugged = leg(one, bridge="br_eth1")
    async with managing(broker) as manager:
        await manager.enrol()
        start_agent(host, manager.host_uuid, python_path=plugins)
        early = (await manager.answer_of_services(ApplyServicesCommand(items=[plugged]))).items[0]
        assert early.error is not None
        assert early.error.code == "PRECONDITION_FAILED"
        await manager.answer(RealizeL2Command(items=[L2Desired(generation=1, l2_network=net)]))
        assert (await manager.answer_of_services(ApplyServicesCommand(items=[plugged]))).items[0].outcome == "done"

        release = ReleaseL2Command(items=[L2Desired(generation=2, l2_network=net)])
        refused = (await manager.answer(release)).items[0]
        assert refused.error is not None
        assert (refused.error.code, refused.error.details["ports"]) == ("IN_USE", [f"leg{one.hex[:8]}"])
        gone = await manager.answer_of_services(RemoveServicesCommand(items=[leg(one, 2)]))
        assert gone.items[0].outcome == "done"
        assert (await manager.answer(release)).items[0].outcome == "done"
