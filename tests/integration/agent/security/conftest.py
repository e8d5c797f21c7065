"""A host with three machines, and the security group backends of its agent."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from viaduct_agent.links.netlink import Netlink
from viaduct_agent.services.tools import ServiceTools

from .filters import Filter
from .machines import Site


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    try:
        for number in (1, 2, 3):
            site.add_machine(number)
        site.know_each_other(site.machines)
        yield site
    finally:
        site.close()


@pytest.fixture
async def fresh(site: Site, tmp_path: Path) -> AsyncIterator["Fresh"]:
    async with AsyncExitStack() as stack:
        yield Fresh(site, tmp_path, stack)


@pytest.fixture
async def filter_(fresh: "Fresh") -> Filter:
    return await fresh.agent()


class Fresh:
    """Agents of one host, one after the other: each knows what is on disk and in the kernel, and nothing else."""

    def __init__(self, site: Site, state_dir: Path, stack: AsyncExitStack) -> None:
        self._site = site
        self._state_dir = state_dir
        self._stack = stack

    async def agent(self) -> Filter:
        netlink = await self._stack.enter_async_context(Netlink(self._site.host))
        return Filter(ServiceTools(netlink, self._state_dir, self._site.host))
