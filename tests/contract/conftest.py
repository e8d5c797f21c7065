"""The contract as somebody meets it who has only the documents: everything here is JSON over a plain AMQP client."""

from typing import Any

import pytest
from contract.plain import Plain

from local_stack.service import Service


@pytest.fixture(scope="module")
async def net(plain: Plain, manager: Service) -> Plain:
    """The plain client, with a manager that serves."""
    return plain


@pytest.fixture
async def zone(net: Plain) -> Any:
    return await net.value("zone.create", {"name": "zone"})


@pytest.fixture
async def cluster(net: Plain, zone: Any) -> Any:
    return await net.value("cluster.create", {"zoneUuid": zone["uuid"], "name": "cluster"})
