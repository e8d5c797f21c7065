"""The extension point `viaduct.service_backends`: one backend for each kind of service instance."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol
from uuid import UUID

from viaduct_agent.services.tools import ServiceTools
from viaduct_common.errors import ViaductError
from viaduct_common.messages.l2 import Difference

GROUP = "viaduct.service_backends"


@dataclass(frozen=True, slots=True)
class ServiceOnHost:
    """One service instance on this host; `spec` as it came over the wire."""

    uuid: UUID
    kind: str
    generation: int
    spec: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CheckedService:
    """How an instance compares with what it should be. `steps` are what `apply` would do, as commands."""

    present: bool
    differences: tuple[Difference, ...] = ()
    steps: tuple[str, ...] = ()


class ServiceBackend(Protocol):
    """One way to have one kind of service on this host. The class is called with the host's tools, once, at start.

    Methods run on the event loop and must not block it; calls for one instance never overlap, those for different ones
    do. A repeated call changes nothing. Refusals are `ViaductError`s. What it makes carries the instance's mark
    (`viaduct:<uuid>:<generation>`: interface aliases, nftables comments, file names), so that after a restart of the
    agent `found` knows it again. No default methods.
    """

    kind: ClassVar[str]

    def __init__(self, tools: ServiceTools) -> None: ...

    async def unavailable(self) -> ViaductError | None:
        """Why this host cannot have such services at all (a program is missing); None if it can."""
        ...

    async def apply(self, want: ServiceOnHost) -> tuple[str, ...]:
        """Make it so; return what was changed, as the equivalent commands.

        Raises:
            InvalidRequest: the spec is not one of this kind.
            BackendFailed: the kernel or a program refused.
        """
        ...

    async def check(self, want: ServiceOnHost) -> CheckedService:
        """Compare, and plan `apply`; strictly read-only."""
        ...

    async def remove(self, uuid: UUID) -> tuple[str, ...]:
        """Take it away, by its mark alone; what is gone already is no error. Returns what was changed."""
        ...

    async def found(self) -> Mapping[UUID, int]:
        """What of this kind is on this host by its marks, with the generations there, whoever made it."""
        ...

    async def aclose(self) -> None:
        """The agent ends. What serves goes on serving: only what the agent itself needs is let go."""
        ...
