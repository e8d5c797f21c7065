"""The seam between deciding and doing: what the executor, the backends and the agent need of a kernel."""

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from viaduct_agent.links.model import Step
from viaduct_agent.links.table import LinkTable
from viaduct_common.errors import BackendFailed


@dataclass(frozen=True, slots=True)
class Look:
    """What to look at: links by name with their masters and parents and the ports of the bridges among them, or, with
    None, all links; of some the addresses, all that makes them the host's own way out (`inet`), or entries; and the
    devices that have an address."""

    names: frozenset[str] | None = None
    addresses_of: frozenset[str] = frozenset()
    inet_of: frozenset[str] = frozenset()
    entries_of: frozenset[str] = frozenset()
    carriers_of: frozenset[str] = frozenset()


EVERYTHING = Look()


@dataclass(slots=True)
class Applied:
    """`done` are the steps that were done, with the index that a new link got; `refusal` is that of the first step
    that was not. Some that came after it may have been done all the same."""

    done: list[Step] = field(default_factory=list)
    refusal: BackendFailed | None = None


class Kernel(Protocol):
    """One network namespace. Errors are `BackendFailed` with step, device and errno."""

    async def observe(self, look: Look = EVERYTHING) -> LinkTable: ...

    async def apply(self, plans: Sequence[Sequence[Step]], indexes: MutableMapping[str, int]) -> list[Applied]:
        """Do plans that do not depend on each other's success, in their order; what each came to.

        `indexes` (by name) are of the links that the plans name; new ones are added, those gone taken out.
        """
        ...
