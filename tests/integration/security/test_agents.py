"""What one stolen agent credential can do: read its own commands, speak for itself, and nothing else.

What it can do besides, with RabbitMQ 3.10 and by that broker's design: declare any queue passively (it learns whether
a queue exists and how many messages wait in it), consume `amq.rabbitmq.reply-to`, and hold its own connections open.
"""

import asyncio
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import aio_pika
import pytest
from contract.plain import Plain
from integration.manager.conftest import Fleet
from integration.manager.scripted_agent import REALIZE, ScriptedAgent

from viaduct_common.messages.agent import Completion

REFUSED = aio_pika.exceptions.CONNECTION_EXCEPTIONS


@dataclass
class Thief:
    """A connection with host A's credentials; each attempt has a channel of its own, as a refusal closes it."""

    mine: ScriptedAgent
    other: ScriptedAgent

    async def channel(self) -> Any:
        return await self.mine.connection.channel(publisher_confirms=True, on_return_raises=True)


@pytest.fixture
async def thief(fleet: Fleet) -> Thief:
    mine, other = await fleet.join(), await fleet.join()
    return Thief(mine, other)


SERVICE_QUEUES = ["viaduct.manager", "viaduct.manager.agents", "viaduct.ipam", "viaduct.dead-letters"]


@pytest.mark.parametrize("name", ["other", *SERVICE_QUEUES])
@pytest.mark.parametrize("how", ["consume", "get", "purge", "delete", "declare", "bind", "unbind"])
async def test_queue_of_another_is_closed(thief: Thief, name: str, how: str) -> None:
    """Neither read, nor emptied, removed, declared or bound."""
    name = f"viaduct.agent.{thief.other.uuid}" if name == "other" else name
    with pytest.raises(REFUSED, match="ACCESS_REFUSED"):
        await attempt(thief, how, name)


async def attempt(thief: Thief, how: str, name: str) -> None:
    channel = await thief.channel()
    queue = await channel.get_queue(name, ensure=False)

    async def nothing(_: Any) -> None: ...

    match how:
        case "consume":
            await queue.consume(nothing)
        case "get":
            await queue.get(fail=False)
        case "purge":
            await queue.purge()
        case "delete":
            await queue.delete(if_unused=False, if_empty=False)
        case "declare":
            await channel.declare_queue(name, durable=True)
        case "bind":
            await queue.bind("viaduct.commands", str(thief.other.uuid))
        case "unbind":
            await queue.unbind("viaduct.commands", str(thief.other.uuid))
        case _:
            await channel.declare_exchange(name, "topic")


@pytest.mark.parametrize(
    ("how", "name"), [("declare", ""), ("declare", "viaduct.agent.new"), ("exchange", "viaduct.agents.mine")]
)
async def test_nothing_can_be_made(thief: Thief, how: str, name: str) -> None:
    """Neither queue nor exchange, not even a queue without a name."""
    with pytest.raises(REFUSED, match="ACCESS_REFUSED"):
        await attempt(thief, how, name)


async def test_its_own_queue_cannot_be_bound_to_what_others_are_told(thief: Thief) -> None:
    """It reads what the manager bound, and no more."""
    with pytest.raises(REFUSED, match="ACCESS_REFUSED"):
        await attempt(thief, "bind", f"viaduct.agent.{thief.mine.uuid}")


@pytest.mark.parametrize(
    ("exchange", "key"),
    [
        ("viaduct.requests", "manager"),
        ("viaduct.requests", "ipam"),
        ("viaduct.commands", "other"),
        ("viaduct.commands", "mine"),
        ("viaduct.events", "l2.attached"),
        ("viaduct.dead", "x"),
        ("", "viaduct.manager"),
        ("", "viaduct.agent.other"),
        ("amq.topic", "x"),
        ("viaduct.agents", "completion.other"),
        ("viaduct.agents", "report.other"),
        ("viaduct.agents", "completion.mine.x"),
        ("viaduct.agents", "x.completion.mine"),
        ("viaduct.agents", "completion.*"),
        ("viaduct.agents", "hello.mine"),
        ("viaduct.agents", "completion.MINE"),
        ("viaduct.agents", "completion.mine\n"),
    ],
)
async def test_nothing_can_be_published_but_its_own_words(thief: Thief, exchange: str, key: str) -> None:
    """Neither requests, nor commands, nor another host's completions."""
    mine, other = str(thief.mine.uuid), str(thief.other.uuid)
    key = key.replace("mine", mine).replace("MINE", mine.upper()).replace("other", other)
    channel = await thief.channel()
    target = await channel.get_exchange(exchange, ensure=False) if exchange else channel.default_exchange
    with pytest.raises(REFUSED, match="ACCESS_REFUSED"):
        await target.publish(aio_pika.Message(b"{}", user_id=mine), routing_key=key)


