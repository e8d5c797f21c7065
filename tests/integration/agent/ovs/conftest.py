"""One Open vSwitch for all tests of this folder; every test begins with no bridge at all."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from viaduct_agent.backends.ovsgre import OvsGreBackend
from viaduct_agent.ovs.ovsdb import Ovsdb

from .open_vswitch import OpenVSwitch, host_links


@pytest.fixture(scope="session")
def running() -> Iterator[OpenVSwitch]:
    with tempfile.TemporaryDirectory(prefix="ovs-") as directory, OpenVSwitch(Path(directory)) as switch:
        yield switch


@pytest.fixture
def switch(running: OpenVSwitch) -> Iterator[OpenVSwitch]:
    """One for all; every test begins with no bridge at all."""
    yield running
    for bridge in running.bridges():
        running.vsctl("del-br", bridge)


@pytest.fixture
async def database(running: OpenVSwitch) -> AsyncIterator[Ovsdb]:
    database = Ovsdb(running.socket)
    yield database
    await database.aclose()


@pytest.fixture
def backend(database: Ovsdb) -> OvsGreBackend:
    return OvsGreBackend(host_links(), database)
