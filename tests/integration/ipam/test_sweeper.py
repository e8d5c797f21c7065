"""The sweeper: bounded chunks, many at once, and never in anybody's way."""

import asyncio
import random
from collections.abc import Collection

from integration.ipam.harness import Ipam, Network

from viaduct_common.errors import Exhausted
from viaduct_common.postgres.idempotency import purge_overdue_answers
from viaduct_common.postgres.pool import Pool, transaction
from viaduct_ipam.engine.sweeper import CHUNK, Sweeper
from viaduct_ipam.model.blocks import BLOCK_SIZE


async def end_all(network: Network) -> None:
    await network.ipam.pool.execute(
        "UPDATE used_ip SET expires_at = now() WHERE l3_network_uuid = $1 AND expires_at IS NOT NULL", network.l3
    )


async def blocks(network: Network) -> list[str]:
    rows = await network.ipam.pool.fetch(
        "SELECT first_ip FROM address_block JOIN ip_range ON uuid = range_uuid WHERE l3_network_uuid = $1"
        " ORDER BY first_ip",
        network.l3,
    )
    return [str(row["first_ip"]) for row in rows]


async def test_many_leases_end_in_chunks(network: Network) -> None:
    """More than one transaction's worth; a reservation under them, and the fill level, are kept right."""
    await network.range(network_cidr="10.0.0.0/22")
    await network.reserve("10.0.1.0", "10.0.1.31")
    count = CHUNK + 300
    await network.allocate(count=count, ttl_seconds=60)
    await network.allocate(required_ip="10.0.1.7", allow_reserved=True, ttl_seconds=60)
    [kept] = await network.ips()
    level = "SELECT fill_level_v4 FROM scope WHERE l3_network_uuid = $1"
    assert await network.ipam.pool.fetchval(level, network.l3) == 80
    await end_all(network)

    await network.ipam.sweep()

    assert (await network.capacity()).used == 1
    assert await network.ipam.pool.fetchval(level, network.l3) == 0
    assert (await network.ips(count=2)) == ["10.0.0.2", "10.0.0.3"]
    assert kept not in {"10.0.0.2", "10.0.0.3"}


async def test_sweepers_side_by_side_end_each_lease_once(ipam: Ipam) -> None:
    """Among allocations and renewals: one event for each, one row of history, and no error."""
    networks = [await ipam.network(cooling_seconds=index % 2) for index in range(6)]
    for network in networks:
        await network.range(network_cidr="10.0.0.0/26")
        await network.allocate(count=40, ttl_seconds=60)
        await end_all(network)
    before = await ipam.pool.fetchval("SELECT count(*) FROM outbox WHERE type = 'ip.expired'")
    sweepers = [Sweeper(ipam.pool, history_days=90) for _ in range(3)]

    async def allocate(network: Network) -> None:
        for _ in range(5):
            try:
                await network.ips(count=3)
            except Exhausted:
                await asyncio.sleep(0)

    await asyncio.gather(*(one.sweep_once() for one in sweepers), *(allocate(network) for network in networks))
    await ipam.sweep()
    await ipam.sweep()  # what another one had at that moment

    ended = await ipam.pool.fetchval(
        "SELECT count(*) FROM ip_history WHERE l3_network_uuid = ANY($1::uuid[]) AND end_reason = 'expired'",
        [network.l3 for network in networks],
    )
    assert ended == 6 * 40
    assert await ipam.pool.fetchval("SELECT count(*) FROM outbox WHERE type = 'ip.expired'") == before + 6 * 40


async def test_a_scope_that_somebody_holds_is_left_alone_once_and_waited_for_then(ipam: Ipam) -> None:
    """The others are swept meanwhile; a busy one does not starve."""
    held, free = await ipam.network(), await ipam.network()
    for network in (held, free):
        await network.range(network_cidr="10.0.0.0/24")
        await network.allocate(ttl_seconds=60)
        await end_all(network)
    sweeper = Sweeper(ipam.pool, history_days=90)

    async with transaction(ipam.pool) as holder:
        await holder.execute("SELECT FROM scope WHERE l3_network_uuid = $1 FOR UPDATE", held.l3)
        await sweeper.sweep_once()
        assert ((await held.capacity()).used, (await free.capacity()).used) == (1, 0)
        waiting = asyncio.create_task(sweeper.sweep_once())
        blocked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%FROM scope%'"
        while not await ipam.pool.fetchval(blocked):  # noqa: ASYNC110 - another session's wait tells nobody
            await asyncio.sleep(0.01)
        assert not waiting.done()
    await waiting
    assert (await held.capacity()).used == 0


async def test_a_sweep_that_is_cut_off_loses_nothing(network: Network) -> None:
    """Whenever the process dies, the next one goes on."""
    await network.range(network_cidr="10.0.0.0/21")
    await network.allocate(count=1000, ttl_seconds=60)
    await network.allocate(count=600, ttl_seconds=60)
    await end_all(network)

    for moment in (0.002, 0.01, 0.03, 0.06):
        sweep = asyncio.create_task(Sweeper(network.ipam.pool, history_days=90).sweep_once())
        await asyncio.wait([sweep], timeout=moment)
        sweep.cancel()
        await asyncio.gather(sweep, return_exceptions=True)
        assert await network.ipam.audit() == []
    await network.ipam.sweep()
    await network.ipam.sweep()  # a cancelled one may have held the scope for a moment longer

    assert (await network.capacity()).used == 0


