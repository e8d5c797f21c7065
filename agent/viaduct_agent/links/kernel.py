"""The seam between deciding and doing: what the executor, the backends and the agent need of a kernel."""

from collections.abc import Iterable, MutableMapping
from typing import Protocol

from viaduct_agent.links.model import Links, Step


class Kernel(Protocol):
    """One network namespace. Errors are `BackendFailed` with step, device and errno."""

    async def observe(self, names: Iterable[str] | None = None, *, addresses_of: str | None = None) -> Links:
        """Links by name: all of them, or the named ones that exist with their masters and the ports of the bridges
        among them. The link `addresses_of` gets its global addresses."""
        ...

    async def apply(self, step: Step, indexes: MutableMapping[str, int]) -> Step:
        """Do one step; return it with the index that a new link got, which is also put into `indexes` (by name)."""
        ...
