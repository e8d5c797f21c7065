"""How long an attach and a detach take on one idle host, against one way through the broker, against the echo, and what
of it is the kernel's: the same links by `ip -batch` in a namespace beside, less what an `ip -batch` of nothing takes.
"""

import asyncio
import time
from dataclasses import dataclass, field
from functools import partial
from statistics import median

from bench.echo import echo
from bench.inside import batch, creation, namespace, wants
from bench.measure import Comparison, Contender, compare, median_seconds, rounds
from local_stack.stack import Stack
from viaduct_common.client import ViaductClient

TITLE = "Attach and detach, one idle host (client -> manager -> agent and back, twice: asked first, then told)"
ROUNDS = 6
PAIRS = 6  # attaches and detaches a round
TRIPS = 40
NETWORKS = 20  # made in one `ip -batch`
TARGET = 10.0  # and the kernel's own time, which has a line of its own


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
            "kernel": partial(asyncio.to_thread, _kernel_seconds),
        }
        seconds = await rounds(contenders, ROUNDS)
    attach, detach, kernel = per_round.attach[1:], per_round.detach[1:], seconds["kernel"]
    beside = [whole - part for whole, part in zip(attach, kernel, strict=True)]
    return [
        compare("l2.attach", attach, "a transient message to oneself", seconds["trip"], unit="ms"),
        compare("l2.attach", attach, "echo", seconds["echo"], unit="ms"),
        compare("l2.attach", attach, "the kernel: ip -batch of its links", kernel, unit="ms"),
        compare("l2.attach less the kernel", beside, "echo", seconds["echo"], unit="ms", target=TARGET),
        compare("l2.detach", detach, "a transient message to oneself", seconds["trip"], unit="ms"),
        compare("l2.detach", detach, "echo", seconds["echo"], unit="ms"),
    ]


def _kernel_seconds() -> float:
    """What the kernel takes for the links of one attach, of many made in one go."""
    wanted = wants("novlan", NETWORKS)
    with namespace("novlan", NETWORKS) as netns:

        def seconds(lines: list[str]) -> float:
            began = time.perf_counter()
            batch("ip", netns, lines)
            return time.perf_counter() - began

        nothing = median(seconds([""]) for _ in range(PAIRS))
        return (seconds([line for want in wanted for line in creation("novlan", want)]) - nothing) / NETWORKS
