"""The AMQP properties, and what becomes of messages that are none of the contract's."""

import asyncio
import json
import struct
from typing import Any
from uuid import uuid4

import aio_pika
import pamqp.commands
import pytest
from contract.plain import Plain
from integration.manager.conftest import eventually

ARRAYS = b"[" * 100_000 + b"]" * 100_000
OBJECTS = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
MALFORMED = {
    "nothing": b"",
    "no json": b"{",
    "array": b"[]",
    "text": b'"zone"',
    "null": b"null",
    "number": b"1",
    "not utf-8": b'{"name": "\xff"}',
    "utf-16": json.dumps({"name": "x"}).encode("utf-16"),
    "deep arrays": ARRAYS,
    "deep objects": OBJECTS,
    "deep in a field": b'{"name": ' + ARRAYS + b"}",
    "more than one": b'{"name": "a"} {"name": "b"}',
    "too large": b'{"name": "' + b"x" * 1024 * 1024 + b'"}',
}


async def assert_serves(net: Plain) -> None:
    """Nothing stands in the way of the next request."""
    await net.value("zone.query", {"limit": 1})


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
async def test_malformed_body_is_answered_and_buried(net: Plain, body: bytes) -> None:
    """The sender hears why, and the message is in the dead letters with the reason in a header."""
    message_id = str(uuid4())
    error = await net.refusal("zone.create", body, message_id=message_id)
    dead = await net.buried_id(message_id)

    assert (error["code"], error["details"]["field"]) == ("INVALID_REQUEST", "body")
    assert dead.headers["viaduct-code"] == "INVALID_REQUEST"
    assert dead.headers["viaduct-reason"] == error["message"]
    assert dead.headers["viaduct-queue"] == "viaduct.manager"
    assert dead.body == body[: 1024 * 1024]
    assert dead.type == "zone.create"
    await assert_serves(net)


async def test_body_of_just_a_mebibyte_is_read(net: Plain) -> None:
    """The limit is inclusive; what is then wrong is the field."""
    body = b'{"name": "' + b"x" * (1024 * 1024 - 12) + b'"}'
    assert len(body) == 1024 * 1024

    assert (await net.refusal("zone.create", body))["details"]["field"] == "name"


@pytest.mark.parametrize("message_type", ["zone.explode", "", None, "ZONE.CREATE", "l2.realize", "reply", "x" * 255])
async def test_unknown_message_type_is_answered_and_buried(net: Plain, message_type: str | None) -> None:
    """Also one without any type."""
    message_id = str(uuid4())
    error = await net.refusal(message_type, {}, message_id=message_id)

    assert error["code"] == "UNSUPPORTED_TYPE"
    assert (await net.buried_id(message_id)).headers["viaduct-code"] == "UNSUPPORTED_TYPE"


@pytest.mark.parametrize("version", [2, "2", 0, "one", 1.5, None, True, [1]])
async def test_another_contract_version_is_answered_and_buried(net: Plain, version: Any) -> None:
    """The details tell what is spoken here."""
    message_id = str(uuid4())
    error = await net.refusal("zone.create", {"name": "x"}, message_id=message_id, headers={"viaduct-version": version})

    assert (error["code"], error["details"]["supported"]) == ("UNSUPPORTED_VERSION", [1])
    assert (await net.buried_id(message_id)).headers["viaduct-code"] == "UNSUPPORTED_VERSION"


@pytest.mark.parametrize("headers", [{}, {"viaduct-version": 1}, {"viaduct-version": "1"}])
async def test_version_1_is_spoken_and_assumed(net: Plain, headers: dict[str, Any]) -> None:
    """As a number or as text; a message without the header is of the first version."""
    await net.value("zone.create", {"name": "x"}, headers=headers)


@pytest.mark.parametrize(
    "headers",
    [{"traceparent": 5}, {"traceparent": "x"}, {"x": {"y": [{"z": bytearray(b"\xff")}]}}, {"x" * 100: "y" * 5000}],
)
async def test_strange_headers_are_nobodys_business(net: Plain, headers: dict[str, Any]) -> None:
    """They neither refuse a request nor harm it."""
    await net.value("zone.create", {"name": "x"}, headers=headers)


