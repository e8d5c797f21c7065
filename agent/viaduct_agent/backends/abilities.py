"""What a backend may be able to do beside its duties: each a Protocol of its own, asked for by `isinstance`.

A backend whose networks are links needs none of them: the kernel's links are looked after for all backends alike.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Protocol, runtime_checkable
from uuid import UUID

from viaduct_agent.links.watch import Changed
from viaduct_agent.settings import AgentSettings


@runtime_checkable
class Configured(Protocol):
    """Wants to know the agent's settings: called once, after the constructor and before anything else."""

    def configure(self, settings: AgentSettings) -> None: ...


@runtime_checkable
class Watching(Protocol):
    """Knows of changes that netlink does not tell."""

    def changes(self) -> AsyncIterator[Changed]:
        """For ever, also while what it watches is away; after a gap it yields `Changed(overflow=True)`. When it ends or
        fails all the same, only the sweep each minute finds what was changed."""
        ...


@runtime_checkable
class Leftovers(Protocol):
    """Keeps its mark elsewhere than in links' aliases: asked at start, by `host.sync` and for orphans."""

    async def marked(self) -> Mapping[UUID, int]:
        """The networks that have something on this host, each with its newest generation; empty if the backend's
        means are not there."""
        ...

    async def leftover_devices(self, uuid: UUID) -> tuple[str, ...]:
        """What a network has on this host, by name."""
        ...

    async def release_leftover(self, uuid: UUID, *, force: bool = False) -> tuple[str, ...]:
        """Take away what a network has on this host, of which only the mark is known. Returns what was changed."""
        ...


@runtime_checkable
class Closing(Protocol):
    """Holds something open."""

    async def aclose(self) -> None:
        """Called once, at the end."""
        ...
