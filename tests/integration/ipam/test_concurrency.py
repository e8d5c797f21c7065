"""Many at once on one database: nothing is given twice, nothing is lost."""

import asyncio
import random
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from uuid import uuid4

import pytest
from integration.ipam.harness import Ipam, Network

from viaduct_common.errors import Conflict, Exhausted, InUse, IpInUse, IpRangeConflict, NotFound, ViaductError
from viaduct_common.messages.ipam import (
    AllocateIp,
    CheckIp,
    DeleteRange,
    DeleteReservation,
    DeleteScope,
    RegisterScope,
    ReleaseIp,
)
from viaduct_common.postgres.pool import Pool
from viaduct_ipam.engine.desk import Desk
from viaduct_ipam.engine.work import Work

_WAITING = """
    SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%SELECT revision FROM scope%'
"""

STRATEGIES = ["firstAvailable", "nextFit", "random", "sticky"]


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_allocators_share_a_range_to_its_last_address(ipam: Ipam, strategy: str) -> None:
    """Fifty callers want 40 addresses: each is given once, and ten callers are told that nothing is left."""
    network = await ipam.network(strategy)
    await network.range(start_ip="10.0.3.250", end_ip="10.0.4.33", prefix_length=21, gateway="10.0.0.1")  # over blocks

    answers = await asyncio.gather(*(network.ips() for _ in range(50)), return_exceptions=True)

    given = [ip for answer in answers if isinstance(answer, list) for ip in answer]
    assert len(given) == len(set(given)) == 40
    assert Counter(type(answer) for answer in answers) == {list: 40, Exhausted: 10}


