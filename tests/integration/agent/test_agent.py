"""The whole agent: its process in a host, a real broker, and this test for a manager."""

import asyncio
import json
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from contract.plain import Plain
from lab import Host, Lab

from local_stack.broker import Broker
from viaduct_common import topology
from viaduct_common.digest import holdings_digest
from viaduct_common.messages.agent import (
    Completion,
    HostDrift,
    HostHeartbeat,
    HostHello,
    L2Desired,
    RealizeL2Command,
    SyncHostCommand,
)
from viaduct_common.messages.l2 import L2NetworkInventory

from .commanding import managing, start_agent

pytestmark = [pytest.mark.lab, pytest.mark.slow]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


@pytest.fixture
def host(tmp_path: Path, broker: Broker) -> Iterator[Host]:
    with Lab(f"agent-{uuid4().hex[:6]}", tmp_path / "lab") as lab:
        lab.forward(5672, f"127.0.0.1:{broker.port}")
        yield lab.start_hosts(["a"], kind="netns")[0]


def network() -> L2NetworkInventory:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return L2NetworkInventory(
        uuid=uuid4(), name="net", zone_uuid=uuid4(), physical_interface="eth1", type="L2NoVlanNetwork", mtu=1500,
        bridge_name="br_eth1", device_names=["br_eth1"], created_at=now, updated_at=now,
    )  # fmt: skip


async def test_an_agents_life(host: Host, broker: Broker) -> None:
    """Started before its broker knows it; realizes, repairs, stops, comes back, converges; buries what is malformed."""
    async with managing(broker) as manager:
        agent = start_agent(host, manager.host_uuid)
        await asyncio.sleep(2)  # refused by the broker meanwhile
        assert agent.exit_status() is None
        await manager.enrol()
        hello = await manager.hears(HostHello)
        assert {"L2NoVlanNetwork", "L2VlanNetwork"} <= set(hello.capabilities)
        assert "eth1" in {fact.name for fact in hello.interfaces}
        assert {fact.name: fact.ok for fact in hello.health}["drift_storm"]

        net = network()
        desired = L2Desired(generation=1, l2_network=net)
        done = await manager.answer(RealizeL2Command(items=[desired]))
        assert [item.outcome for item in done.items] == ["done"]
        assert json.loads(host.run("ip -j link show dev eth1").stdout)[0]["master"] == "br_eth1"
        held = holdings_digest([(net.uuid, 1)])
        await manager.hears(HostHeartbeat, lambda beat: beat.digest == held)

        host.run("ip link del br_eth1")
        drift = await manager.hears(HostDrift)
        assert (drift.l2_network_uuid, drift.repaired) == (net.uuid, True)

        await manager.send(b"{", "l2.realize")  # nobody answers, and nothing is blocked
        agent.stop(signal.SIGTERM)
        assert agent.exit_status() == 0
        assert json.loads(host.run("ip -j link show dev eth1").stdout)[0]["master"] == "br_eth1"  # stays up

        again = start_agent(host, manager.host_uuid)
        reborn = await manager.hears(HostHello, lambda one: one.session_id != hello.session_id)
        assert [(one.l2_network_uuid, one.generation) for one in reborn.holds] == [(net.uuid, 1)]
        unproven = await manager.hears(HostHeartbeat, lambda beat: beat.session_id == reborn.session_id)
        assert unproven.digest != held
        assert (await manager.answer(SyncHostCommand(items=[desired]))).items[0].changes == []
        await manager.hears(
            HostHeartbeat, lambda beat: beat.session_id == reborn.session_id and beat.digest == held
        )  # fmt: skip
        assert (await manager.answer(SyncHostCommand(items=[]))).released == [net.uuid]
        again.stop(signal.SIGTERM)
        assert again.exit_status() == 0
    async with Plain(broker.amqp_url()) as plain:
        buried = await plain.buried(lambda one: one.body == b"{")
    assert buried.headers["x-death"][0]["queue"] == topology.agent_queue(manager.host_uuid)


async def test_a_killed_agent_leaves_nothing_undone(host: Host, broker: Broker) -> None:
    """The command is not acked before its completion is confirmed, so the next agent gets it again."""
    async with managing(broker) as manager:
        await manager.enrol()
        agent = start_agent(host, manager.host_uuid)
        await manager.hears(HostHello)
        command_id = await manager.send(RealizeL2Command(items=[L2Desired(generation=1, l2_network=network())]))
        agent.stop(signal.SIGKILL)
        start_agent(host, manager.host_uuid)
        done = await manager.hears(Completion, lambda one: one.command_id == command_id)
        assert done.items[0].outcome == "done"
        assert json.loads(host.run("ip -j link show dev eth1").stdout)[0]["master"] == "br_eth1"


async def test_a_plugins_networks_are_built_and_looked_after_as_any_others(
    host: Host, broker: Broker, installed_plugin: Path
) -> None:
    """Also its kind of link: told of in the hello, realized, repaired, found again after a restart, released."""
    async with managing(broker) as manager:
        await manager.enrol()
        agent = start_agent(host, manager.host_uuid, python_path=installed_plugin)
        hello = await manager.hears(HostHello)
        assert {"L2MacvtapNetwork", "L2MacvtapNetwork/macvtap"} <= set(hello.capabilities)
        own = {"type": "L2MacvtapNetwork", "bridgeName": "", "deviceNames": ["mvl_eth1"], "mode": "private"}
        net = L2NetworkInventory.model_validate({**network().model_dump(mode="json"), **own})
        desired = L2Desired(generation=1, l2_network=net)
        done = await manager.answer(RealizeL2Command(items=[desired]))
        assert [item.outcome for item in done.items] == ["done"]

        host.run("ip link set mvl_eth1 type macvlan mode bridge")
        drift = await manager.hears(HostDrift)
        assert [(one.attribute, one.actual) for one in drift.differences] == [("mode", "bridge")]
        agent.stop(signal.SIGKILL)
        again = start_agent(host, manager.host_uuid, python_path=installed_plugin)
        reborn = await manager.hears(HostHello, lambda one: one.session_id != hello.session_id)
        assert [(one.l2_network_uuid, one.generation) for one in reborn.holds] == [(net.uuid, 1)]
        assert (await manager.answer(SyncHostCommand(items=[desired]))).items[0].changes == []
        assert (await manager.answer(SyncHostCommand(items=[]))).released == [net.uuid]
        assert "mvl_eth1" not in host.run("ip -br link").stdout
        again.stop(signal.SIGTERM)
        assert again.exit_status() == 0
