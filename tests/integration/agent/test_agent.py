"""The whole agent: its process in a host, a real broker, and this test for a manager."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar
from uuid import UUID, uuid4

import pytest
from contract.plain import Plain
from lab import Host, Lab, Program

from local_stack.broker import Broker
from local_stack.hosts import agent_command
from viaduct_common import topology
from viaduct_common.bus import Bus, Delivery, Outgoing
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
from viaduct_common.messages.base import Command, Report
from viaduct_common.messages.l2 import L2NetworkInventory

pytestmark = [pytest.mark.lab, pytest.mark.slow]
R = TypeVar("R", bound=Report)
REPORTS: dict[str, type[Report]] = {
    kind.message_type: kind for kind in (Completion, HostHello, HostHeartbeat, HostDrift)
}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


@pytest.fixture
def host(tmp_path: Path, broker: Broker) -> Iterator[Host]:
    with Lab(f"agent-{uuid4().hex[:6]}", tmp_path / "lab") as lab:
        lab.forward(5672, f"127.0.0.1:{broker.port}")
        yield lab.start_hosts(["a"], kind="netns")[0]


class Manager:
    """Enrols a host, commands it, and reads what it says."""

    def __init__(self, bus: Bus, broker: Broker, host_uuid: UUID) -> None:
        self.bus = bus
        self.broker = broker
        self.host_uuid = host_uuid
        self.said: list[tuple[Report, Delivery]] = []
        self.news = asyncio.Condition()

    async def on_delivery(self, delivery: Delivery) -> None:
        if delivery.user_id != str(self.host_uuid):
            return  # the agent of an earlier test
        async with self.news:
            self.said.append((REPORTS[delivery.type].from_json(delivery.body), delivery))
            self.news.notify_all()

    async def enrol(self) -> None:
        """As little as works: its own queue to read, its own keys to write."""
        user, queue = str(self.host_uuid), topology.agent_queue(self.host_uuid)
        arguments = topology.agent_queue_arguments()
        await self.bus.declare_queue(queue, arguments, topology.COMMANDS, [topology.command_key(self.host_uuid)])
        for command in (
            ["add_user", user, "hush"],
            ["set_permissions", "-p", "viaduct", user, "^$", "^viaduct\\.agents$", f"^{queue}$"],
            ["set_topic_permissions", "-p", "viaduct", user, "viaduct.agents", f"^(completion|report)\\.{user}$", "^$"],
        ):
            await asyncio.to_thread(self.broker.ctl, *command)

    async def send(self, command: Command | bytes, message_type: str = "") -> UUID:
        body = command if isinstance(command, bytes) else command.to_json()
        kind = command.message_type if isinstance(command, Command) else message_type
        message = Outgoing(topology.COMMANDS, topology.command_key(self.host_uuid), kind, body)
        await self.bus.publish(message)
        return message.message_id

    async def hears(self, kind: type[R], condition: Callable[[R], bool] = lambda _: True) -> R:
        def find() -> R | None:
            for report, _ in self.said:
                if isinstance(report, kind) and condition(report):
                    return report
            return None

        async with asyncio.timeout(40), self.news:
            await self.news.wait_for(lambda: find() is not None)
        found = find()
        assert found is not None
        return found

    async def answer(self, command: Command) -> Completion:
        command_id = await self.send(command)
        return await self.hears(Completion, lambda one: one.command_id == command_id)


@asynccontextmanager
async def managing(broker: Broker) -> AsyncIterator[Manager]:
    async with Bus(broker.amqp_url(), name="test") as bus:
        await bus.ready()
        manager = Manager(bus, broker, uuid4())
        async with bus.consume(topology.AGENTS_QUEUE, manager.on_delivery):
            yield manager


def start_agent(host: Host, host_uuid: UUID, *, python_path: Path | None = None) -> Program:
    (host.directory / "password").write_text("hush")
    settings = {
        "host_uuid": str(host_uuid),
        "amqp_url": "amqp://10.77.0.1:5672/viaduct",
        "password_file": "/run/host/password",
        "heartbeat_seconds": 0.3,
        "log_format": "json",
    }
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
    (host.directory / "agent.toml").write_text(text)
    environment = [] if python_path is None else ["env", f"PYTHONPATH={python_path}"]
    return host.spawn([*environment, *agent_command()], log="agent.log")


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
