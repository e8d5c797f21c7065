"""Addresses a second inside the service, without the broker, against what `pgbench` gets for one row a transaction."""

from collections.abc import Iterator
from functools import partial
from itertools import cycle
from uuid import UUID

from bench.inprocess import Ipam, ipam, scratch_database
from bench.measure import Comparison, Contender, compare, rounds, seconds_per_call
from bench.pgbench import INSERT, INSERT_AND_DELETE, PgBench
from local_stack.stack import Stack
from viaduct_common.messages.ipam import AllocateIp

TITLE = "IPAM inside its process (baseline: pgbench, single-row transactions, as many clients as we have callers)"
ROUNDS = 5
CALLERS = 64
ALLOCATIONS = 48_000  # a round: about as long as one of pgbench
CYCLES = {1: 100, CALLERS: 1500}  # callers -> cycles a round
LARGE = "10.16.0.0/12"
LEAST_RATE = 1.5  # of pgbench's
DATABASE = "bench"


async def run(stack: Stack) -> list[Comparison]:
    """Measure on the service's number of connections."""
    with scratch_database(stack, DATABASE) as url:
        pgbench = PgBench(stack, DATABASE)
        async with ipam(url) as ours:
            l3_uuid = await ours.network(LARGE)
            return await _singles(ours, l3_uuid, pgbench) + await _cycles(ours, l3_uuid, pgbench)


async def _singles(ours: Ipam, l3_uuid: UUID, pgbench: PgBench) -> list[Comparison]:
    request = AllocateIp(l3_network_uuid=l3_uuid, owner="bench")  # pgbench's statement does not change either
    protocols = ("prepared", "simple")
    contenders: dict[str, Contender] = {
        "ours": partial(seconds_per_call, partial(ours.ask, request), ALLOCATIONS, CALLERS),
        **{name: pgbench.contender(INSERT, clients=CALLERS, protocol=name) for name in protocols},
    }
    seconds = await rounds(contenders, ROUNDS)
    return [
        compare(
            f"allocate, {CALLERS} callers, one /12",
            seconds["ours"],
            f"insert, {protocol}",
            seconds[protocol],
            unit="addresses/s",
            target=1 / LEAST_RATE,
        )
        for protocol in protocols
    ]


async def _cycles(ours: Ipam, l3_uuid: UUID, pgbench: PgBench) -> list[Comparison]:
    one = cycle([l3_uuid])
    many = cycle([await ours.network("10.16.0.0/20") for _ in range(CALLERS)])
    found = []
    for callers, count in CYCLES.items():
        networks = {"one L3 network": one} | ({f"{CALLERS} L3 networks": many} if callers > 1 else {})
        contenders: dict[str, Contender] = {
            name: partial(seconds_per_call, partial(_next_cycle, ours, uuids), count, callers)
            for name, uuids in networks.items()
        }
        contenders["rows"] = pgbench.contender(INSERT_AND_DELETE, clients=callers)
        seconds = await rounds(contenders, ROUNDS)
        for name in networks:
            what = f"cycles, {callers} caller{'s' if callers > 1 else ''}, {name}"
            found.append(compare(what, seconds[name], "insert + delete", seconds["rows"], unit="cycles/s"))
    return found


async def _next_cycle(ours: Ipam, l3_uuids: Iterator[UUID]) -> None:
    await ours.cycle(next(l3_uuids))
