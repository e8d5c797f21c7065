"""Our frames are those of pamqp, and nothing that a sender writes makes them raise."""

import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands, frame
from pamqp.header import ContentHeader

from viaduct_common import topology
from viaduct_common.bus import frames
from viaduct_common.bus.envelope import Outgoing
from viaduct_common.bus.trace import current_traceparent

words = st.text(max_size=60)
tags = st.integers(0, 2**63 - 1)
numbers = st.integers(1, 65535)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def parsed(data: bytes) -> Iterator[tuple[int, Any]]:
    """Channel and frame of each, as pamqp reads them."""
    while data:
        consumed, channel, one = frame.unmarshal(data)
        yield channel, one
        data = data[consumed:]


def payload(marshalled: bytes) -> bytes:
    return marshalled[frames.FRAME_HEAD.size : -1]


@given(
    key=words, type_=words, body=st.binary(max_size=300), correlation_id=st.none() | words, reply_to=st.none() | words,
    user_id=st.none() | words, seconds=st.none() | st.integers(0, 10**6), mandatory=st.booleans(), number=numbers,
    headers=st.dictionaries(st.text(min_size=1, max_size=9), st.text(max_size=9) | st.integers(-9, 2**40), max_size=3),
    frame_max=st.integers(20, 400), trace=st.none() | st.just(TRACE),
)  # fmt: skip
def test_published_message_is_read_by_pamqp_as_it_was_meant(
    *, key: str, type_: str, body: bytes, correlation_id: str | None, reply_to: str | None, user_id: str | None,
    seconds: int | None, mandatory: bool, number: int, headers: dict[str, Any], frame_max: int, trace: str | None,
) -> None:  # fmt: skip
    """Method, properties, and the body in frames that are no larger than agreed."""
    message = Outgoing(
        "x", key, type_, body, correlation_id=correlation_id, reply_to=reply_to, user_id=user_id,
        expiration_seconds=seconds, mandatory=mandatory, headers=headers,
    )  # fmt: skip
    token = current_traceparent.set(trace)
    try:
        data = frames.publish(message, number, "app", frame_max)
    finally:
        current_traceparent.reset(token)
    (_, method), (_, header), *parts = parsed(data)
    traced = {} if trace is None else {topology.TRACE_HEADER: trace}

    assert {channel for channel, _ in parsed(data)} == {number}
    assert dict(method) == dict(
        commands.Basic.Publish(exchange="x", routing_key=key, mandatory=mandatory, immediate=False)
    )
    assert header.body_size == len(body)
    assert b"".join(part.value for _, part in parts) == body
    assert all(len(part.value) + frames.FRAME_OVERHEAD <= frame_max for _, part in parts)
    properties = header.properties
    assert properties.headers == {topology.VERSION_HEADER: topology.CONTRACT_VERSION, **traced, **headers}
    assert properties.content_type == "application/json"
    assert properties.delivery_mode == 2
    assert properties.message_id == str(message.message_id)
    assert (properties.message_type or "") == type_
    assert properties.app_id == "app"
    assert (properties.correlation_id or "") == (correlation_id or "")
    assert (properties.reply_to or "") == (reply_to or "")
    assert (properties.user_id or "") == (user_id or "")
    assert properties.expiration == (None if seconds is None else str(seconds * 1000))


def test_name_that_amqp_cannot_carry_is_refused() -> None:
    """Before anything is sent."""
    with pytest.raises(ValueError, match="255"):
        frames.publish(Outgoing("x", "k" * 256, "t", b""), 1, "app", 4096)


@given(tag=tags, number=numbers, flag=st.booleans())
def test_ack_and_reject_are_those_of_pamqp(tag: int, number: int, flag: bool) -> None:
    """To the byte."""
    theirs = frame.marshal(commands.Basic.Ack(delivery_tag=tag, multiple=flag), number)
    assert frames.ack(number, tag, multiple=flag) == theirs
    theirs = frame.marshal(commands.Basic.Reject(delivery_tag=tag, requeue=flag), number)
    assert frames.reject(number, tag, requeue=flag) == theirs
    confirm = payload(frame.marshal(commands.Basic.Nack(delivery_tag=tag, multiple=flag, requeue=True), 1))
    assert frames.confirm(confirm) == (tag, flag)


@given(
    tag=tags, consumer=words, key=words, redelivered=st.booleans(), body=st.binary(max_size=50),
    given_=st.fixed_dictionaries({}, optional={
        "content_type": words, "content_encoding": words, "delivery_mode": st.integers(1, 2),
        "priority": st.integers(0, 9), "correlation_id": words, "reply_to": words, "message_id": words,
        "message_type": words, "user_id": words, "app_id": words, "expiration": st.just("1500"),
        "headers": st.dictionaries(st.text(min_size=1, max_size=9), st.text(max_size=9) | st.booleans(), max_size=3),
    }),
)  # fmt: skip
def test_delivery_is_read_as_pamqp_wrote_it(
    *, tag: int, consumer: str, key: str, redelivered: bool, body: bytes, given_: dict[str, Any]
) -> None:
    """Whatever properties it has."""
    method = commands.Basic.Deliver(consumer, tag, redelivered, "exchange", key)
    header = ContentHeader(body_size=len(body), properties=commands.Basic.Properties(**given_))
    found_tag, delivery = frames.delivery(payload(frame.marshal(method, 1)), payload(frame.marshal(header, 1)), body)
    kept = {name: value for name, value in given_.items() if value != ""}

    assert frames.body_size(payload(frame.marshal(header, 1))) == len(body)
    assert found_tag == tag
    assert (delivery.routing_key, delivery.redelivered, delivery.body) == (key, redelivered, body)
    assert delivery.type == kept.get("message_type", "")
    for name in ("message_id", "correlation_id", "reply_to", "user_id", "app_id"):
        assert getattr(delivery, name) == kept.get(name)
    assert delivery.headers == kept.get("headers", {})
    assert (delivery.deadline is None) == ("expiration" not in kept)


@given(flags=st.integers(0, 65535), junk=st.binary(max_size=80))
def test_properties_of_any_bytes_do_not_raise(flags: int, junk: bytes) -> None:
    """It would cost the connection, and with it whatever else was delivered."""
    frames.properties(struct.pack(">HHQH", 60, 0, 0, flags) + junk)


def test_what_cannot_be_read_is_left_out_and_the_rest_is_there() -> None:
    """Names that are no UTF-8, tables that are none."""
    table = struct.pack(">I", 8) + b"\x01\xff" + b"S" + struct.pack(">I", 1) + b"x"
    header = struct.pack(">HHQH", 60, 0, 0, 1 << 13 | 1 << 7 | 1 << 5) + table + b"\x01m" + b"\x02\xff\xfe"

    assert frames.properties(header) == {"headers": {}, "message_id": "m", "type": "\ufffd\ufffd"}
