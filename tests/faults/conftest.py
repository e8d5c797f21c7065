"""What the fault tests do after themselves."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from local_stack.stack import Stack
from viaduct_common.client import ViaductClient


@pytest.fixture
async def net(stack: Stack) -> AsyncIterator[ViaductClient]:
    """A client; after the test all that it left is mended and taken away, so that the next one starts clean."""
    async with ViaductClient(stack.broker.amqp_url(), name="faults", timeout_seconds=90) as client:
        yield client
        await asyncio.to_thread(mend, stack)
        for network in (await client.l2.query(limit=1000)).items:
            for cluster_uuid in network.attached_cluster_uuids:
                await client.l2.detach(l2_network_uuid=network.uuid, cluster_uuid=cluster_uuid, force=True)
            await client.l2.delete(uuid=network.uuid)


def mend(stack: Stack) -> None:
    """Start whatever a test left dead."""
    for host in (stack.hosts.host(name) for name in stack.hosts.names):
        if host.alive():
            host.thaw()
    stack.up()