async def test_error_that_nobody_waits_for_is_buried(net: Plain) -> None:
    """Without `reply_to` the dead letters are the only place where it can be seen."""
    message_id = await net.send("zone.create", {"name": ""})
    dead = await net.buried_id(message_id)

    assert dead.headers["viaduct-code"] == "INVALID_REQUEST"
    assert "name" in dead.headers["viaduct-reason"]


async def test_refusal_that_somebody_waits_for_is_not_buried(net: Plain) -> None:
    """An ordinary error is the sender's affair."""
    message_id = str(uuid4())
    await net.refusal("zone.create", {"name": ""}, message_id=message_id)

    with pytest.raises(TimeoutError):
        await net.buried_id(message_id, seconds=0.5)


async def test_request_without_reply_to_is_done(net: Plain) -> None:
    """Nobody waits, it is done all the same."""
    uuid = str(uuid4())
    await net.send("zone.create", {"uuid": uuid, "name": "quiet"})

    await eventually(lambda: net.ask("zone.get", {"uuid": uuid}), lambda reply: reply["ok"])


@pytest.mark.parametrize("message_id", ["x", "1", "00000000-0000-0000-0000-00000000000g", " "])
async def test_message_id_that_is_no_uuid_is_refused(net: Plain, message_id: str) -> None:
    """It is the idempotency key."""
    error = await net.refusal("zone.create", {"name": "x"}, message_id=message_id)

    assert (error["code"], error["details"]["field"]) == ("INVALID_REQUEST", "message_id")


async def test_refusal_of_a_change_without_reply_to_is_buried(net: Plain) -> None:
    """Also a refusal that is kept under its message id is seen somewhere."""
    zone = await net.value("zone.create", {"name": "in use"})
    await net.value("cluster.create", {"zoneUuid": zone["uuid"], "name": "user"})
    message_id = await net.send("zone.delete", {"uuid": zone["uuid"]})

    buried = await net.buried_id(message_id)
    assert buried.headers["viaduct-code"] == "IN_USE"


async def test_refusal_inside_a_batch_without_reply_to_is_buried(net: Plain) -> None:
    """The batch as a whole is what nobody heard of."""
    item = {"messageId": str(uuid4()), "type": "zone.get", "body": {"uuid": str(uuid4())}}
    message_id = await net.send("batch", {"requests": [item]})

    buried = await net.buried_id(message_id)
    assert buried.headers["viaduct-code"] == "NOT_FOUND"


async def test_request_without_a_message_id_is_done(net: Plain) -> None:
    """It has no idempotency; the reply bears its correlation id."""
    reply = await net.raw("zone.create", {"name": "x"}, message_id=None, correlation_id="mine")

    assert reply.json["ok"]


async def test_reply_bears_the_message_id_or_the_senders_own_correlation_id(net: Plain) -> None:
    """Whatever an AMQP library does by itself, it finds its answer."""
    message_id, own = str(uuid4()), f"own-{uuid4()}"
    plain_one = await net.raw("zone.create", {"name": "x"}, message_id=message_id)
    own_one = await net.raw("zone.create", {"name": "x"}, message_id=str(uuid4()), correlation_id=own)

    assert (plain_one.correlation_id, own_one.correlation_id) == (message_id, own)
    assert plain_one.content_type == "application/json"
    assert plain_one.headers["viaduct-version"] == 1


async def test_reply_goes_to_an_ordinary_queue_as_well(net: Plain) -> None:
    """Direct reply-to is not a must."""
    queue = await net.channel.declare_queue("", exclusive=True)
    message_id = str(uuid4())
    await net.send("zone.create", {"name": "x"}, message_id=message_id, correlation_id="q")
    await net.send("zone.create", {"name": "x"}, message_id=message_id)
    exchange = await net.channel.get_exchange("viaduct.requests", ensure=False)
    await exchange.publish(
        aio_pika.Message(b'{"name": "x"}', type="zone.create", message_id=message_id, reply_to=queue.name), "manager"
    )
    reply = await eventually(lambda: queue.get(no_ack=True, fail=False), bool)
    assert reply is not None
    assert json.loads(reply.body)["ok"]
    assert reply.correlation_id == message_id


