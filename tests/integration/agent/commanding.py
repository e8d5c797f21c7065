"""This test for a manager: it enrols a host, commands the agent that runs there, and hears what it says."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar
from uuid import UUID, uuid4

from lab import Host, Program

from local_stack.broker import Broker
from local_stack.hosts import agent_command
from viaduct_common import topology
from viaduct_common.bus import Bus, Delivery, Outgoing
from viaduct_common.messages.agent import Completion, HostDrift, HostHeartbeat, HostHello
from viaduct_common.messages.base import Command, Report
from viaduct_common.messages.services.commands import ServiceCompletion, ServiceDrift

R = TypeVar("R", bound=Report)
REPORTS: dict[str, type[Report]] = {
    kind.message_type: kind
    for kind in (Completion, HostHello, HostHeartbeat, HostDrift, ServiceCompletion, ServiceDrift)
}


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

    async def answer_of_services(self, command: Command) -> ServiceCompletion:
        command_id = await self.send(command)
        return await self.hears(ServiceCompletion, lambda one: one.command_id == command_id)


@asynccontextmanager
async def managing(broker: Broker) -> AsyncIterator[Manager]:
    async with Bus(broker.amqp_url(), name="test") as bus:
        await bus.ready()
        manager = Manager(bus, broker, uuid4())
        async with bus.consume(topology.AGENTS_QUEUE, manager.on_delivery):
            yield manager


def start_agent(host: Host, host_uuid: UUID, *, python_path: Path | None = None) -> Program:
    (host.directory / "password").write_text("hush")
    settings: dict[str, float | str] = {
        "host_uuid": str(host_uuid),
        "amqp_url": "amqp://10.77.0.1:5672/viaduct",
        "password_file": "/run/host/password",
        "heartbeat_seconds": 0.3,
        "log_format": "json",
        "state_dir": "/run/viaduct-agent",
    }
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
    (host.directory / "agent.toml").write_text(text)
    environment = [] if python_path is None else ["env", f"PYTHONPATH={python_path}"]
    return host.spawn([*environment, *agent_command()], log="agent.log")
