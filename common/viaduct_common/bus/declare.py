"""What all services share on the broker."""

from aio_pika.abc import AbstractConnection

from viaduct_common import topology


async def declare_shared(connection: AbstractConnection) -> None:
    """Declare the exchanges and service queues; repeating it changes nothing."""
    async with connection.channel(publisher_confirms=False) as channel:
        for name, kind in topology.EXCHANGE_TYPES.items():
            await channel.declare_exchange(name, kind, durable=True)
        for name, (exchange, routing_keys) in topology.BINDINGS.items():
            queue = await channel.declare_queue(name, durable=True, arguments=dict(topology.QUORUM_ARGUMENTS))
            for routing_key in routing_keys:
                await queue.bind(exchange, routing_key)