@pytest.mark.parametrize(
    "address",
    [
        "viaduct.manager",
        "viaduct.nobody",
        "é#*",
        "amq.rabbitmq.reply-to.g1h2AA.nobody",
        "amq.rabbitmq.reply-to.nobody",
        "amq.rabbitmq.reply-to.",
        "amq.rabbitmq.reply-to.a.b.c",
        "amq.rabbitmq.reply-to.é.é",
        "amq.rabbitmq.reply-to.g1h3CHJlcGx5QGFhAAAAAQAAAAAAAAAA.a2V5",  # a pid, but of no node
        "amq.rabbitmq.reply-to.g1h3CHJlcGx5QDEyAAAAAQAAAAAAAAAA.a2V5",  # a pid of another node
    ],
)
async def test_reply_to_nobody_or_to_ourselves_blocks_nothing(net: Plain, address: str) -> None:
    """The answer is kept under its message id; a reply that comes back to us is buried, not answered."""
    message_id = str(uuid4())
    exchange = await net.channel.get_exchange("viaduct.requests", ensure=False)
    await exchange.publish(
        aio_pika.Message(b'{"name": "x"}', type="zone.create", message_id=message_id, reply_to=address), "manager"
    )
    zone = await net.value("zone.create", {"name": "x"}, message_id=message_id)

    assert (await net.value("zone.get", {"uuid": zone["uuid"]}))["name"] == "x"
    if address == "viaduct.manager":
        assert (await net.buried(lambda one: one.correlation_id == message_id)).type == "reply"


async def test_expired_work_is_not_started(net: Plain) -> None:
    """A deadline that has passed is answered, if at all, with TIMEOUT; nothing was made."""
    uuid = str(uuid4())
    await net.send("zone.create", {"uuid": uuid, "name": "late"}, expiration=0, reply=True)
    await asyncio.sleep(0.5)

    assert (await net.refusal("zone.get", {"uuid": uuid}))["code"] == "NOT_FOUND"


class RawProperties(pamqp.commands.Basic.Properties):
    """Properties as bytes, such as no library would send: message id, then one more of a later bit."""

    def __init__(self, message_id: str, bit: int, value: bytes) -> None:
        super().__init__()
        self.flags = 1 << 7 | 1 << bit
        self.values = short(message_id.encode()) + value if bit < 7 else value + short(message_id.encode())

    def marshal(self) -> bytes:
        return struct.pack(">H", self.flags) + self.values


def short(text: bytes) -> bytes:
    return bytes([len(text)]) + text


@pytest.mark.parametrize(
    ("bit", "value"),
    [
        (6, struct.pack(">Q", 2**64 - 1)),  # timestamp
        (6, struct.pack(">Q", 2**63)),
        (5, short(b"\xff\xfe")),  # type
        (10, short(b"\xff\xfe")),  # correlation id
        (9, short(b"\xff\xfe")),  # reply to
        (13, struct.pack(">I", 8) + short(b"\xff") + b"S" + struct.pack(">I", 1) + b"x"),  # headers
        (13, struct.pack(">I", 11) + short(b"a") + b"T" + struct.pack(">Q", 2**63)),  # a time in the headers
    ],
    ids=[
        "timestamp of no date",
        "timestamp",
        "type",
        "correlation id",
        "reply to",
        "headers",
        "time in headers",
    ],
)
async def test_properties_that_no_library_can_read_block_nothing(net: Plain, bit: int, value: bytes) -> None:
    """A message that cannot even be decoded harms no other one, and does not stay in the queue."""
    channel = await net.channel.get_underlay_channel()
    message_id = str(uuid4())
    await channel.basic_publish(
        b"{}", exchange="viaduct.requests", routing_key="manager", properties=RawProperties(message_id, bit, value)
    )
    for _ in range(10):
        await assert_serves(net)
    dead = await net.buried_id(message_id)
    assert dead.headers.get("viaduct-reason"), dead
