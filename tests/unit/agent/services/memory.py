"""A kind of service that is an entry in a dictionary, which outlives the agent as a real one would."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import ClassVar
from uuid import UUID, uuid4

from unit.agent.test_dispatch import delivery

from viaduct_agent.lanes import Lanes
from viaduct_agent.services.api import CheckedService, ServiceOnHost
from viaduct_agent.services.dispatch import ServiceDispatcher
from viaduct_agent.services.holdings import ServiceHoldings
from viaduct_agent.services.registry import ServiceRegistry
from viaduct_agent.services.tools import ServiceTools
from viaduct_common.bus import PublishFailed
from viaduct_common.errors import BackendFailed, InvalidRequest, ViaductError
from viaduct_common.messages.base import Command
from viaduct_common.messages.l2 import Difference
from viaduct_common.messages.services.commands import (
    ApplyServicesCommand,
    RemoveServicesCommand,
    ServiceCompletion,
    ServiceDesired,
    SyncServicesCommand,
)

KIND = "memory"


class MemoryBackend:
    """`there` is what the host has: generation and spec by uuid. `stuck` ones wait; `broken` ones fail."""

    kind: ClassVar[str] = KIND

    def __init__(self, tools: ServiceTools) -> None:
        self.there: dict[UUID, tuple[int, Mapping[str, object]]] = {}
        self.stuck: dict[UUID, asyncio.Event] = {}
        self.broken: set[UUID] = set()
        self.calls: list[tuple[str, UUID]] = []
        self.blind = False
        self.missing: ViaductError | None = None
        self.news: asyncio.Queue[UUID] = asyncio.Queue()
        self.closed = False

    async def unavailable(self) -> ViaductError | None:
        return self.missing

    async def apply(self, want: ServiceOnHost) -> tuple[str, ...]:
        await self._work("apply", want.uuid)
        if "bad" in want.spec:
            raise InvalidRequest.of_field("spec.bad", "no such field")
        wanted = (want.generation, dict(want.spec))
        if self.there.get(want.uuid) == wanted:
            return ()
        self.there[want.uuid] = wanted
        return (f"put {want.uuid}",)

    async def check(self, want: ServiceOnHost) -> CheckedService:
        await self._work("check", want.uuid)
        have = self.there.get(want.uuid)
        if have is None:
            return CheckedService(present=False, steps=("put",))
        if have[1] == want.spec:
            return CheckedService(present=True)
        found = Difference(device="memory", attribute="spec", desired=dict(want.spec), actual=dict(have[1]))
        return CheckedService(True, (found,), ("put",))

    async def remove(self, uuid: UUID) -> tuple[str, ...]:
        await self._work("remove", uuid)
        return () if self.there.pop(uuid, None) is None else (f"del {uuid}",)

    async def found(self) -> Mapping[UUID, int]:
        await asyncio.sleep(0)
        if self.blind:
            raise BackendFailed("it cannot be read")
        return {uuid: generation for uuid, (generation, _) in self.there.items()}

    async def changes(self) -> AsyncIterator[UUID]:
        while True:
            yield await self.news.get()

    async def aclose(self) -> None:
        self.closed = True

    async def _work(self, call: str, uuid: UUID) -> None:
        self.calls.append((call, uuid))
        await asyncio.sleep(0)
        if uuid in self.stuck:
            await self.stuck[uuid].wait()
        if uuid in self.broken:
            raise BackendFailed("the host refused", step=call)


class Host:
    """A dispatcher on one such backend, and what it answered. `like` is the same host under a former agent."""

    def __init__(self, tools: ServiceTools, like: "Host | None" = None) -> None:
        self.backends = ServiceRegistry([MemoryBackend], tools)
        backend = self.backends.of(KIND)
        assert isinstance(backend, MemoryBackend)
        self.backend = backend
        if like is not None:
            backend.there = like.backend.there
        self.holdings, self.lanes = ServiceHoldings(), Lanes()
        self.completions: list[ServiceCompletion] = []
        self.broken_bus = False
        self.dispatcher = ServiceDispatcher(
            uuid4(), backends=self.backends, holdings=self.holdings, lanes=self.lanes, send=self._send
        )

    async def _send(self, completion: ServiceCompletion) -> None:
        if self.broken_bus:
            raise PublishFailed("no broker")
        self.completions.append(completion)

    async def do(self, command: Command, **over: object) -> ServiceCompletion:
        await self.dispatcher.handle(delivery(command, **over))  # type: ignore[arg-type]  # as its keywords are typed
        return self.completions[-1]

    @property
    def there(self) -> dict[UUID, int]:
        return {uuid: generation for uuid, (generation, _) in self.backend.there.items()}


def desired(uuid: UUID, generation: int, *, kind: str = KIND, **spec: object) -> ServiceDesired:
    return ServiceDesired(service_uuid=uuid, kind=kind, generation=generation, spec=spec)


def apply(*items: ServiceDesired) -> ApplyServicesCommand:
    return ApplyServicesCommand(items=list(items))


def remove(*items: ServiceDesired) -> RemoveServicesCommand:
    return RemoveServicesCommand(items=list(items))


def sync(*items: ServiceDesired, listed: tuple[UUID, ...] = ()) -> SyncServicesCommand:
    return SyncServicesCommand(items=list(items), listed=list(listed))
