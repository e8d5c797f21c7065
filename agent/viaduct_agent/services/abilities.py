"""What a service backend may be able to do beside its duties: each a Protocol of its own, asked for by `isinstance`."""

from collections.abc import AsyncIterator
from typing import Protocol, runtime_checkable
from uuid import UUID


@runtime_checkable
class Watching(Protocol):
    """Knows of changes that no event of a marked link tells: a program ended, rules were flushed."""

    def changes(self) -> AsyncIterator[UUID]:
        """Instances that may have changed, for ever; each is looked at soon. When it ends or fails, only the sweep
        finds what was changed."""
        ...
