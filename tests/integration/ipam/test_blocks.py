"""What is stored of blocks: how it came from smaller ones, and what a process that knows little of them writes."""

import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from uuid import uuid4

import pytest
from integration.ipam.harness import Ipam

from local_stack.postgres import Postgres
from viaduct_common.postgres.migrations import migrate
from viaduct_common.postgres.pool import Pool, open_pool
from viaduct_ipam.main import MIGRATIONS
from viaduct_ipam.model.blocks import BLOCK_SIZE

FIRST_WITH_LARGE_BLOCKS = "0016"


async def test_filling_a_block_leaves_the_next_one_as_it_is(ipam: Ipam, pool: Pool) -> None:
    """The block behind a full one must be stored; a process that has not seen it does not know that it is."""
    network = await ipam.network()
    await network.range(network_cidr="10.0.0.0/16")
    held = [ip for _ in range(3) for ip in await network.ips(count=BLOCK_SIZE // 2)]
    await network.release(held[7])

    async with Ipam(pool, seed=2) as other:
        assert await type(network)(other, network.l3, network.l2, network.zone).ips(required_ip=held[7]) == [held[7]]

    assert await network.ips() == [str(ip_address(held[-1]) + 1)]


@pytest.fixture
async def before(postgres: Postgres, tmp_path: Path) -> AsyncIterator[Pool]:
    """A database as it was before blocks became larger."""
    postgres.create_database("former")
    try:
        async with open_pool(postgres.url("viaduct_ipam", "former"), "former", max_size=8) as pool:
            for file in MIGRATIONS[1].glob("*.sql"):
                if file.name < FIRST_WITH_LARGE_BLOCKS:
                    shutil.copy(file, tmp_path)
            await migrate(pool, MIGRATIONS[0], tmp_path)
            yield pool
    finally:
        postgres.drop_database("former")


@dataclass(frozen=True)
class Former:
    """A range, and how many of its first small blocks are full; of the next one three addresses are used."""

    start: str
    end: str
    prefix_length: int
    gateway: str | None
    full: int

    def blocks(self) -> Iterator[tuple[int, set[int], set[int]]]:
        """Of each stored block its first address, what can be handed out of it, and what is used."""
        first, last = ip_address(self.start), ip_address(self.end)
        network = ip_network(f"{self.start}/{self.prefix_length}", strict=False)
        never = {ip_address(self.gateway)} if self.gateway else set()
        if network.version == 4 and network.prefixlen < 31:
            never |= {network.network_address, network.broadcast_address}
        for number in range(self.full + 1):
            block = (int(first) & ~0xFF) + 256 * number
            members = [
                ip
                for ip in range(max(int(first), block), min(int(last), block + 255) + 1)
                if type(first)(ip) not in never
            ]
            if block <= int(last):
                yield block, set(members), set(members if number < self.full else members[:3])


@pytest.mark.parametrize(
    "former",
    [
        Former("10.0.0.0", "10.0.15.255", 20, "10.0.0.1", full=2),
        Former("10.0.0.0", "10.0.15.255", 20, "10.0.4.0", full=4),
        Former("10.0.1.7", "10.0.9.200", 16, None, full=9),
        Former("10.0.3.255", "10.0.4.0", 31, None, full=1),
        Former("2001:db8::", "2001:db8::ffff", 64, "2001:db8::1", full=5),
    ],
)
async def test_small_blocks_become_large_ones(before: Pool, former: Former) -> None:
    """What is used, what can be handed out, and that the block behind a full one is stored: the audit finds nothing."""
    await store(before, former)

    await migrate(before, *MIGRATIONS)

    async with Ipam(before) as ipam:
        assert await ipam.audit() == []


async def store(pool: Pool, former: Former) -> None:
    """As a process of that time has left it."""
    l3, l2, home = uuid4(), uuid4(), uuid4()
    make = type(ip_address(former.start))
    blocks = list(former.blocks())
    async with pool.acquire() as connection:
        await connection.execute(
            "INSERT INTO scope (l3_network_uuid, l2_network_uuid, zone_uuid, strategy) VALUES ($1, $2, $3, 'nextFit')",
            l3, l2, uuid4(),
        )  # fmt: skip
        await connection.execute(
            """
            INSERT INTO ip_range (uuid, type, l3_network_uuid, l2_network_uuid, start_ip, end_ip, prefix_length,
                                  gateway, address_mode, used_count)
            VALUES ($1, 'normal', $2, $3, $4, $5, $6, $7, $8, $9)
            """,
            home, l3, l2, make(former.start), make(former.end), former.prefix_length,
            make(former.gateway) if former.gateway else None, "stateful" if ":" in former.start else None,
            sum(len(used) for _, _, used in blocks),
        )  # fmt: skip
        for block, members, used in blocks:
            assignable, taken = ("".join("01"[block + k in some] for k in range(256)) for some in (members, used))
            await connection.execute(
                "INSERT INTO address_block VALUES ($1, $2, $3::text::bit(256), $4::text::bit(256))",
                home, make(block), assignable, taken,
            )  # fmt: skip
            await connection.executemany(
                "INSERT INTO used_ip (l2_network_uuid, l3_network_uuid, range_uuid, ip) VALUES ($1, $2, $3, $4)",
                [(l2, l3, home, make(ip)) for ip in used],
            )
