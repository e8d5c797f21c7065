"""Requests a second and how long one takes: a zone read, and an address allocated, against the bare echo."""

from collections.abc import Awaitable, Callable
from functools import partial
from uuid import UUID, uuid4

from bench.echo import Echo, EchoClient, Question, echo
from bench.measure import Comparison, Times, compare, rounds, timed
from local_stack.stack import Stack
from viaduct_common.client import ViaductClient
from viaduct_common.messages.ipam import AllocateIp

TITLE = (
    "Requests over the broker (baseline: bare request and reply; same queue type, confirms, persistence; an address is "
    "committed before the reply)"
)
ROUNDS = 6
READS = {1: 80, 32: 480}  # in flight -> calls a round
ALLOCATIONS = {1: 200, 64: 1280}
LARGE = "10.16.0.0/12"
LEAST_RATE = 0.7  # of the echo's, 64 in flight
MOST_P99 = 4.0  # times the echo's, one in flight

Calls = dict[str, Callable[[], Awaitable[object]]]


async def run(stack: Stack) -> list[Comparison]:
    """Measure reads, then allocations out of one range."""
    url = stack.broker.amqp_url()
    async with echo(url) as bare, ViaductClient(url, name="bench") as net:
        zone = (await net.zone.query()).items[0]
        calls: Calls = {"echo": bare.call, "read": partial(net.zone.get, uuid=zone.uuid)}
        found = []
        for in_flight, count in READS.items():
            times = await _measure(calls, count, in_flight)
            rate = [one.per_call for one in times["read"]]
            baseline = [one.per_call for one in times["echo"]]
            found.append(compare(f"zone.get, {in_flight} in flight", rate, "echo", baseline, unit="requests/s"))
        l3_uuid = await address_space(net, zone.uuid)
        return found + await _allocations(bare, net, l3_uuid)


async def _allocations(bare: EchoClient, net: ViaductClient, l3_uuid: UUID) -> list[Comparison]:
    """With the bare client on both sides, and with the typed client on both sides."""
    request = AllocateIp(l3_network_uuid=l3_uuid, owner="bench")
    calls: Calls = {
        "bare echo": bare.call,
        "bare allocate": partial(bare.ask, Question.of(request)),
        "typed echo": partial(net.call, Echo(l3_network_uuid=uuid4())),
        "typed allocate": partial(net.call, request),
    }
    found = []
    for in_flight, count in ALLOCATIONS.items():
        times = await _measure(calls, count, in_flight)
        for client in ("bare", "typed"):
            ours, baseline = times[f"{client} allocate"], times[f"{client} echo"]
            found += versus_echo(f"ip.allocate, {client} client, {in_flight} in flight", ours, baseline, in_flight)
    return found


def versus_echo(name: str, ours: list[Times], baseline: list[Times], in_flight: int) -> list[Comparison]:
    """The rate, and the waits of one half and of all but a hundredth of the callers."""
    found = [
        compare(
            name,
            [one.per_call for one in ours],
            "echo, same client",
            [one.per_call for one in baseline],
            unit="requests/s",
            target=None if in_flight == 1 else 1 / LEAST_RATE,
        )
    ]
    for share, target in ((0.5, None), (0.99, MOST_P99 if in_flight == 1 else None)):
        found.append(
            compare(
                f"  p{share * 100:.0f}",
                [one.quantile(share) for one in ours],
                "echo, same client",
                [one.quantile(share) for one in baseline],
                unit="ms",
                target=target,
            )
        )
    return found


async def _measure(calls: Calls, count: int, in_flight: int) -> dict[str, list[Times]]:
    return await rounds({name: partial(timed, call, count, in_flight) for name, call in calls.items()}, ROUNDS)


async def address_space(net: ViaductClient, zone_uuid: UUID) -> UUID:
    """An L3 network with 2^20 addresses less three."""
    network = await net.l2.create(
        zone_uuid=zone_uuid, name="bench-addresses", type="L2VlanNetwork", physical_interface="eth1", vlan=4001
    )
    l3 = await net.l3.create(l2_network_uuid=network.uuid, name="bench-addresses")
    await net.range.create(l3_network_uuid=l3.uuid, network_cidr=LARGE)
    return l3.uuid
