"""Requests a second: one that reads a row, and one that allocates and releases an address, against the bare echo."""

from functools import partial
from uuid import UUID

from bench.echo import echo
from bench.measure import Comparison, compare, rounds, seconds_per_call
from local_stack.stack import Stack
from viaduct_common.client import ViaductClient

TITLE = "Requests over the broker (baseline: bare aio-pika request and reply; same queue type, confirms, persistence)"
ROUNDS = 6
CALLS = {1: 80, 32: 480}  # in flight -> calls a round


async def run(stack: Stack) -> list[Comparison]:
    """Measure with one and with 32 requests in flight."""
    url = stack.broker.amqp_url()
    found = []
    async with echo(url) as bare, ViaductClient(url, name="bench") as net:
        zone = (await net.zone.query()).items[0]
        l3_uuid = await address_space(net, zone.uuid)

        async def read() -> None:
            await net.zone.get(uuid=zone.uuid)

        async def allocate_and_release() -> None:
            (one,) = await net.ip.allocate(l3_network_uuid=l3_uuid)
            await net.ip.release(uuids=[one.uuid])

        for in_flight, calls in CALLS.items():
            seconds = await rounds(
                {
                    "echo": partial(seconds_per_call, bare.call, calls, in_flight),
                    "read": partial(seconds_per_call, read, calls, in_flight),
                    "allocate": partial(seconds_per_call, allocate_and_release, calls // 2, in_flight),
                },
                ROUNDS,
            )
            name = f"{in_flight} in flight"
            requests = [value / 2 for value in seconds["allocate"]]
            found += [
                compare(f"zone.get, {name}", seconds["read"], "echo", seconds["echo"], unit="requests/s"),
                compare(f"ip.allocate + release, {name}", requests, "echo", seconds["echo"], unit="requests/s"),
            ]
    return found


async def address_space(net: ViaductClient, zone_uuid: UUID) -> UUID:
    """An L3 network with 4094 addresses less the gateway."""
    network = await net.l2.create(
        zone_uuid=zone_uuid, name="bench-addresses", type="L2VlanNetwork", physical_interface="eth1", vlan=4001
    )
    l3 = await net.l3.create(l2_network_uuid=network.uuid, name="bench-addresses")
    await net.range.create(l3_network_uuid=l3.uuid, network_cidr="10.16.0.0/20")
    return l3.uuid
