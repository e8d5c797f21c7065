"""Devices that lost their mark by another hand, while we looked: an index tells that it is still the same device."""

from collections.abc import MutableMapping, Sequence
from uuid import UUID

from viaduct_agent.links.kernel import EVERYTHING, Applied, Kernel, Look
from viaduct_agent.links.model import Step, with_values
from viaduct_agent.links.table import LinkTable

# The generation of a device without its mark: never a wanted one, so the mark is written anew.
UNMARKED = -1


class RememberingKernel:
    """A `Kernel` that shows a device that was seen with our mark, and has none any more, as its owner's still.

    The kernel gives an index to one device only. What is remembered ends with the process: a device that was stripped
    of its mark while no agent ran is a stranger's. One with another network's mark is that network's.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._owners: dict[int, UUID] = {}

    async def observe(self, look: Look = EVERYTHING) -> LinkTable:
        table = await self._kernel.observe(look)
        stripped = []
        seen = {}
        for link in table.values():
            owner, index = link.owner, link.index
            if owner is None and index in self._owners:
                owner = self._owners[index]
                stripped.append(with_values(link, owner=owner, generation=UNMARKED))
            if owner is not None and index:
                seen[index] = owner
        for link in stripped:
            table.put(link)
        if look.names is None:
            self._owners = seen
        else:
            self._owners |= seen
        return table

    async def apply(self, plans: Sequence[Sequence[Step]], indexes: MutableMapping[str, int]) -> list[Applied]:
        return await self._kernel.apply(plans, indexes)
