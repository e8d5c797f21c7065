"""One message to the broker, and the broker's word for it."""

import aio_pika
from aio_pika.abc import AbstractChannel
from yarl import URL

from viaduct_common import topology
from viaduct_common.bus.envelope import Outgoing
from viaduct_common.bus.failures import Unroutable
from viaduct_common.bus.link import broker_failures


async def confirmed(channel: AbstractChannel, message: Outgoing, app_id: str) -> None:
    """Publish on a channel with confirms, and wait for the confirm.

    Raises:
        Unroutable: the message is mandatory and came back.
        AMQP_FAILURES: a nack, or the channel went away.
    """
    with broker_failures():
        exchange = (
            channel.default_exchange
            if message.exchange == topology.DEFAULT_EXCHANGE
            else await channel.get_exchange(message.exchange, ensure=False)
        )
        try:
            await exchange.publish(
                message.to_amqp(app_id), routing_key=message.routing_key, mandatory=message.mandatory
            )
        except aio_pika.exceptions.PublishError as error:
            raise Unroutable(f"no queue takes {message.type} for {message.routing_key}") from error


async def publish_alone(address: URL, message: Outgoing, app_id: str) -> None:
    """The same on a connection of its own, closed after."""
    with broker_failures():
        connection = await aio_pika.connect(address, client_properties={"connection_name": f"{app_id} (one reply)"})
        try:
            channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
            await confirmed(channel, message, app_id)
        finally:
            await connection.close()
