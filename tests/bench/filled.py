"""A database in which a /12, and as much of an IPv6 /64, are 99 % full. Made by the bench that first wants it, and left
to the others of the same run: it takes its time. The stack takes it down."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_network
from uuid import NAMESPACE_OID, UUID, uuid5

from bench.inprocess import MOST_AT_ONCE, Ipam, ipam
from local_stack.stack import Stack
from viaduct_common.messages.ipam import ReleaseIp

DATABASE = "bench_filled"
LARGE = "10.16.0.0/12"
VAST = "fd00:16::/64"
HELD_PERCENT = 99.0
ADDRESSES = 2**20 - 3  # of a /12: less network, broadcast and gateway
_WRITERS = 4


def l3_of(cidr: str) -> UUID:
    """The L3 network that has this range."""
    return uuid5(NAMESPACE_OID, cidr)


@asynccontextmanager
async def filled(stack: Stack) -> AsyncIterator[Ipam]:
    """IPAM on that database."""
    postgres = stack.postgres
    there = postgres.sql(f"SELECT 1 FROM pg_database WHERE datname = '{DATABASE}'", database="postgres")
    if not there:
        postgres.create_database(DATABASE)
    async with ipam(postgres.url("viaduct_ipam", DATABASE)) as ours:
        if not there:
            for cidr in (LARGE, VAST):
                await fill(ours, await ours.network(cidr, l3_of(cidr)), ADDRESSES)
                await thin_out(ours, cidr, sample(cidr, ADDRESSES, HELD_PERCENT))
            tidy(stack, DATABASE)
            await touch(ours)
        yield ours


async def fill(ours: Ipam, l3_uuid: UUID, count: int) -> None:
    """Allocate so many addresses, as fast as may be; each request's are of an owner of their own."""
    portions = [MOST_AT_ONCE] * (count // MOST_AT_ONCE) + [count % MOST_AT_ONCE] * bool(count % MOST_AT_ONCE)
    left = iter(enumerate(portions))

    async def writer() -> None:
        for number, size in left:
            await ours.allocate(l3_uuid, count=size, owner=f"owner-{number}")

    await asyncio.gather(*(writer() for _ in range(_WRITERS)))


def sample(cidr: str, held: int, percent: float) -> list[str]:
    """Addresses at random places, without which so much of those held is left; the lowest `held` were held."""
    first = ip_network(cidr)[2 if ":" not in cidr else 0]
    places = random.Random(1).sample(range(held), held - round(held * percent / 100))
    return [str(first + place) for place in places]


async def thin_out(ours: Ipam, cidr: str, ips: Sequence[str]) -> None:
    """Release these; one that is not held is passed over."""
    for index in range(0, len(ips), MOST_AT_ONCE):
        part = ips[index : index + MOST_AT_ONCE]
        await ours.ask(ReleaseIp.model_validate({"l3_network_uuid": l3_of(cidr), "ips": part}))


async def touch(ours: Ipam) -> None:
    """Go to random places until most pages of the indexes have been changed since the last checkpoint, as those of a
    database have been that has served for a while: the first change of each is logged as a whole page."""
    for cidr in (LARGE, VAST):
        await ours.allocate_and_put_back(l3_of(cidr), 192, 64, times=100, strategy="random")


def tidy(stack: Stack, database: str) -> None:
    """What autovacuum would do in some minutes: else it would come while we measure."""
    stack.postgres.sql("VACUUM (ANALYZE)", database=database)
