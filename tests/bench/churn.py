"""Do the tables grow with the number of allocations and releases that have been?"""

import asyncio
import time
from collections.abc import Mapping
from datetime import timedelta

from bench.inprocess import Ipam, ipam, scratch_database
from bench.measure import Comparison, compare
from local_stack.stack import Stack
from viaduct_common.postgres.idempotency import purge_overdue_answers
from viaduct_common.postgres.pool import transaction
from viaduct_ipam.engine.sweeper import Sweeper

TITLE = (
    "Sizes after 1,000,000 cycles of allocate and release, autovacuum looking every second (baseline: after 100,000)"
)
DATABASE = "bench_churn"
LARGE = "10.16.0.0/12"
FEW, HALF, MANY = 100_000, 500_000, 1_000_000
COUNT = 50  # addresses of one request
CALLERS = 16
MOST_COST = 2.0

# Weeks of an installation are minutes here. So autovacuum, which looks every minute, looks every second; and what is
# kept for days is kept for as long as so many cycles take: a time would keep more of them on a faster machine.
KEPT = 50_000
SWEEP_SECONDS = 0.5
AUTOVACUUM = "ALTER SYSTEM SET autovacuum_naptime = '{}'"
RETAINED = {"request": "answers", "ip_history": "history"}

_SIZES = """
    SELECT relname, pg_total_relation_size(pg_class.oid) FROM pg_class
    WHERE relkind = 'r' AND relnamespace = 'viaduct_ipam'::regnamespace
"""


async def run(stack: Stack) -> list[Comparison]:
    """Measure each table, and the sum; those that are what is kept for a time are named so."""
    _set_naptime(stack, "1s")
    try:
        with scratch_database(stack, DATABASE) as url:
            async with ipam(url) as ours:
                sizes = await _measure(ours)
    finally:
        _set_naptime(stack, "1min")
    few, half, many = sizes[FEW], sizes[HALF], sizes[MANY]
    found = [
        _compare("all tables with their indexes", sum(few.values()), sum(many.values())),
        _compare("  the same against half the way", sum(half.values()), sum(many.values()), HALF),
    ]
    for table in sorted(many, key=lambda name: -many[name]):
        note = f" ({RETAINED[table]} of {KEPT:,} cycles)" if table in RETAINED else ""
        found.append(_compare(f"  {table}{note}", few[table], many[table]))
    return found


def _compare(name: str, few: int, many: int, after: int = FEW) -> Comparison:
    return compare(name, [float(many)], f"after {after:,}", [float(few)], unit="MiB", target=MOST_COST)


class _Progress:
    """How many cycles have begun, and when it was how many."""

    def __init__(self) -> None:
        self.done = 0
        self._past = [(0, time.monotonic())]

    def age_of_kept(self) -> timedelta:
        """How long ago the last `KEPT` cycles began; called now and then."""
        now = time.monotonic()
        self._past.append((self.done, now))
        return timedelta(seconds=now - max(at for done, at in self._past if done <= max(0, self.done - KEPT)))


async def _measure(ours: Ipam) -> Mapping[int, Mapping[str, int]]:
    l3_uuid = await ours.network(LARGE)
    sizes: dict[int, dict[str, int]] = {}
    progress = _Progress()

    async def caller() -> None:
        while progress.done < MANY:
            before, progress.done = progress.done, progress.done + COUNT
            await ours.cycle(l3_uuid, COUNT)
            for mark in (FEW, HALF):
                if before < mark <= before + COUNT:
                    sizes[mark] = await _sizes(ours)

    sweeping = asyncio.create_task(_sweep(ours, progress))
    try:
        await asyncio.gather(*(caller() for _ in range(CALLERS)))
    finally:
        sweeping.cancel()
        await asyncio.wait([sweeping])
    sizes[MANY] = await _sizes(ours)
    return sizes


async def _sweep(ours: Ipam, progress: _Progress) -> None:
    """What the process does beside, for ever."""
    while True:
        began = time.monotonic()
        keep = progress.age_of_kept()
        await Sweeper(ours.pool, history_days=keep / timedelta(days=1)).sweep_once()
        await purge_overdue_answers(ours.pool, keep=keep)
        await asyncio.sleep(max(0.0, began + SWEEP_SECONDS - time.monotonic()))


async def _sizes(ours: Ipam) -> dict[str, int]:
    async with transaction(ours.pool) as connection:
        return dict(await connection.fetch(_SIZES))


def _set_naptime(stack: Stack, value: str) -> None:
    stack.postgres.sql(AUTOVACUUM.format(value))
    stack.postgres.sql("SELECT pg_reload_conf()")
