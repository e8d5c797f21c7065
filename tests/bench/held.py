"""What does IPAM's process take to start, and to answer questions, when a million addresses are held?"""

import asyncio
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from bench.filled import DATABASE, LARGE, fill, filled, l3_of, tidy
from bench.inprocess import Ipam, ipam, scratch_database
from bench.measure import Comparison, Contender, compare, median_seconds, rounds
from local_stack.service import Service
from local_stack.stack import Stack
from viaduct_common.messages.base import Request
from viaduct_common.messages.ipam import CheckIp, GetFreeIps, GetIpCapacity, QueryIps

TITLE = "Start-up and questions with a million addresses held in an L3 network (baseline: a thousand held)"
ROUNDS = 6
STARTS = 3
CALLS = 40
FEW = 1000
FEW_DATABASE = "bench_few"
SOME_OWNER = "owner-0"  # holds a thousand, or nearly, in both
SOME_IP = "10.16.0.77"
MOST_COST = 2.0

l3_uuid = l3_of(LARGE)
QUESTIONS: Mapping[str, Request[Any]] = {
    "ip.capacity": GetIpCapacity(l3_network_uuids=[l3_uuid]),
    "ip.query by owner": QueryIps.model_validate({"filters": {"owner": SOME_OWNER}}),
    "ip.query by address": QueryIps.model_validate({"filters": {"ip": SOME_IP}}),
    "ip.query by address and L3 network": QueryIps.model_validate(
        {"filters": {"ip": SOME_IP, "l3_network_uuid": l3_uuid}}
    ),
    "ip.query of an L3 network, first page": QueryIps.model_validate({"filters": {"l3_network_uuid": l3_uuid}}),
    "ip.free": GetFreeIps(l3_network_uuid=l3_uuid),
    "ip.check": CheckIp.model_validate({"l3_network_uuid": l3_uuid, "ip": SOME_IP}),
}


async def run(stack: Stack) -> list[Comparison]:
    """Measure on the filled database and on one that is nearly empty."""
    many_url = stack.postgres.url("viaduct_ipam", DATABASE)
    with scratch_database(stack, FEW_DATABASE) as few_url:
        async with filled(stack) as many, ipam(few_url) as few:
            await fill(few, await few.network(LARGE, l3_uuid), FEW)
            tidy(stack, FEW_DATABASE)
            found = [await _question(name, request, many, few) for name, request in QUESTIONS.items()]
        starts = {"many": partial(_start, stack, many_url), "few": partial(_start, stack, few_url)}
        seconds = await rounds(starts, STARTS)
    start = compare("start until /readyz", seconds["many"], "a thousand", seconds["few"], unit="s", target=MOST_COST)
    return [start, *found]


async def _question(name: str, request: Request[Any], many: Ipam, few: Ipam) -> Comparison:
    contenders: dict[str, Contender] = {
        key: partial(median_seconds, partial(ours.ask, request), CALLS) for key, ours in (("many", many), ("few", few))
    }
    seconds = await rounds(contenders, ROUNDS)
    return compare(name, seconds["many"], "a thousand", seconds["few"], unit="ms", target=MOST_COST)


async def _start(stack: Stack, url: str) -> float:
    """Seconds from the start of a process until it is ready; it is stopped again."""
    service = Service(stack.run_dir, "ipam", number=2, environment={"VIADUCT_POSTGRES_URL": url})
    began = time.perf_counter()
    await asyncio.to_thread(service.start)
    seconds = time.perf_counter() - began
    await asyncio.to_thread(service.stop)
    return seconds
