"""`ip.audit` and `ip.reclaim`: allocations of owners whom nobody knows any more."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest
from integration.ipam.harness import Ipam, Network

from viaduct_common.errors import Conflict, DeadlineExceeded, InvalidRequest, PreconditionFailed
from viaduct_common.messages.base import Request
from viaduct_common.messages.ipam import AuditIps, IpAudit, QueryHistory, ReclaimIps, ReleaseIp
from viaduct_common.postgres.pool import Pool


async def audit(network: Network, **fields: Any) -> IpAudit:
    body = {"l3_network_uuid": network.l3, "grace_seconds": 0, **fields}
    return await network.ipam(AuditIps.model_validate(body))


class Manager:
    """Knows some owners; `meanwhile` happens before it answers."""

    def __init__(self, *known: str) -> None:
        self.known = set(known)
        self.asked: list[list[str]] = []
        self.meanwhile: Callable[[], Awaitable[object]] | None = None
        self.away = False

    async def ask(self, owners: list[str]) -> Collection[str]:
        self.asked.append(owners)
        if self.meanwhile is not None:
            await self.meanwhile()
        if self.away:
            raise DeadlineExceeded("no reply")
        return [owner for owner in owners if owner in self.known]


@asynccontextmanager
async def beside(pool: Pool, manager: Manager) -> AsyncIterator[Network]:
    async with Ipam(pool, ask_owners=manager.ask) as ipam:
        network = await ipam.network()
        await network.range(network_cidr="10.0.0.0/22")
        yield network
        assert await ipam.audit() == []


async def test_owners_whom_the_manager_does_not_know_are_listed(pool: Pool) -> None:
    """Each owner is asked for once; without owner an allocation is listed only if that is wanted."""
    manager = Manager("vm-1")
    async with beside(pool, manager) as network:
        await network.allocate(owner="vm-1")
        lost = await network.allocate(owner="vm-2", count=2)
        ownerless = await network.allocate()

        found = await audit(network)
        assert (found.unknown, found.checked, found.after) == (lost, 4, None)
        assert manager.asked == [["vm-1", "vm-2"]]
        assert (await audit(network, include_ownerless=True)).unknown == lost + ownerless
        assert (await audit(network, grace_seconds=60)).checked == 0
        assert (await network.capacity()).used == 4


async def test_known_owners_are_asked_instead_of_the_manager(network: Network) -> None:
    """So an audit needs no manager."""
    await network.range(network_cidr="10.0.0.0/24")
    [mine] = await network.allocate(owner="vm-1")
    [other] = await network.allocate(owner="vm-2")

    assert (await audit(network, known_owners=["vm-2"])).unknown == [mine]
    assert (await audit(network, known_owners=[])).unknown == [mine, other]
    assert await network.ipam(ReclaimIps(uuids=[other.uuid, mine.uuid], known_owners=["vm-2"])) == [mine]


@pytest.mark.parametrize("of_l3", [True, False])
async def test_pages_reach_every_allocation_once(pool: Pool, of_l3: bool) -> None:
    """Of one L3 network by address, of all by uuid; what is freed in between does no harm."""
    async with beside(pool, Manager()) as network:
        used = await network.allocate(owner=str(uuid4()), count=25)
        seen: list[UUID] = []
        after: str | None = None
        while True:
            fields = {"limit": 4} if of_l3 else {"limit": 1000, "l3_network_uuid": None}
            page = await audit(network, after=after, **fields)
            seen += [one.uuid for one in page.unknown if one.l3_network_uuid == network.l3]
            await network.ipam(ReclaimIps(uuids=[one.uuid for one in page.unknown][:2] or [uuid4()]))
            after = page.after
            if after is None:
                break
        if of_l3:
            assert seen == [one.uuid for one in used]
        assert sorted(seen) == sorted(one.uuid for one in used)


@pytest.mark.parametrize("request_type", [AuditIps, ReclaimIps])
async def test_without_a_manager_the_caller_is_told_what_to_do(pool: Pool, request_type: type) -> None:
    """Nothing is freed, and the same message may be sent again."""
    manager = Manager()
    manager.away = True
    async with beside(pool, manager) as network:
        [lost] = await network.allocate(owner="vm-1")
        request: Request[Any] = ReclaimIps(uuids=[lost.uuid])
        if request_type is AuditIps:
            request = AuditIps(l3_network_uuid=network.l3, grace_seconds=0)
        message_id = uuid4()
        with pytest.raises(PreconditionFailed, match="knownOwners") as refused:
            await network.ipam(request, message_id)
        assert refused.value.retryable
        assert (await network.capacity()).used == 1

        manager.away = False
        answer = await network.ipam(request, message_id)
        assert (answer.unknown if isinstance(answer, IpAudit) else answer) == [lost]


async def test_an_owner_that_is_made_meanwhile_is_not_reported(pool: Pool) -> None:
    """Addresses are read first and owners asked second: who holds one of these is known when he is asked for."""
    manager = Manager()
    async with beside(pool, manager) as network:
        [early] = await network.allocate(owner="early")

        async def create() -> None:
            await network.allocate(owner="late")
            manager.known.update({"early", "late"})

        manager.meanwhile = create
        found = await audit(network)

        assert (found.unknown, found.checked) == ([], 1)
        assert await network.ipam(ReclaimIps(uuids=[early.uuid])) == []


async def test_no_connection_is_held_while_the_manager_is_asked(pool: Pool) -> None:
    """However many audits wait for it."""
    manager = Manager()
    everyone_asks = asyncio.Event()
    async with beside(pool, manager) as network:
        [lost] = await network.allocate(owner="vm-1")
        count = pool.get_max_size() + 4

        async def wait() -> None:
            if len(manager.asked) == 2 * count:
                everyone_asks.set()
            await everyone_asks.wait()

        manager.meanwhile = wait
        audits = [asyncio.create_task(audit(network)) for _ in range(count)]
        reclaims = [asyncio.create_task(network.ipam(ReclaimIps(uuids=[lost.uuid]))) for _ in range(count)]
        await asyncio.gather(*audits)

        assert sorted(map(len, await asyncio.gather(*reclaims))) == [0] * (count - 1) + [1]


async def test_an_address_that_got_another_owner_meanwhile_is_not_freed(pool: Pool) -> None:
    """Between audit and reclaim, and also between its question and its effect: the uuid is another then."""
    manager = Manager("new")
    async with beside(pool, manager) as network:
        [lost] = await network.allocate(owner="old")
        assert (await audit(network)).unknown == [lost]

        async def pass_on() -> None:
            await network.release(str(lost.ip))
            await network.allocate(owner="new", required_ip=lost.ip)

        manager.meanwhile = pass_on
        assert await network.ipam(ReclaimIps(uuids=[lost.uuid])) == []
        manager.meanwhile = None
        assert await network.ipam(ReclaimIps(uuids=[lost.uuid])) == []
        assert (await network.capacity()).used == 1


async def test_a_reclaim_is_done_once_and_remembered(pool: Pool) -> None:
    """A repeated one gets the same answer, also while the manager is away; the history says who reclaimed."""
    manager = Manager()
    async with beside(pool, manager) as network:
        lost = await network.allocate(owner="vm-1", count=3)
        order = [lost[2].uuid, lost[0].uuid, lost[2].uuid]
        message_id = uuid4()

        answers = await asyncio.gather(*(network.ipam.answer(ReclaimIps(uuids=order), message_id) for _ in range(4)))
        manager.away = True
        assert {*answers} == {await network.ipam.answer(ReclaimIps(uuids=order), message_id)}
        with pytest.raises(Conflict):
            await network.ipam(ReleaseIp(uuids=order), message_id)

        page = await network.ipam(QueryHistory.model_validate({"filters": {"uuid": order}}))
        assert {(one.end, one.ended_by, one.ended_by_message) for one in page.items} == {
            ("reclaimed", "tester", message_id)
        }
        assert (await network.capacity()).used == 1


async def test_reclaimed_addresses_of_several_networks_cool_and_count(pool: Pool) -> None:
    """As released ones do; what has no owner is freed if it is named."""
    async with beside(pool, Manager()) as network:
        other = await network.ipam.network(cooling_seconds=60)
        await other.range(start_ip="10.9.0.1", end_ip="10.9.0.2", prefix_length=24)
        [first] = await network.allocate(owner="vm-1")
        second, third = await other.allocate(owner="vm-2", count=2)
        [ownerless] = await network.allocate()

        freed = await network.ipam(ReclaimIps(uuids=[third.uuid, ownerless.uuid, first.uuid, second.uuid]))

        assert freed == [third, ownerless, first, second]
        assert ((await network.capacity()).used, (await other.capacity()).cooling) == (0, 2)
        level = await pool.fetchval("SELECT fill_level_v4 FROM scope WHERE l3_network_uuid = $1", other.l3)
        assert level == 100


async def test_a_cursor_of_another_audit_is_refused(network: Network) -> None:
    """An address is none of all networks, a uuid none of one."""
    for fields in ({"after": "10.0.0.5", "l3_network_uuid": None}, {"after": str(uuid4())}, {"after": "x"}):
        with pytest.raises(InvalidRequest) as refused:
            await audit(network, known_owners=[], **fields)
        assert refused.value.details["field"] == "after"
