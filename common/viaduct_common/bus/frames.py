"""The AMQP frames that every message needs, as bytes; pure.

Five methods of class basic (publish, deliver, return, ack, reject), their content headers, and confirms: written out,
because a general codec costs more than all else that we do for a message. Whatever comes once per connection or channel
is left to aiormq. Numbers and layout: https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf, chapters 2.3 and 4.2.

Nothing here raises on what a *sender* has put into a message: AMQP lets him put any bytes into `type` or the name of a
header. What can be read is read; the message is then refused like any other that makes no sense.
"""

import struct
import time
from functools import lru_cache
from typing import Any

from pamqp import decode, encode

from viaduct_common import topology
from viaduct_common.bus.envelope import Delivery, Outgoing
from viaduct_common.bus.trace import current_traceparent

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8  # types of a frame
FRAME_END = b"\xce"
FRAME_HEAD = struct.Struct(">BHI")  # type, channel, size of the payload
FRAME_OVERHEAD = FRAME_HEAD.size + len(FRAME_END)
ALIVE = FRAME_HEAD.pack(HEARTBEAT, 0, 0) + FRAME_END

# The first four bytes of a method's payload: its class and its own number.
_METHOD_ID = struct.Struct(">HH")
PUBLISH, RETURN, DELIVER, ACK, REJECT, NACK = (_METHOD_ID.pack(60, number) for number in (40, 50, 60, 80, 90, 120))

_ACK_FRAME = struct.Struct(">BHI4sQ?c")
_CONTENT = struct.Struct(">HHQH")  # class, weight, size of the body, flags
_TAG = struct.Struct(">Q")
_BASIC = 60
_CONTINUED = 1  # the flags go on in another word
# Property -> its flag, in the order in which they stand.
_PROPERTIES = {
    "content_type": 1 << 15,
    "content_encoding": 1 << 14,
    "headers": 1 << 13,
    "delivery_mode": 1 << 12,
    "priority": 1 << 11,
    "correlation_id": 1 << 10,
    "reply_to": 1 << 9,
    "expiration": 1 << 8,
    "message_id": 1 << 7,
    "timestamp": 1 << 6,
    "type": 1 << 5,
    "user_id": 1 << 4,
    "app_id": 1 << 3,
    "cluster_id": 1 << 2,
}
_ALWAYS_SENT = ("content_type", "headers", "delivery_mode", "message_id", "timestamp", "type", "app_id")
_ALWAYS = sum(_PROPERTIES[name] for name in _ALWAYS_SENT)
_PERSISTENT = b"\x02"
_UNREADABLE = (ValueError, LookupError, OverflowError, OSError, RecursionError, struct.error)


def _short(text: str) -> bytes:
    data = text.encode()
    if len(data) > 255:
        raise ValueError(f"{text[:40]!r}... is longer than the 255 bytes that AMQP takes")
    return bytes((len(data),)) + data


def _entry(name: str, value: Any) -> bytes:
    return encode.field_table({name: value})[4:]


_JSON = _short("application/json")
_VERSION_ENTRY = _entry(topology.VERSION_HEADER, topology.CONTRACT_VERSION)
_PLAIN_TABLE = struct.pack(">I", len(_VERSION_ENTRY)) + _VERSION_ENTRY


# ---- out ---------------------------------------------------------------------------------------------------------


def publish(message: Outgoing, channel: int, app_id: str, frame_max: int) -> bytes:
    """All frames of one message, persistent, with the headers of the contract and the trace of the present work.

    Raises:
        ValueError, TypeError: something in it that AMQP cannot carry.
    """
    method = b"".join((
        PUBLISH, b"\0\0", _short(message.exchange), _short(message.routing_key), b"\1" if message.mandatory else b"\0",
    ))  # fmt: skip
    header = _content_header(message, app_id)
    frames = [
        FRAME_HEAD.pack(METHOD, channel, len(method)), method, FRAME_END,
        FRAME_HEAD.pack(HEADER, channel, len(header)), header, FRAME_END,
    ]  # fmt: skip
    body, most = message.body, frame_max - FRAME_OVERHEAD
    for start in range(0, len(body), most):
        part = body if len(body) <= most else body[start : start + most]
        frames += (FRAME_HEAD.pack(BODY, channel, len(part)), part, FRAME_END)
    return b"".join(frames)


