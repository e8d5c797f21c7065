"""A broker that was rebuilt from nothing, a database that was restored from a backup: hosts come back by themselves."""

import asyncio
from uuid import uuid4

from integration.manager.conftest import Fleet, eventually
from integration.manager.scripted_agent import SYNC

from local_stack.service import Service
from viaduct_common.topology import agent_queue


async def test_host_is_enrolled_again_on_a_broker_that_forgot_it(fleet: Fleet, manager: Service) -> None:
    """Queue and user are there again after the manager's next connect, with the password of before."""
    host = await fleet.client.host.create(cluster_uuid=fleet.cluster_uuid, name="forgotten")
    assert host.credentials is not None
    await fleet.place.api("DELETE", f"/users/{host.credentials.username}")
    await fleet.place.api("DELETE", f"/queues/{{vhost}}/{agent_queue(host.uuid)}")
    await asyncio.to_thread(manager.restart)

    async def login() -> bool:
        assert host.credentials is not None
        async with fleet.place.client() as _:
            user = await fleet.place.api("GET", f"/users/{host.credentials.username}", good=(404,))
            queue = await fleet.place.api("GET", f"/queues/{{vhost}}/{agent_queue(host.uuid)}", good=(404,))
        return "error" not in user and "error" not in queue

    await eventually(login, bool)
    agent = await fleet.join()  # and whoever is new is no worse off
    assert agent.uuid != host.uuid


async def test_host_follows_a_database_that_was_restored(fleet: Fleet) -> None:
    """What the host was told by generations that the database does not know any more is told anew, and newer."""
    agent = await fleet.join()
    network = await fleet.network()
    await fleet.attach(network)
    future = 1_000_000
    agent.held[network.uuid] = future
    await agent.fall_silent()
    agent.session_id = uuid4()
    await agent.hello()
    sync = await agent.hears(SYNC, lambda heard: network.uuid in heard.networks)
    assert all(generation > future for generation in sync.generations)
    agent.beat_on()
    await fleet.settles(network, "realized")
    rows = await fleet.rows(network)
    assert rows[agent.uuid].generation > future
    after = await fleet.network()
    await fleet.attach(after)
    assert (await fleet.rows(after))[agent.uuid].generation > future
