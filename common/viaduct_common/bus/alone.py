"""One reply on a connection of its own: for whom nobody else shall suffer."""

from datetime import UTC, datetime

import aio_pika
from yarl import URL

from viaduct_common.bus.envelope import Outgoing
from viaduct_common.bus.failures import Unroutable
from viaduct_common.bus.link import broker_failures


async def publish_alone(address: URL, reply: Outgoing, app_id: str) -> None:
    """Connect, publish through the default exchange, wait for the confirm, close.

    By aio-pika alone: it tells of what the broker's connection died, and nothing here is in a hurry.

    Raises:
        Unroutable: the message is mandatory and came back.
        AMQP_FAILURES: no connection, a nack, or it went away.
    """
    with broker_failures():
        connection = aio_pika.Connection(address, client_properties={"connection_name": f"{app_id} (one reply)"})
        try:
            await connection.connect()
            channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
            await channel.default_exchange.publish(
                _amqp(reply, app_id), routing_key=reply.routing_key, mandatory=reply.mandatory
            )
        except aio_pika.exceptions.PublishError as error:
            raise Unroutable(f"no queue takes {reply.type} for {reply.routing_key}") from error
        finally:
            await connection.close()


def _amqp(message: Outgoing, app_id: str) -> aio_pika.Message:
    """As `frames.publish` would write it."""
    return aio_pika.Message(
        message.body,
        headers=message.all_headers(),
        content_type="application/json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=str(message.message_id),
        correlation_id=message.correlation_id,
        reply_to=message.reply_to,
        expiration=message.expiration_seconds,
        timestamp=datetime.now(UTC),
        type=message.type,
        user_id=message.user_id,
        app_id=app_id,
    )
