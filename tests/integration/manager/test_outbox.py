"""Messages leave with their transaction: at once by the process that committed it, or by another, and never without."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import pytest
from integration.manager.conftest import Fleet, eventually
from integration.manager.scripted_agent import SYNC

from viaduct_common import topology
from viaduct_common.bus import Outgoing
from viaduct_common.messages.agent import SyncHostCommand
from viaduct_common.postgres import outbox
from viaduct_common.postgres.outbox import enqueue
from viaduct_common.postgres.pool import Letter, Pool, Post, open_pool, transaction


class Dying(Post):
    """A process that dies between its commit and the first message."""

    def __init__(self) -> None:
        self.committed: list[Letter] = []
        self.deliver = self._deliver

    def _deliver(self, letters: Sequence[Letter]) -> None:
        self.committed += letters


@asynccontextmanager
async def process(fleet: Fleet, post: Post) -> AsyncIterator[Pool]:
    async with open_pool(fleet.place.postgres_url(), "test", post=post) as pool:
        yield pool


def sync(host_uuid: UUID) -> Outgoing:
    return Outgoing(
        topology.COMMANDS,
        routing_key=topology.command_key(host_uuid),
        type=SYNC,
        body=SyncHostCommand(items=[]).to_json(),
        message_id=uuid4(),
    )


async def left(fleet: Fleet) -> str:
    return await asyncio.to_thread(fleet.place.sql, "SELECT count(*) FROM outbox")


async def test_what_a_process_could_not_send_is_sent_by_another(fleet: Fleet) -> None:
    """Once its head start is over; until then it is left alone."""
    agent = await fleet.join()
    message, post = sync(agent.uuid), Dying()
    async with process(fleet, post) as pool, transaction(pool) as connection:
        await enqueue(connection, [message])
    began = asyncio.get_running_loop().time()
    await agent.hears(SYNC, lambda one: one.command_id == message.message_id)

    assert asyncio.get_running_loop().time() - began > outbox.HEAD_START_SECONDS / 2
    assert [letter.message for letter in post.committed] == [message]
    await eventually(lambda: left(fleet), lambda count: count == "0")


async def test_what_was_sent_at_once_is_not_sent_again(fleet: Fleet) -> None:
    """The row goes, long before a relay would look at it."""
    agent = await fleet.join()
    network = await fleet.network()
    await fleet.attach(network)
    await eventually(lambda: left(fleet), lambda count: count == "0")

    ids = [one.command_id for one in agent.heard]
    assert len(ids) == len(set(ids))


async def test_many_messages_are_left_to_the_relay(fleet: Fleet) -> None:
    """They are not held in memory, nor do they wait for a head start."""
    agent = await fleet.join()
    messages, post = [sync(agent.uuid) for _ in range(outbox.MOST_AT_ONCE + 1)], Dying()
    async with process(fleet, post) as pool, transaction(pool) as connection:
        await enqueue(connection, messages)
    for message in messages:
        await agent.hears(SYNC, lambda one, uuid=message.message_id: one.command_id == uuid, seconds=5)

    assert [letter.message for letter in post.committed] == [None] * len(messages)


async def test_transaction_that_is_rolled_back_sends_nothing(fleet: Fleet) -> None:
    """Nor does the next one on the same connection send it."""
    agent = await fleet.join()
    message, post = sync(agent.uuid), Dying()

    async def fail(pool: Pool) -> None:
        async with transaction(pool) as connection:
            await enqueue(connection, [sync(agent.uuid)])
            raise ZeroDivisionError

    async with process(fleet, post) as pool:
        with pytest.raises(ZeroDivisionError):
            await fail(pool)
        async with transaction(pool) as connection:
            await enqueue(connection, [message])

    assert [letter.message for letter in post.committed] == [message]
