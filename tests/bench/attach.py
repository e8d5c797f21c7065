"""How long an attach and a detach take on one idle host, against one way through the broker, and against the echo."""

import time
from dataclasses import dataclass, field
from functools import partial
from statistics import median

from bench.echo import echo
from bench.measure import Comparison, Contender, compare, median_seconds, rounds
from local_stack.stack import Stack
from viaduct_common.client import ViaductClient

TITLE = "Attach and detach, one idle host (client -> manager -> agent and back, twice: asked first, then told)"
ROUNDS = 6
PAIRS = 6  # attaches and detaches a round
TRIPS = 40
TARGET = 10.0  # and the kernel's own time, which is not taken off


@dataclass
class Times:
    """What each round's attaches and detaches took."""

    attach: list[float] = field(default_factory=list)
    detach: list[float] = field(default_factory=list)


async def run(stack: Stack) -> list[Comparison]:
    """Measure a network on the one host of the stack, whose kernel is this machine's."""
    url = stack.broker.amqp_url()
    async with echo(url) as bare, ViaductClient(url, name="bench") as net:
        zone = (await net.zone.query()).items[0]
        cluster = (await net.cluster.query()).items[0]
        network = await net.l2.create(
            zone_uuid=zone.uuid, name="bench-attach", type="L2NoVlanNetwork", physical_interface="eth1"
        )
        subject = {"l2_network_uuid": network.uuid, "cluster_uuid": cluster.uuid}
        per_round = Times()

        async def pairs() -> float:
            times = Times()
            for _ in range(PAIRS):
                began = time.perf_counter()
                await net.l2.attach(**subject)
                attached = time.perf_counter()
                await net.l2.detach(**subject)
                times.attach.append(attached - began)
                times.detach.append(time.perf_counter() - attached)
            per_round.attach.append(median(times.attach))
            per_round.detach.append(median(times.detach))
            return per_round.attach[-1]

        contenders: dict[str, Contender] = {
            "trip": partial(median_seconds, bare.round_trip, TRIPS),
            "echo": partial(median_seconds, bare.call, TRIPS),
            "pairs": pairs,
        }
        seconds = await rounds(contenders, ROUNDS)
    found = []
    for name, ours in (("attach", per_round.attach[1:]), ("detach", per_round.detach[1:])):
        for baseline, text in (("trip", "a transient message to oneself"), ("echo", "echo")):
            target = TARGET if (name, baseline) == ("attach", "echo") else None
            found.append(compare(f"l2.{name}", ours, text, seconds[baseline], unit="ms", target=target))
    return found
