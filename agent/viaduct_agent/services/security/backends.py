"""The three kinds of security groups' service instances; what they have in common is the host's one engine."""

from collections.abc import AsyncIterator, Mapping
from typing import ClassVar
from uuid import UUID

from viaduct_agent.services.api import CheckedService, ServiceOnHost
from viaduct_agent.services.security.engine import engine_of
from viaduct_agent.services.tools import ServiceTools
from viaduct_common.errors import ViaductError
from viaduct_common.messages.services.security_specs import SECURITY_MEMBERS, SECURITY_NIC, SECURITY_RULES


class _SecurityBackend:
    """`ServiceBackend` of one kind. Backends that are made with the same tools share the engine."""

    kind: ClassVar[str]

    def __init__(self, tools: ServiceTools) -> None:
        self._engine = engine_of(tools)

    async def unavailable(self) -> ViaductError | None:
        return await self._engine.unavailable()

    async def apply(self, want: ServiceOnHost) -> tuple[str, ...]:
        return await self._engine.apply(want)

    async def check(self, want: ServiceOnHost) -> CheckedService:
        return await self._engine.check(want)

    async def remove(self, uuid: UUID) -> tuple[str, ...]:
        return await self._engine.remove(uuid)

    async def found(self) -> Mapping[UUID, int]:
        return await self._engine.found(self.kind)

    async def aclose(self) -> None:
        """The filter stays: it is the kernel's, and the NICs'."""


class SecurityNicBackend(_SecurityBackend):
    """Who each NIC is, and its groups in order. Of the three it is the one that tells of changes (`Watching`)."""

    kind = SECURITY_NIC

    def changes(self) -> AsyncIterator[UUID]:
        return self._engine.changes()


class SecurityRulesBackend(_SecurityBackend):
    """The rules of each group that has a NIC here."""

    kind = SECURITY_RULES


class SecurityMembersBackend(_SecurityBackend):
    """The addresses of groups that rules here name, slice by slice."""

    kind = SECURITY_MEMBERS