def _content_header(message: Outgoing, app_id: str) -> bytes:
    flags = _ALWAYS
    parts = [_JSON, _table(message), _PERSISTENT]
    if message.correlation_id:
        flags |= _PROPERTIES["correlation_id"]
        parts.append(_short(message.correlation_id))
    if message.reply_to:
        flags |= _PROPERTIES["reply_to"]
        parts.append(_short(message.reply_to))
    if message.expiration_seconds is not None:
        flags |= _PROPERTIES["expiration"]
        parts.append(_short(str(int(message.expiration_seconds * 1000))))
    parts += (_short(str(message.message_id)), _TAG.pack(int(time.time())), _short(message.type))
    if message.user_id:
        flags |= _PROPERTIES["user_id"]
        parts.append(_short(message.user_id))
    parts.append(_short(app_id))
    return b"".join((_CONTENT.pack(_BASIC, 0, len(message.body), flags), *parts))


def _table(message: Outgoing) -> bytes:
    if not message.headers and current_traceparent.get() is None:
        return _PLAIN_TABLE
    return encode.field_table(message.all_headers())


def ack(channel: int, tag: int, *, multiple: bool) -> bytes:
    return _ACK_FRAME.pack(METHOD, channel, 13, ACK, tag, multiple, FRAME_END)


def reject(channel: int, tag: int, *, requeue: bool) -> bytes:
    return _ACK_FRAME.pack(METHOD, channel, 13, REJECT, tag, requeue, FRAME_END)


# ---- in ----------------------------------------------------------------------------------------------------------


def confirm(method: bytes) -> tuple[int, bool]:
    """The tag of an ack or nack, and whether it speaks for all before it as well."""
    return _TAG.unpack_from(method, 4)[0], bool(method[12] & 1)


def body_size(header: bytes) -> int:
    size: int = _TAG.unpack_from(header, 4)[0]
    return size


def delivery(method: bytes, header: bytes, body: bytes) -> tuple[int, Delivery]:
    """The tag of a delivery, and what was delivered."""
    at = 5 + method[4]  # behind the consumer's tag
    tag: int = _TAG.unpack_from(method, at)[0]
    exchange_at = at + 9
    key_at = exchange_at + 1 + method[exchange_at]
    key = method[key_at + 1 : key_at + 1 + method[key_at]]
    given = properties(header)
    lifetime = _seconds(given.get("expiration"))
    return tag, Delivery(
        body=body,
        type=given.get("type", ""),
        routing_key=key.decode(errors="replace"),
        message_id=given.get("message_id"),
        correlation_id=given.get("correlation_id"),
        reply_to=given.get("reply_to"),
        user_id=given.get("user_id"),
        app_id=given.get("app_id"),
        headers=given.get("headers", {}),
        # The broker drops what expires while it waits in the queue; from here on the clock is ours. Counting from now
        # and not from the sender's timestamp keeps clock skew out of it.
        deadline=None if lifetime is None else time.monotonic() + lifetime,
        redelivered=bool(method[at + 8] & 1),
    )


def properties(header: bytes) -> dict[str, Any]:
    """Those properties of a content header that we use, by name; what cannot be read is not there."""
    found: dict[str, Any] = {}
    try:
        flags: int = _CONTENT.unpack_from(header)[3]
        at, more = _CONTENT.size, flags
        while more & _CONTINUED:  # no such flag is defined yet
            more = int.from_bytes(header[at : at + 2], "big")
            at += 2
        for name in _present(flags):
            if name == "headers":
                size = 4 + int.from_bytes(header[at : at + 4], "big")
                found[name] = _headers(header[at : at + size])
            elif name in {"delivery_mode", "priority"}:
                size = 1
            elif name == "timestamp":
                size = 8
            else:
                size = 1 + header[at]
                found[name] = header[at + 1 : at + size].decode(errors="replace")
            at += size
    except _UNREADABLE:
        pass
    return found


@lru_cache(maxsize=256)
def _present(flags: int) -> tuple[str, ...]:
    return tuple(name for name, flag in _PROPERTIES.items() if flags & flag)


def _headers(table: bytes) -> dict[str, Any]:
    """A table with anything in it that cannot be read counts as empty; nesting too deep is one such thing."""
    if table == _PLAIN_TABLE:
        return {topology.VERSION_HEADER: topology.CONTRACT_VERSION}
    try:
        return decode.field_table(table)[1]
    except _UNREADABLE:
        return {}


def _seconds(expiration: str | None) -> float | None:
    """The broker lets nothing but a number of milliseconds pass."""
    return int(expiration) / 1000 if expiration is not None and expiration.isdecimal() else None
