"""Does an allocation cost more in a large and full range than in a small and empty one?"""

from uuid import UUID

from bench.filled import LARGE, VAST, filled, l3_of
from bench.inprocess import Ipam, ipam, scratch_database
from bench.measure import Comparison, Contender, compare, rounds
from local_stack.stack import Stack

TITLE = (
    "Allocations in a range of 2^20 addresses, 99 % used (baseline: an empty /24 in an empty database, same strategy)"
)
ROUNDS = 5
SMALL = "10.8.0.0/24"
RANGES = {LARGE: "a full /12", VAST: "a full part of a /64"}
STRATEGIES = ("firstAvailable", "random", "nextFit", "sticky")
CALLERS = {64: 192, 1: 48}  # callers -> allocations at a time: a /24 has but 253 addresses
TIMES = 4  # so often a round
MOST_COST = 1.5


async def run(stack: Stack) -> list[Comparison]:
    """Measure allocations; what was allocated is released in between, untimed, so that the fill stays."""
    with scratch_database(stack, "bench_small") as url:
        async with filled(stack) as full, ipam(url) as empty:
            await empty.network(SMALL, l3_of(SMALL))
            return [
                one
                for callers in CALLERS
                for strategy in STRATEGIES
                for one in await _measure(full, empty, callers, strategy)
            ]


async def _measure(full: Ipam, empty: Ipam, callers: int, strategy: str) -> list[Comparison]:
    contenders = {
        cidr: _contender(empty if cidr == SMALL else full, l3_of(cidr), callers, strategy) for cidr in (SMALL, *RANGES)
    }
    seconds = await rounds(contenders, ROUNDS)
    return [
        compare(
            f"{strategy}, {text}, {callers} caller{'s' if callers > 1 else ''}",
            seconds[cidr],
            "an empty /24",
            seconds[SMALL],
            unit="addresses/s",
            target=MOST_COST,
        )
        for cidr, text in RANGES.items()
    ]


def _contender(ours: Ipam, l3_uuid: UUID, callers: int, strategy: str) -> Contender:
    number = CALLERS[callers]

    async def contender() -> float:
        return (await ours.allocate_and_put_back(l3_uuid, number, callers, times=TIMES, strategy=strategy)).per_call

    return contender
