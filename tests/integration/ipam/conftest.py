"""IPAM on a real Postgres; every test has L2 and L3 networks of its own, so one database serves all."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from integration.ipam.harness import Ipam, Network

from local_stack.postgres import Postgres
from viaduct_common.postgres.migrations import migrate
from viaduct_common.postgres.pool import Pool, open_pool
from viaduct_ipam.main import MIGRATIONS


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with Postgres(Path(tmp_path_factory.mktemp("ipam-postgres"))) as server:
        yield server


@pytest.fixture(scope="session")
async def pool(postgres: Postgres) -> AsyncIterator[Pool]:
    async with open_pool(postgres.url("viaduct_ipam"), "ipam-tests", max_size=12) as opened:
        await migrate(opened, *MIGRATIONS)
        yield opened


@pytest.fixture
async def ipam(pool: Pool) -> AsyncIterator[Ipam]:
    async with Ipam(pool) as harness:
        yield harness
    assert await harness.audit() == [], "bitmaps, rows and counters must tell the same"


@pytest.fixture
async def network(ipam: Ipam) -> Network:
    """A fresh L3 network without ranges."""
    return await ipam.network()