async def test_user_id_cannot_be_forged(thief: Thief) -> None:
    """The broker knows who is connected."""
    own = Completion(host_uuid=thief.mine.uuid, command=REALIZE, command_id=uuid4(), items=[])
    with pytest.raises(REFUSED, match="user_id"):
        await thief.mine.say(own, user_id=str(thief.other.uuid))


async def test_completion_for_another_host_is_buried(thief: Thief, fleet: Fleet, plain: Plain) -> None:
    """Whatever the body, the key, or CC and BCC say: the broker's word tells who speaks."""
    thief.other.silent = {REALIZE}
    network = await fleet.network()
    attach = asyncio.create_task(fleet.attach(network))
    order = await thief.other.hears(REALIZE)
    forged = thief.other.do(order)
    thief.other.held.clear()
    copies = {"viaduct-version": 1, "CC": [f"completion.{thief.other.uuid}"], "BCC": [f"report.{thief.other.uuid}"]}
    ids = [str(uuid4()) for _ in range(3)]
    await thief.mine.say(forged, message_id=ids[0])
    await thief.mine.say(forged.model_copy(update={"host_uuid": thief.mine.uuid}), message_id=str(uuid4()))
    await thief.mine.say(forged, message_id=ids[1], user_id=None)
    try:
        await thief.mine.say(forged, message_id=ids[2], headers=copies)
    except REFUSED:  # a broker that checks them
        ids.pop()
    for message_id in ids:
        assert (await plain.buried_id(message_id)).headers["viaduct-code"] == "FORBIDDEN"

    assert not attach.done()
    rows = await fleet.rows(network)
    assert rows[thief.other.uuid].state == "realizing"
    thief.other.silent.clear()
    await thief.other.say(thief.other.do(order))
    assert (await attach).state == "succeeded"


async def test_copy_to_another_key_is_nothing_but_its_own_word(thief: Thief, fleet: Fleet) -> None:
    """CC and BCC do not make a completion another host's."""
    thief.other.silent = {REALIZE}
    network = await fleet.network()
    attach = asyncio.create_task(fleet.attach(network))
    order = await thief.other.hears(REALIZE)
    own = Completion(
        host_uuid=thief.mine.uuid, command=REALIZE, command_id=order.command_id, items=thief.other.do(order).items
    )
    copies = {"viaduct-version": 1, "CC": [f"completion.{thief.other.uuid}"]}
    try:
        await thief.mine.say(own, headers=copies)
    except REFUSED:
        await thief.mine.connection.close()
    await asyncio.sleep(0.3)

    assert (await fleet.rows(network))[thief.other.uuid].state == "realizing"
    await thief.other.say(thief.other.do(order))
    await attach


async def test_passive_declare_is_all_that_it_learns_of_others(thief: Thief) -> None:
    """By RabbitMQ 3.10's design: that a queue exists, and how much waits in it; not what."""
    channel = await thief.channel()
    seen = await channel.declare_queue("viaduct.manager", passive=True)

    assert seen.declaration_result.message_count >= 0


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b"x" * (1024 * 1024 + 1), b"[" * 100_000])
@pytest.mark.parametrize("message_type", ["completion", "host.hello", "host.heartbeat", "nonsense"])
async def test_nonsense_from_an_agent_is_buried(fleet: Fleet, plain: Plain, body: bytes, message_type: str) -> None:
    """It blocks nobody's completions."""
    agent = await fleet.enrol()
    exchange = await agent.channel.get_exchange("viaduct.agents", ensure=False)
    message_id = str(uuid4())
    message = aio_pika.Message(body, type=message_type, message_id=message_id, user_id=str(agent.uuid))
    await exchange.publish(message, routing_key=f"report.{agent.uuid}")

    assert (await plain.buried_id(message_id)).headers["viaduct-queue"] == "viaduct.manager.agents"
    await agent.hello()
    await fleet.state_of(agent, "connected")


async def test_numbers_beyond_the_columns_are_buried(fleet: Fleet, plain: Plain) -> None:
    """A generation that no sequence has given."""
    agent = await fleet.join()
    network = await fleet.network()
    await fleet.attach(network)
    completion = agent.do(await agent.hears(REALIZE)).to_json()
    body = completion.replace(b'"generation":', b'"generation":9' + b"9" * 30)
    exchange = await agent.channel.get_exchange("viaduct.agents", ensure=False)
    message_id = str(uuid4())
    message = aio_pika.Message(body, type="completion", message_id=message_id, user_id=str(agent.uuid))
    await exchange.publish(message, routing_key=f"completion.{agent.uuid}")

    assert (await plain.buried_id(message_id)).headers["viaduct-code"] == "INVALID_REQUEST"
