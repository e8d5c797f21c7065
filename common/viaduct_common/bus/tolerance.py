"""Properties that cannot be read must not cost the connection.

AMQP lets a sender put any bytes into `type`, `correlation_id` or the name of a header, and any number into a timestamp;
pamqp raises on what is no UTF-8 or no date, and aiormq then closes the connection. Whatever had been delivered with
such a message, the innocent included, would be delivered again, and lost together after the queue's delivery limit.
So we read what can be read: the message is then refused like any other that makes no sense.
"""

import struct
from datetime import UTC, datetime
from typing import Any

from pamqp import decode

_NO_DATE = datetime.fromtimestamp(0, UTC)


def read_anything() -> None:
    """Make pamqp's decoders, those of the whole process, never raise on the value of a property."""
    decode.METHODS.update({"shortstr": _short_str, "timestamp": _timestamp, "table": _table})
    decode.TABLE_MAPPING.update({b"T": _timestamp, b"F": _table})


def _short_str(value: bytes) -> tuple[int, str]:
    length = value[0]
    return length + 1, value[1 : length + 1].decode("utf-8", errors="replace")


def _timestamp(value: bytes) -> tuple[int, datetime]:
    try:
        return decode.timestamp(value)
    except (ValueError, OverflowError, OSError):
        return 8, _NO_DATE


def _table(value: bytes) -> tuple[int, Any]:
    """A table with anything in it that cannot be read counts as empty; nesting too deep is one such thing."""
    try:
        return decode.field_table(value)
    except (ValueError, RecursionError):
        (length,) = struct.unpack_from(">I", value)
        return 4 + int(length), {}
