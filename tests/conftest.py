"""What tests of more than one piece share: a broker and a database for the session, a place of its own for each module.

    session   broker, postgres                  the real servers, in a temporary run directory
              stack                             a whole stack of its own: servers, services, two hosts with kernels
              installed_plugin                  the example plugin, in a folder to be put on a process's path
    module    place                             a fresh vhost and a fresh database on them
              manager, ipam                     the real processes, there
              client, plain                     our typed client, and an AMQP client that is not ours

A module that needs a server to itself (to kill it, or to fill its memory) defines `broker` or `postgres` anew.
"""

import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from contract.plain import Plain
from hypothesis import settings
from integration.manager.control_plane import Place, furnished

from local_stack.broker import Broker
from local_stack.postgres import Postgres
from local_stack.run_dir import RunDir
from local_stack.service import Service
from local_stack.stack import Stack
from viaduct_common.client import ViaductClient

# How long an example takes says nothing on a machine that does other work as well.
settings.register_profile("viaduct", deadline=None)
settings.load_profile("viaduct")
PLUGINS = Path(__file__).parent / "plugins"


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return RunDir(Path(tmp_path_factory.mktemp("run")))


@pytest.fixture(scope="session")
def broker(run_dir: RunDir) -> Iterator[Broker]:
    with Broker(run_dir) as broker:
        yield broker


@pytest.fixture(scope="session")
def postgres(run_dir: RunDir) -> Iterator[Postgres]:
    with Postgres(run_dir) as postgres:
        yield postgres


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(Path(tmp_path_factory.mktemp("stack")), hosts=2) as stack:
        yield stack


@pytest.fixture(scope="session")
def installed_plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example of an L2 type."""
    return _installed("viaduct-l2-macvtap", Path(tmp_path_factory.mktemp("plugin")))


@pytest.fixture(scope="session")
def installed_load_balancer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example of a network service."""
    return _installed("viaduct-lb-haproxy", Path(tmp_path_factory.mktemp("plugin")))


def _installed(plugin: str, folder: Path) -> Path:
    source, target = folder / "source", folder / "target"
    shutil.copytree(PLUGINS / plugin, source)
    uv = Path(sys.executable).parent / "uv"
    install = [str(uv), "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(source)]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="module")
async def place(broker: Broker, postgres: Postgres) -> AsyncIterator[Place]:
    async with furnished(broker, postgres) as place:
        yield place


@pytest.fixture(scope="module")
async def manager(place: Place) -> AsyncIterator[Service]:
    async with place.running("manager") as service:
        yield service


@pytest.fixture(scope="module")
async def ipam(place: Place) -> AsyncIterator[Service]:
    async with place.running("ipam") as service:
        yield service


@pytest.fixture(scope="module")
async def client(place: Place, manager: Service) -> AsyncIterator[ViaductClient]:
    async with place.client() as client:
        yield client


@pytest.fixture(scope="module")
async def plain(place: Place) -> AsyncIterator[Plain]:
    async with Plain(place.amqp_url()) as plain:
        yield plain