async def test_empty_blocks_go_but_not_the_one_behind_a_full_block(ipam: Ipam) -> None:
    """The search leans on that one; it goes when the block before it has room again."""
    network = await ipam.network()
    await network.range(start_ip="10.0.0.0", end_ip="10.0.31.255", prefix_length=18, gateway=None)
    first = await network.ips(count=1000) + await network.ips(count=1000)
    first += await network.ips(count=2 * BLOCK_SIZE - 1 - len(first))  # 10.0.0.0 is the network's own
    assert await blocks(network) == ["10.0.0.0", "10.0.4.0", "10.0.8.0"]
    await network.ips(required_ip="10.0.20.1")
    await network.release("10.0.20.1")

    await ipam.sweep()
    assert await blocks(network) == ["10.0.0.0", "10.0.4.0", "10.0.8.0"]
    assert await network.ips(count=2) == ["10.0.8.0", "10.0.8.1"]

    await network.release("10.0.8.0", "10.0.8.1", first[-1])
    await ipam.sweep()
    assert await blocks(network) == ["10.0.0.0", "10.0.4.0"]
    assert await network.ips(count=2) == [first[-1], "10.0.8.0"]


async def test_the_first_block_of_ipv6_is_swept(ipam: Ipam) -> None:
    """There is no block before it."""
    network = await ipam.network()
    await network.range(start_ip="::2", end_ip="::9", prefix_length=64)
    await network.ips(required_ip="::4")
    await network.release("::4")
    assert await blocks(network) == ["::"]

    await ipam.sweep()

    assert await blocks(network) == []


async def test_churn_while_blocks_are_dropped_gives_no_address_twice(ipam: Ipam) -> None:
    """Whatever a process remembers of blocks that are gone by now."""
    network = await ipam.network()
    await network.range(start_ip="10.0.0.0", end_ip="10.0.15.255", prefix_length=19, gateway=None)
    held: set[str] = set()
    done = asyncio.Event()

    async def churn(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(12):
            ips = await network.ips(count=rng.choice([1, 40, 120]), strategy=rng.choice(["random", "firstAvailable"]))
            assert not held.intersection(ips)
            held.update(ips)
            held.difference_update(ips)
            await network.release(*ips)

    async def sweep() -> None:
        while not done.is_set():
            await Sweeper(ipam.pool, history_days=90).sweep_once()

    sweeping = asyncio.create_task(sweep())
    await asyncio.gather(*(churn(seed) for seed in range(4)))
    done.set()
    await sweeping
    await ipam.sweep()

    assert await blocks(network) == []


async def test_updates_in_a_block_stay_in_place(ipam: Ipam) -> None:
    """HOT: only what empties a block, fills it, or takes its first address, touches an index."""
    network = await ipam.network()
    [stored] = await network.range(network_cidr="10.0.0.0/24")
    await network.ips()
    counters = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relname = 'address_block'"
    update = "UPDATE address_block SET used = set_bit(used, 2, $2) WHERE range_uuid = $1"

    # In one transaction: between two the counters may be handed on.
    async with transaction(ipam.pool) as connection:
        before = await connection.fetchrow(counters)
        for bit in (0, 1, 0, 1):  # empty, taken, and again
            await connection.execute(update, stored.uuid, bit)
        through_empty = await connection.fetchrow(counters)
        await connection.execute(update.replace("2, $2", "3, $2"), stored.uuid, 1)
        for bit in (0, 1, 0, 1):
            await connection.execute(update, stored.uuid, bit)
        after = await connection.fetchrow(counters)

    assert (through_empty["n_tup_upd"] - before["n_tup_upd"], through_empty["n_tup_hot_upd"]) == (
        4,
        before["n_tup_hot_upd"],
    )
    assert after["n_tup_upd"] - through_empty["n_tup_upd"] == 5
    assert after["n_tup_hot_upd"] - through_empty["n_tup_hot_upd"] >= 3  # a full page moves a row now and then
    await ipam.pool.execute(update.replace("2, $2", "3, $2"), stored.uuid, 0)


async def test_old_history_is_forgotten_and_young_is_not(network: Network) -> None:
    """By the end of a holding, as many as there are."""
    await network.range(network_cidr="10.0.0.0/23")
    old, young = await network.ips(count=60), await network.ips(count=40)
    await network.release(*old)
    await network.ipam.pool.execute(
        "UPDATE ip_history SET allocated_at = now() - interval '200 days', ended_at = now() - interval '91 days'"
        " WHERE l3_network_uuid = $1",
        network.l3,
    )
    await network.release(*young)

    await network.ipam.sweep()

    rows = await network.ipam.pool.fetch("SELECT ip FROM ip_history WHERE l3_network_uuid = $1", network.l3)
    assert {str(row["ip"]) for row in rows} == set(young)


async def test_old_answers_are_forgotten_in_chunks(pool: Pool) -> None:
    """Also when there are many, by two processes at once; young ones are kept."""
    await pool.execute(
        "INSERT INTO request (sender, message_id, type, answer, created_at)"
        " SELECT 'purged', gen_random_uuid(), 'x', '', now() - make_interval(hours => hour)"
        " FROM generate_series(1, 2500), unnest(ARRAY[1, 25]) AS hour"
    )

    await asyncio.gather(purge_overdue_answers(pool), purge_overdue_answers(pool))

    left: Collection[object] = await pool.fetch("SELECT created_at FROM request WHERE sender = 'purged'")
    assert len(left) == 2500
    await pool.execute("DELETE FROM request WHERE sender = 'purged'")
