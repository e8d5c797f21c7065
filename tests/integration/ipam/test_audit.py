"""The store's audit: each thing that is torn is found and named."""

import pytest
from integration.ipam.harness import Ipam

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
    [stored] = await network.range(start_ip="10.0.0.1", end_ip="10.0.2.9", prefix_length=22, gateway="10.0.0.1")
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
