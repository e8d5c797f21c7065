"""The store's audit: each thing that is torn is found and named."""

import asyncio
import os
import sys
from ipaddress import ip_address
from uuid import UUID, uuid4

import pytest
from integration.ipam.harness import Ipam

from local_stack.postgres import Postgres
from viaduct_common.postgres.pool import Pool
from viaduct_ipam.store.audit import audit

# What is done to a network with 10.0.0.2 used, 10.0.0.3 used and reserved, and 10.0.0.4 cooling; $1 is its uuid.
FIRST = "range_uuid IN (SELECT uuid FROM ip_range WHERE l3_network_uuid = $1)"


@pytest.mark.parametrize(
    ("statement", "problems"),
    [
        ("SELECT $1::uuid", []),
        (
            "UPDATE ip_range SET used_count = used_count + 1 WHERE l3_network_uuid = $1",
            ["the counter says 3 addresses used, there are 2"],
        ),
        (
            "UPDATE ip_range SET cooling_count = 0 WHERE l3_network_uuid = $1",
            ["the counter says 0 addresses cooling, there are 1"],
        ),
        (
            "UPDATE ip_range SET taken_reserved_count = 3 WHERE l3_network_uuid = $1",
            ["the counter says 3 addresses taken and reserved, there are 1"],
        ),
        (
            "DELETE FROM reservation WHERE l3_network_uuid = $1",
            ["the counter says 1 addresses taken and reserved, there are 0"],
        ),
        (
            "DELETE FROM used_ip WHERE l3_network_uuid = $1 AND ip = '10.0.0.2'",
            ["the counter says 2 addresses used, there are 1", "the bitmap of 10.0.0.0 differs from the rows"],
        ),
        (
            "DELETE FROM cooling_ip WHERE l3_network_uuid = $1",
            ["the counter says 1 addresses cooling, there are 0", "the bitmap of 10.0.0.0 differs from the rows"],
        ),
        (
            f"DELETE FROM address_block WHERE {FIRST}",
            ["the bitmap of 10.0.0.0 differs from the rows"],
        ),
        (
            f"UPDATE address_block SET assignable = ~used | used WHERE {FIRST}",
            ["the block 10.0.0.0 hands out other addresses than its range"],
        ),
        (
            f"UPDATE address_block SET used = assignable WHERE {FIRST}",
            [
                "the bitmap of 10.0.0.0 differs from the rows",
                "the block 10.0.0.0 is full, and the next one is not stored",
            ],
        ),
        (
            "UPDATE cooling_ip SET ip = '10.0.0.2' WHERE l3_network_uuid = $1",
            ["the bitmap of 10.0.0.0 differs from the rows", "10.0.0.2 is both used and cooling"],
        ),
        (
            "UPDATE used_ip SET ip = '10.0.0.1' WHERE l3_network_uuid = $1 AND ip = '10.0.0.2'",
            ["the bitmap of 10.0.0.0 differs from the rows", "10.0.0.1 is handed out, though it never may be"],
        ),
        (
            "UPDATE cooling_ip SET l3_network_uuid = gen_random_uuid() WHERE l3_network_uuid = $1",
            ["10.0.0.4 is cooling in another L3 network than its range is of"],
        ),
    ],
)
async def test_what_is_torn_is_found(ipam: Ipam, pool: Pool, statement: str, problems: list[str]) -> None:
    """And nothing else; the torn state is rolled back."""
    network = await ipam.network(cooling_seconds=3600)
    [stored] = await network.range(start_ip="10.0.0.1", end_ip="10.0.8.9", prefix_length=20, gateway="10.0.0.1")
    await network.reserve("10.0.0.3", "10.0.0.3")
    await network.ips(required_ip="10.0.0.3", allow_reserved=True)
    await network.ips(required_ip="10.0.0.4")
    await network.release("10.0.0.4")
    await network.ips()

    async with pool.acquire() as connection:
        transaction = connection.transaction(isolation="repeatable_read")
        await transaction.start()
        await connection.execute(statement, network.l3)
        found = await audit(connection)
        await transaction.rollback()

    assert [one.problem for one in found] == problems
    assert {one.range_uuid for one in found} <= {stored.uuid}


async def test_an_address_of_no_range_is_found(ipam: Ipam, pool: Pool) -> None:
    """Wherever its range would stand among the others; also one in another network than its range."""
    network = await ipam.network()
    [stored] = await network.range(network_cidr="10.0.0.0/24")
    lost = [UUID(int=1), UUID(int=2**128 - 1)]
    insert = "INSERT INTO used_ip (l3_network_uuid, l2_network_uuid, range_uuid, ip) VALUES ($1, $2, $3, $4)"

    async with pool.acquire() as connection:
        transaction = connection.transaction(isolation="repeatable_read")
        await transaction.start()
        await connection.execute("ALTER TABLE used_ip DROP CONSTRAINT IF EXISTS used_ip_in_range")
        for number, uuid in enumerate(lost, 1):
            await connection.execute(insert, network.l3, network.l2, uuid, ip_address(f"10.0.0.{number}"))
        await connection.execute(insert, uuid4(), network.l2, stored.uuid, ip_address("10.0.0.9"))
        found = await audit(connection)
        await transaction.rollback()

    assert [(one.range_uuid, one.problem) for one in found] == [
        (lost[0], "10.0.0.1 is used of a range that does not exist"),
        (stored.uuid, "the counter says 0 addresses used, there are 1"),
        (stored.uuid, "the bitmap of 10.0.0.0 differs from the rows"),
        (lost[1], "10.0.0.2 is used of a range that does not exist"),
        (stored.uuid, "10.0.0.9 is used in another L3 network than its range is of"),
    ]


async def test_the_command_prints_what_is_torn_and_fails(ipam: Ipam, pool: Pool, postgres: Postgres) -> None:
    """Exit 0 and nothing on stdout if all is well, 1 and a line for each problem, 2 without a database."""
    network = await ipam.network()
    [stored] = await network.range(network_cidr="10.0.0.0/24")
    await network.ips(count=3)
    count = "UPDATE ip_range SET used_count = used_count + $2 WHERE uuid = $1"

    async def run(url: str) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "viaduct_ipam.check",
            env={**os.environ, "VIADUCT_POSTGRES_URL": url}, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await process.communicate()
        return process.returncode, out.decode()

    assert await run(postgres.url("viaduct_ipam")) == (0, "")
    await pool.execute(count, stored.uuid, 1)
    try:
        expected = f"range {stored.uuid}: the counter says 4 addresses used, there are 3\n"
        assert await run(postgres.url("viaduct_ipam")) == (1, expected)
    finally:
        await pool.execute(count, stored.uuid, -1)
    assert await run("postgresql://nobody@127.0.0.1:1/nothing") == (2, "")
