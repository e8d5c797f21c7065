"""The two messages that a service owes for one that it received: the reply, or a place among the dead letters."""

from viaduct_common import topology
from viaduct_common.bus.envelope import Delivery, Outgoing
from viaduct_common.errors import ViaductError


def reply_to(address: str, correlation_id: str | None, message_id: str | None, answer: bytes) -> Outgoing:
    """The reply to a request, sent through the default exchange; `correlation_id` names the request.

    The contract answers with the request's message id; a client that sets a correlation id of its own, as most AMQP
    libraries' RPC does, gets that one back.
    """
    return Outgoing(
        exchange=topology.DEFAULT_EXCHANGE,
        routing_key=address,
        type="reply",
        body=answer,
        correlation_id=correlation_id or message_id,
        mandatory=False,
    )


def dead_letter(delivery: Delivery, queue: str, error: ViaductError) -> Outgoing:
    """A copy for the dead letters, which says why in its headers."""
    return Outgoing(
        exchange=topology.DEAD,
        routing_key=delivery.routing_key,
        type=delivery.type,
        body=delivery.body[: topology.MAX_BODY_BYTES],
        correlation_id=delivery.correlation_id,
        headers={
            **{name: value for name, value in delivery.headers.items() if isinstance(value, str | int | bool)},
            topology.CODE_HEADER: error.code,
            topology.REASON_HEADER: error.message[:1000],
            topology.QUEUE_HEADER: queue,
            "viaduct-message-id": delivery.message_id or "",
            "viaduct-sender": delivery.user_id or "",
        },
    )
