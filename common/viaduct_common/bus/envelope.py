"""AMQP properties as plain values, both ways."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from viaduct_common import topology
from viaduct_common.bus.trace import current_traceparent


@dataclass(frozen=True)
class Outgoing:
    """One message to publish.

    Every published message needs a `message_id` of its own, also a retry in parallel: it is all by which a message that
    the broker returns is known again.
    """

    exchange: str
    routing_key: str
    type: str
    body: bytes
    message_id: UUID = field(default_factory=uuid4)
    correlation_id: str | None = None
    reply_to: str | None = None
    user_id: str | None = None
    expiration_seconds: float | None = None
    mandatory: bool = True
    headers: Mapping[str, Any] = field(default_factory=dict)

    def all_headers(self) -> dict[str, Any]:
        """The contract's version, the trace of the present work, and its own."""
        traceparent = current_traceparent.get()
        trace = {} if traceparent is None else {topology.TRACE_HEADER: traceparent}
        return {topology.VERSION_HEADER: topology.CONTRACT_VERSION, **trace, **self.headers}


@dataclass(frozen=True)
class Delivery:
    """One message that came in; `deadline` is on the monotonic clock, None if the sender set no expiration."""

    body: bytes
    type: str
    routing_key: str
    message_id: str | None
    correlation_id: str | None
    reply_to: str | None
    user_id: str | None
    app_id: str | None
    headers: Mapping[str, Any]
    deadline: float | None
    redelivered: bool
