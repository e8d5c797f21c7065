"""AMQP properties as plain values, both ways."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import aio_pika

from viaduct_common import topology
from viaduct_common.bus.trace import current_traceparent


@dataclass(frozen=True)
class Outgoing:
    """One message to publish.

    Every published message needs a `message_id` of its own, also a retry in parallel: with equal ids in flight on
    one channel, aiormq hands a returned message to the wrong waiter.
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

    def to_amqp(self, app_id: str) -> aio_pika.Message:
        return aio_pika.Message(
            self.body,
            headers={topology.VERSION_HEADER: topology.CONTRACT_VERSION, **_trace(), **self.headers},
            content_type="application/json",
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            message_id=str(self.message_id),
            correlation_id=self.correlation_id,
            reply_to=self.reply_to,
            expiration=self.expiration_seconds,
            timestamp=datetime.now(UTC),
            type=self.type,
            user_id=self.user_id,
            app_id=app_id,
        )


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


def _trace() -> dict[str, str]:
    traceparent = current_traceparent.get()
    return {} if traceparent is None else {topology.TRACE_HEADER: traceparent}
