"""An agent that does as it is told by a test: the host's real credentials, the real messages, no kernel."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from uuid import UUID, uuid4

import aio_pika
from aio_pika.abc import AbstractIncomingMessage
from integration.manager.control_plane import HEARTBEAT_SECONDS, Place
from integration.manager.scripted_services import SERVICE_COMMANDS, ScriptedServices, ServiceCommand

from viaduct_common.digest import holdings_digest
from viaduct_common.errors import BackendFailed, ViaductError
from viaduct_common.messages.agent import (
    CheckL2Command,
    Completion,
    Held,
    HostHeartbeat,
    HostHello,
    InterfaceFact,
    ItemResult,
    L2Desired,
    ListOrphansCommand,
    Orphan,
    RealizeL2Command,
    ReleaseL2Command,
    SyncHostCommand,
)
from viaduct_common.messages.base import Report
from viaduct_common.messages.host import HostInventory
from viaduct_common.messages.services.commands import ServiceCompletion, ServiceDesired

L2Command = RealizeL2Command | ReleaseL2Command | CheckL2Command | SyncHostCommand | ListOrphansCommand
AnyCommand = L2Command | ServiceCommand
COMMANDS: dict[str, type[AnyCommand]] = {
    kind.message_type: kind
    for kind in (RealizeL2Command, ReleaseL2Command, CheckL2Command, SyncHostCommand, ListOrphansCommand)
} | SERVICE_COMMANDS
REALIZE, RELEASE, CHECK, SYNC, ORPHANS = "l2.realize", "l2.release", "l2.check", "host.sync", "host.orphans"


@dataclass(frozen=True)
class Heard:
    """A command as it came."""

    type: str
    command_id: UUID
    command: AnyCommand
    correlation_id: str | None

    @property
    def items(self) -> Sequence[L2Desired]:
        return [] if isinstance(self.command, ListOrphansCommand | ServiceCommand) else self.command.items

    @property
    def services(self) -> Sequence[ServiceDesired]:
        return self.command.items if isinstance(self.command, ServiceCommand) else []

    @property
    def networks(self) -> set[UUID]:
        return {item.l2_network.uuid for item in self.items}

    @property
    def generations(self) -> list[int]:
        return [item.generation for item in self.items]


@dataclass
class ScriptedAgent:
    """`errors` by command type: fail with it; `silent` and `doubled`: command types not answered, or twice.

    `mute` loses every completion, though the work is done. `stuck`: networks that it cannot release, with the reason;
    `orphans` is what it answers when it is asked for them. `addresses` are those of its interface,
    `capabilities` what it says that it can do.
    """

    place: Place
    host: HostInventory
    errors: dict[str, ViaductError] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    doubled: set[str] = field(default_factory=set)
    mute: bool = False
    stuck: dict[UUID, ViaductError] = field(default_factory=dict)
    orphans: list[Orphan] = field(default_factory=list)
    slow_seconds: float = 0.0
    held: dict[UUID, int] = field(default_factory=dict)
    heard: list[Heard] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    services: ScriptedServices = field(default_factory=ScriptedServices)
    capabilities: list[str] = field(default_factory=lambda: ["L2VlanNetwork"])

    async def __aenter__(self) -> Self:
        self.session_id = uuid4()
        self._sequence = 0
        self._news = asyncio.Condition()
        assert self.host.credentials is not None
        url = self.place.amqp_url(self.host.credentials.username, self.host.credentials.password)
        self.connection = await aio_pika.connect(url)
        self.channel = await self.connection.channel(publisher_confirms=True, on_return_raises=True)
        queue = await self.channel.declare_queue(self.host.credentials.queue, passive=True)
        await queue.consume(self._on_command)
        self._beating: asyncio.Task[None] | None = None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.fall_silent()
        with suppress(*aio_pika.exceptions.CONNECTION_EXCEPTIONS):
            await self.connection.close()

    @property
    def uuid(self) -> UUID:
        return self.host.uuid

    # ---- what it says --------------------------------------------------------------------------------------------

    async def say(self, report: Report, *, key: str | None = None, **properties: Any) -> None:
        """Publish anything; `key` and properties may be another's."""
        exchange = await self.channel.get_exchange("viaduct.agents", ensure=False)
        word = "completion" if isinstance(report, Completion | ServiceCompletion) else "report"
        message = aio_pika.Message(
            report.to_json(),
            **{
                "type": report.message_type,
                "message_id": str(uuid4()),
                "user_id": str(self.uuid),
                "headers": {"viaduct-version": 1},
                **properties,
            },
        )
        await exchange.publish(message, routing_key=key or f"{word}.{self.uuid}")

    async def hello(self) -> None:
        holds = [Held(l2_network_uuid=uuid, generation=generation) for uuid, generation in self.held.items()]
        await self.say(
            HostHello(
                host_uuid=self.uuid,
                session_id=self.session_id,
                version="0",
                capabilities=self.capabilities,
                interfaces=[InterfaceFact(name="eth0", mtu=1500, up=True, addresses=self.addresses)],
                holds=holds,
                services=self.services.holds(),
            )
        )

    async def beat(self, digest: str | None = None) -> None:
        self._sequence += 1
        digest = holdings_digest(self.held.items()) if digest is None else digest
        await self.say(
            HostHeartbeat(
                host_uuid=self.uuid,
                session_id=self.session_id,
                sequence=self._sequence,
                digest=digest,
                held=len(self.held),
                services_digest=self.services.digest(),
                services_held=len(self.services.held),
            )
        )

    def beat_on(self) -> None:
        """Beat until the end, or until `fall_silent`."""

        async def beat() -> None:
            while True:
                await self.beat()
                await asyncio.sleep(HEARTBEAT_SECONDS / 3)

        self._beating = asyncio.create_task(beat())

    async def fall_silent(self) -> None:
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
            self._beating = None

    # ---- what it does --------------------------------------------------------------------------------------------

    async def _on_command(self, message: AbstractIncomingMessage) -> None:
        kind = COMMANDS[message.type or ""]
        heard = Heard(kind.message_type, UUID(message.message_id), kind.from_json(message.body), message.correlation_id)
        async with self._news:
            self.heard.append(heard)
            self._news.notify_all()
        await message.ack()
        if heard.type in self.silent:
            return
        await asyncio.sleep(self.slow_seconds)
        completion = self._answer(heard)
        if not self.mute:
            for _ in range(2 if heard.type in self.doubled else 1):
                await self.say(completion)

    def _answer(self, heard: Heard) -> Report:
        if isinstance(heard.command, ServiceCommand):
            return self.services.do(self.uuid, heard.command_id, heard.command, self.errors)
        return self.do(heard)

    def do(self, heard: Heard) -> Completion:
        """Hold what was ordered, or not; the completion of it."""
        answer = Completion(host_uuid=self.uuid, command=heard.type, command_id=heard.command_id, items=[])
        if heard.type == ORPHANS:
            error = self.errors.get(ORPHANS)
            return answer.model_copy(
                update={"orphans": list(self.orphans), "error": None if error is None else error.to_body()}
            )
        released: list[UUID] = []
        left: list[Orphan] = []
        if isinstance(heard.command, SyncHostCommand):
            unlisted = set(self.held) - heard.networks - set(heard.command.listed)
            released = sorted(unlisted - self.stuck.keys())
            left = [
                Orphan(l2_network_uuid=uuid, reason="unlisted", devices=["br"], error=self.stuck[uuid].to_body())
                for uuid in sorted(unlisted & self.stuck.keys())
            ]
            for uuid in released:
                del self.held[uuid]
        items = [self._item(heard.type, item) for item in heard.items]
        return answer.model_copy(update={"items": items, "released": released, "orphans": left})

    def _item(self, command: str, item: L2Desired) -> ItemResult:
        uuid = item.l2_network.uuid
        error = self.errors.get(REALIZE if command == SYNC else command)
        if command == RELEASE and uuid in self.stuck:
            error = self.stuck[uuid]
        if error is not None:
            return ItemResult(l2_network_uuid=uuid, generation=item.generation, outcome="failed", error=error.to_body())
        if command in {REALIZE, SYNC}:
            self.held[uuid] = item.generation
        elif command == RELEASE:
            self.held.pop(uuid, None)
        status: Any = ("ok" if uuid in self.held else "missing") if command == CHECK else None
        return ItemResult(
            l2_network_uuid=uuid, generation=item.generation, outcome="done", changes=[f"{command} done"], status=status
        )

    # ---- what it heard -------------------------------------------------------------------------------------------

    async def hears(
        self, message_type: str, where: Callable[[Heard], bool] = lambda _: True, *, seconds: float = 15
    ) -> Heard:
        """The first command of a type that matches, past or to come."""

        def found() -> Heard | None:
            return next((one for one in self.heard if one.type == message_type and where(one)), None)

        async with asyncio.timeout(seconds), self._news:
            await self._news.wait_for(lambda: found() is not None)
        one = found()
        assert one is not None
        return one

    def told(self, l2_uuid: UUID) -> L2Desired | None:
        """The newest order to have a network."""
        orders = [
            item
            for one in self.heard
            if one.type in {REALIZE, SYNC}
            for item in one.items
            if item.l2_network.uuid == l2_uuid
        ]
        return max(orders, key=lambda item: item.generation, default=None)

    def types(self) -> list[str]:
        return [one.type for one in self.heard]


REFUSED = BackendFailed("RTNETLINK answers: No such device", step="ip link add", device="eth1.10", errno=19)