async def test_concurrent_first_available_leaves_no_gap(network: Network) -> None:
    """Also side by side, the lowest addresses are given."""
    await network.range(network_cidr="10.0.0.0/24")

    answers = await asyncio.gather(*(network.ips() for _ in range(30)))

    assert {ip for answer in answers for ip in answer} == {f"10.0.0.{n}" for n in range(2, 32)}


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_churn_never_gives_an_address_to_two_owners(ipam: Ipam, strategy: str) -> None:
    """Owners who allocate and release in a tight range always hold what nobody else holds."""
    network = await ipam.network(strategy)
    await network.range(network_cidr="10.0.0.0/28")
    held: set[str] = set()

    async def owner(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(10):
            try:
                ips = await network.ips(count=rng.randint(1, 3))
            except Exhausted:
                continue
            assert not held.intersection(ips)
            held.update(ips)
            await asyncio.sleep(0)
            held.difference_update(ips)
            await network.release(*ips)

    async with asyncio.TaskGroup() as tasks:
        for seed in range(12):
            tasks.create_task(owner(seed))

    assert (await network.capacity()).used == 0


async def test_processes_that_share_a_network_agree(pool: Pool, ipam: Ipam) -> None:
    """Three of them, each with a memory of its own, while owners come and go and an operator reserves and frees: what
    the owners hold is what is used, and all numbers add up."""
    network = await ipam.network("nextFit")
    await network.range(start_ip="10.0.3.240", end_ip="10.0.4.40", prefix_length=21, gateway="10.0.0.1")
    held: set[str] = set()
    async with Ipam(pool, 2) as second, Ipam(pool, 3) as third:
        processes = [ipam, second, third]

        async def owner(seed: int) -> None:
            rng = random.Random(seed)
            mine: list[str] = []
            for _ in range(12):
                there = replace(network, ipam=rng.choice(processes))
                if mine and rng.random() < 0.5:
                    held.difference_update(mine)
                    assert len(await there.release(*mine)) == len(mine)
                    mine = []
                with suppress(Exhausted):
                    given = await there.ips(count=rng.randint(1, 3), strategy=rng.choice(STRATEGIES))
                    assert not held.intersection(given)
                    held.update(given)
                    mine += given

        async def operator() -> None:
            for number in range(10):
                there = replace(network, ipam=processes[number % 3])
                reservation = await there.reserve("10.0.4.0", "10.0.4.20")
                await there.capacity()
                await processes[(number + 1) % 3](DeleteReservation(uuid=reservation.uuid))

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(operator())
            for seed in range(24):
                tasks.create_task(owner(seed))

    capacity = await network.capacity()
    assert capacity.used == len(held)
    assert capacity.used + capacity.reserved + capacity.available == capacity.total


async def test_one_address_asked_for_by_many_goes_to_one(network: Network) -> None:
    """Twenty want the same: one has it, nineteen are told that it is in use."""
    await network.range(network_cidr="10.0.0.0/24")

    answers = await asyncio.gather(*(network.ips(required_ip="10.0.0.77") for _ in range(20)), return_exceptions=True)

    assert Counter(type(answer) for answer in answers) == {list: 1, IpInUse: 19}


async def test_of_overlapping_ranges_exactly_one_wins(ipam: Ipam) -> None:
    """Twelve L3 networks of one L2 network each want a range over the same addresses, two of them split in two."""
    l2 = uuid4()
    networks = [await ipam.network(l2=l2) for _ in range(12)]

    answers = await asyncio.gather(
        *(
            network.range(network_cidr="10.0.0.0/24", gateway="10.0.0.50" if index % 6 == 0 else None)
            for index, network in enumerate(networks)
        ),
        return_exceptions=True,
    )

    assert Counter(type(answer) for answer in answers) == {list: 1, IpRangeConflict: 11}


@pytest.mark.parametrize("seed", range(5))
async def test_range_is_deleted_or_in_use_but_never_both(network: Network, seed: int) -> None:
    """A delete among allocations: either all are refused, or the range stays."""
    [stored] = await network.range(network_cidr="10.0.0.0/29")
    requests = [network.ips(), network.ips(), network.ipam(DeleteRange(uuid=stored.uuid)), network.ips()]
    random.Random(seed).shuffle(requests)

    answers = await asyncio.gather(*requests, return_exceptions=True)

    kinds = Counter(type(answer).__name__ for answer in answers)
    assert kinds in (
        {"list": 3, "InUse": 1},
        {"RangeInventory": 1, "Exhausted": 3},
    )


@pytest.mark.parametrize("seed", range(5))
async def test_scope_is_deleted_or_in_use_but_never_both(network: Network, seed: int) -> None:
    """The same for a whole L3 network, while ranges come as well."""
    await network.range(network_cidr="10.0.0.0/29")
    requests = [
        network.ips(),
        network.ipam(DeleteScope(l3_network_uuid=network.l3)),
        network.range(network_cidr="10.1.0.0/29", type="addressPool"),
        network.reserve("10.0.0.6", "10.0.0.6"),
    ]
    random.Random(seed).shuffle(requests)

    answers = await asyncio.gather(*requests, return_exceptions=True)

    deleted = not any(isinstance(answer, InUse) for answer in answers)
    assert all(not isinstance(answer, Exception) or isinstance(answer, InUse | NotFound) for answer in answers)
    if deleted:
        with pytest.raises(NotFound):
            await network.ips()
    else:
        assert (await network.capacity()).used == 1


@pytest.mark.parametrize("times", [2, 8])
async def test_the_same_message_at_the_same_moment_allocates_once(network: Network, times: int) -> None:
    """All deliveries get the same answer, byte for byte, and so does one that comes late."""
    await network.range(network_cidr="10.0.0.0/24")
    request, message_id = AllocateIp(l3_network_uuid=network.l3, count=2), uuid4()

    answers = await asyncio.gather(*(network.ipam.answer(request, message_id) for _ in range(times)))

    assert len(set(answers)) == 1
    assert await network.ipam.answer(request, message_id) == answers[0]
    assert (await network.capacity()).used == 2


async def test_a_refusal_is_remembered_too(network: Network) -> None:
    """The same message id is refused again, though there is room by now; a new one is served."""
    await network.range(start_ip="10.0.0.5", end_ip="10.0.0.5", prefix_length=24)
    [ip] = await network.ips()
    request, message_id = AllocateIp(l3_network_uuid=network.l3), uuid4()

    for _ in range(2):
        with pytest.raises(Exhausted):
            await network.ipam(request, message_id)
        await network.release(ip)
    assert await network.ips() == [ip]


async def test_crossed_releases_do_not_deadlock(ipam: Ipam) -> None:
    """Releases that name allocations of two networks in opposite order both succeed."""
    one, other = await ipam.network(), await ipam.network()
    for network in (one, other):
        await network.range(network_cidr="10.0.0.0/24")
    mine, theirs = await one.allocate(count=20), await other.allocate(count=20)

    answers = await asyncio.gather(
        *(ipam(ReleaseIp(uuids=[left.uuid, right.uuid])) for left, right in zip(mine, theirs, strict=True)),
        *(ipam(ReleaseIp(uuids=[right.uuid, left.uuid])) for left, right in zip(mine, theirs, strict=True)),
    )

    assert sorted(str(used.uuid) for answer in answers for used in answer) == sorted(
        str(used.uuid) for used in (*mine, *theirs)
    )


async def somebody_waits(pool: Pool) -> None:
    """Until a lane waits for its scope. Not asked in a transaction: that sees what it saw when it first looked."""
    async with asyncio.timeout(10):
        while True:
            if await pool.fetchval(_WAITING):
                return
            await asyncio.sleep(0.01)


async def test_who_only_waits_behind_a_release_goes_back_to_the_desk(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else, under constant load, all of a network would stay in its lane for ever once one request had needed it."""
    await network.range(network_cidr="10.0.0.0/24")
    [held] = await network.ips()
    at_desk: list[Work] = []
    submit = Desk.submit
    monkeypatch.setattr(Desk, "submit", lambda desk, work: (at_desk.append(work), submit(desk, work))[1])

    async with network.ipam.pool.acquire() as other, other.transaction():
        await other.execute("SELECT FROM scope WHERE l3_network_uuid = $1 FOR UPDATE", network.l3)
        release = asyncio.create_task(network.release(held))
        await somebody_waits(network.ipam.pool)
        allocation = asyncio.create_task(network.ips(required_ip=held))
        await asyncio.sleep(0)
        assert at_desk == []

    assert len(await release) == 1
    assert await allocation == [held]
    assert len(at_desk) == 1


async def test_registration_by_many_makes_one_scope(ipam: Ipam) -> None:
    """All get the same scope; one on another L2 network is a conflict unless it was first."""
    request = RegisterScope(l3_network_uuid=uuid4(), l2_network_uuid=uuid4(), zone_uuid=uuid4())
    other = request.model_copy(update={"l2_network_uuid": uuid4()})

    answers = await asyncio.gather(*(ipam(one) for one in (request, other) * 5), return_exceptions=True)

    scopes = {answer.model_dump_json() for answer in answers if not isinstance(answer, BaseException)}
    assert len(scopes) == 1
    assert sum(isinstance(answer, Conflict) for answer in answers) == 5


async def test_no_caller_sees_an_internal_error_in_a_crowd(ipam: Ipam) -> None:
    """Everything at once on one L3 network ends in answers or in errors with a code of their own."""
    network = await ipam.network("nextFit")
    [stored] = await network.range(network_cidr="10.0.0.0/28")
    rng = random.Random(7)

    async def anything() -> object:
        kind = rng.randrange(6)
        if kind == 0:
            return await network.allocate(count=rng.randint(1, 4), strategy=rng.choice(STRATEGIES))
        if kind == 1:
            return await network.release(*(f"10.0.0.{rng.randint(1, 14)}" for _ in range(3)))
        if kind == 2:
            return await network.reserve("10.0.0.3", f"10.0.0.{rng.randint(3, 6)}")
        if kind == 3:
            return await network.ipam(DeleteRange(uuid=stored.uuid))
        if kind == 4:
            return await network.range(network_cidr="10.0.0.0/28")
        return await network.ipam(CheckIp.model_validate({"l3_network_uuid": network.l3, "ip": "10.0.0.4"}))

    answers = await asyncio.gather(*(anything() for _ in range(150)), return_exceptions=True)

    codes = {answer.code for answer in answers if isinstance(answer, ViaductError)}
    assert not [answer for answer in answers if isinstance(answer, BaseException) and not hasattr(answer, "code")]
    assert codes <= {"EXHAUSTED", "IP_RANGE_CONFLICT", "IN_USE"}
