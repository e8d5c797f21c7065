"""A world with a host, and the tools of an agent on it."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from viaduct_agent.links.netlink import Netlink
from viaduct_agent.services.tools import ServiceTools

from .world import World


@pytest.fixture
def directory() -> Iterator[Path]:
    """Where programs without rights may read: pytest's own is closed to them."""
    path = Path(tempfile.mkdtemp(prefix="viaduct-services-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def world(directory: Path) -> Iterator[World]:
    if os.geteuid() != 0:
        pytest.fail("needs root: run `make test-lab`, or leave out with -m 'not lab'")
    world = World(directory)
    try:
        yield world
    finally:
        world.close()


@pytest.fixture
async def tools(world: World, directory: Path) -> AsyncIterator[ServiceTools]:
    async with Netlink(world.host.name) as netlink:
        yield ServiceTools(netlink, directory / "state", netns=world.host.name)
