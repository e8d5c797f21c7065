"""W3C trace context, carried through every hop (https://www.w3.org/TR/trace-context/#traceparent-header).

A message's `traceparent` is that of the work which its handler does: whatever that publishes, at once or through an
outbox, carries it on.
"""

import re
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from viaduct_common import topology

_FORM = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

current_traceparent: ContextVar[str | None] = ContextVar("traceparent", default=None)


def traceparent_of(headers: Mapping[str, Any]) -> str | None:
    """The trace context of a message; None if it has none, or one that is not well formed."""
    value = headers.get(topology.TRACE_HEADER)
    return value if isinstance(value, str) and _FORM.fullmatch(value) else None
