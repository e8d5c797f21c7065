"""A bus whose way to the broker can be disturbed."""

from collections.abc import AsyncIterator

import pytest
from integration.bus.proxy import Proxy
from integration.manager.control_plane import Place

from viaduct_common.bus import Bus


@pytest.fixture
async def proxy(place: Place) -> AsyncIterator[Proxy]:
    async with Proxy(place.broker.port) as proxy:
        yield proxy


@pytest.fixture
async def bus(place: Place, proxy: Proxy) -> AsyncIterator[Bus]:
    """Through the proxy."""
    async with Bus(proxy.url(place.amqp_url()), name="tested") as bus:
        await bus.ready()
        yield bus


@pytest.fixture
async def straight(place: Place) -> AsyncIterator[Bus]:
    """Not through the proxy."""
    async with Bus(place.amqp_url(), name="straight") as bus:
        await bus.ready()
        yield bus
