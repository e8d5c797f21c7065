"""Backends by kind."""

from collections.abc import Mapping
from uuid import UUID, uuid4

import pytest
from unit.agent.services.memory import MemoryBackend

from viaduct_agent.services.registry import ServiceRegistry
from viaduct_agent.services.tools import ServiceTools
from viaduct_agent.services.wiring import open_services
from viaduct_common.errors import PreconditionFailed, UnsupportedType, ViaductError
from viaduct_common.plugins import PluginError


class Rival(MemoryBackend):
    pass


class Crashing(MemoryBackend):
    kind = "crashing"

    async def unavailable(self) -> ViaductError | None:
        raise RuntimeError("a bug")

    async def found(self) -> Mapping[UUID, int]:
        raise RuntimeError("a bug")


def test_two_backends_of_one_kind_stop_the_start(tools: ServiceTools) -> None:
    """Both are named."""
    with pytest.raises(PluginError, match=r"two plugins for memory: .*MemoryBackend and .*Rival"):
        ServiceRegistry([MemoryBackend, Rival], tools)


async def test_capabilities_are_the_kinds_that_work_here(tools: ServiceTools) -> None:
    """One that lacks a program is not told of, nor is one that crashes."""
    backends = ServiceRegistry([MemoryBackend, Crashing], tools)
    assert await backends.capabilities() == ["service/memory"]
    backend = backends.of("memory")
    assert isinstance(backend, MemoryBackend)
    backend.missing = PreconditionFailed("this host has no dnsmasq")
    assert await backends.capabilities() == []
    with pytest.raises(UnsupportedType):
        backends.of("odd")


async def test_opening_adopts_what_is_there_and_closing_stops_nothing(tools: ServiceTools) -> None:
    """A backend that crashes takes the others nothing."""
    one = uuid4()

    class Kept(MemoryBackend):
        def __init__(self, tools: ServiceTools) -> None:
            super().__init__(tools)
            self.there[one] = (5, {})

    async with open_services([Kept, Crashing], tools) as services:
        assert services.holdings.generations() == {one: 5}
        backend = services.backends.of("memory")
        assert isinstance(backend, MemoryBackend)
    assert backend.closed
    assert backend.there == {one: (5, {})}
