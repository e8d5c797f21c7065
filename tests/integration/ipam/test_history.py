"""`ip.history`: who held what, when; present and past as one."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from integration.ipam.harness import Ipam, Network

from viaduct_common.errors import InvalidRequest
from viaduct_common.messages.base import Page
from viaduct_common.messages.ipam import AllocateIp, IpHolding, QueryHistory, ReleaseIp

START = datetime(2026, 1, 1, tzinfo=UTC)


async def history(network: Network, *, limit: int = 100, after: str | None = None, **filters: Any) -> Page[IpHolding]:
    body = {"filters": {"l3_network_uuid": network.l3} | filters, "limit": limit, "after": after}
    return await network.ipam(QueryHistory.model_validate(body))


async def held(network: Network, ip: str, owner: str | None, first: int, last: int | None) -> UUID:
    """Somebody held the address from one day to another, counted from START, or still does."""
    [used] = await network.allocate(required_ip=ip, owner=owner)
    if last is not None:
        await network.release(ip)
    table, end = ("used_ip", "") if last is None else ("ip_history", ", ended_at = $3")
    days = [START + timedelta(days=day) for day in (first, last) if day is not None]
    await network.ipam.pool.execute(f"UPDATE {table} SET allocated_at = $2{end} WHERE uuid = $1", used.uuid, *days)
    return used.uuid


async def test_a_holding_tells_by_whom_and_by_which_requests(network: Network) -> None:
    """While it lasts it has no end."""
    await network.range(network_cidr="10.0.0.0/24")
    allocation, release = uuid4(), uuid4()
    request = AllocateIp(l3_network_uuid=network.l3, owner="vm-1", mac="52:54:00:00:00:01")
    [used] = await network.ipam(request, allocation)

    [now] = (await history(network)).items
    await network.ipam(ReleaseIp(uuids=[used.uuid]), release)
    [then] = (await history(network)).items

    assert (now.uuid, now.ip, now.owner, now.mac) == (used.uuid, used.ip, "vm-1", "52:54:00:00:00:01")
    assert (now.allocated_at, now.allocated_by, now.allocated_by_message) == (used.allocated_at, "tester", allocation)
    assert (now.ended_at, now.end, now.ended_by, now.ended_by_message) == (None, None, None, None)
    ended = {"ended_at": then.ended_at, "end": "released", "ended_by": "tester", "ended_by_message": release}
    assert then == now.model_copy(update=ended)
    assert then.ended_at is not None
    assert then.ended_at >= then.allocated_at


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (None, None, ["now", "second", "long", "first"]),
        (10, 10, ["long", "first"]),  # its last day counts
        (11, 19, ["long"]),
        (20, None, ["now", "second", "long"]),
        (None, 0, ["long", "first"]),  # and its first
        (31, 39, []),
        (1000, None, ["now"]),
        (None, -1, []),
    ],
)
async def test_what_was_held_at_any_moment_of_a_span(
    network: Network, first: int | None, last: int | None, expected: list[str]
) -> None:
    """Both ends of a span and of a holding are inclusive; what began last comes first."""
    await network.range(network_cidr="10.0.0.0/24")
    names = {
        await held(network, "10.0.0.5", "a", 0, 10): "first",
        await held(network, "10.0.0.5", "b", 20, 30): "second",
        await held(network, "10.0.0.6", "a", -0, 30): "long",
        await held(network, "10.0.0.5", "a", 40, None): "now",
    }
    # Two began at the same moment: put one a little later.
    await network.ipam.pool.execute(
        "UPDATE ip_history SET allocated_at = allocated_at + interval '1 microsecond'"
        " WHERE l3_network_uuid = $1 AND ip = '10.0.0.6'",
        network.l3,
    )
    span: dict[str, Any] = {
        name: START + timedelta(days=day, microseconds=day == 0)
        for name, day in (("from_time", first), ("to_time", last))
        if day is not None
    }

    page = await history(network, **span)

    assert [names[one.uuid] for one in page.items] == expected


async def test_filters_narrow_what_is_listed(network: Network) -> None:
    """By uuid, address and owner, one or several, past and present alike."""
    await network.range(network_cidr="10.0.0.0/24")
    first = await held(network, "10.0.0.5", "a", 0, 10)
    second = await held(network, "10.0.0.5", "b", 20, None)
    third = await held(network, "10.0.0.6", "a", 30, None)
    await held(network, "10.0.0.7", None, 40, 50)

    async def found(**filters: Any) -> list[UUID]:
        return [one.uuid for one in (await history(network, **filters)).items]

    assert await found(ip="10.0.0.5") == [second, first]
    assert await found(owner="a") == [third, first]
    assert await found(owner=["a", "b"], ip=["10.0.0.5", "10.0.0.7"]) == [second, first]
    assert await found(uuid=[third, first]) == [third, first]
    assert await found(uuid=uuid4()) == []
    assert await found(owner="nobody") == []


async def test_pages_hold_each_once_though_allocations_end_between_them(network: Network) -> None:
    """An allocation that moves to the past keeps its place."""
    await network.range(network_cidr="10.0.0.0/24")
    used = [one.uuid for one in await network.allocate(count=30)]
    await network.ipam(ReleaseIp(uuids=used[::3]))

    seen: list[UUID] = []
    after = None
    while True:
        page = await history(network, limit=7, after=after)
        seen += [one.uuid for one in page.items]
        await network.ipam(ReleaseIp(uuids=[used[len(seen) % 30], used[-len(seen) % 30]]))
        after = page.after
        if after is None:
            break

    assert sorted(seen) == sorted(used)


async def test_the_same_address_of_two_networks_is_told_apart(ipam: Ipam) -> None:
    """By the L3 network; without one both are listed."""
    one, other = await ipam.network(), await ipam.network()
    owner = str(uuid4())
    for network in (one, other):
        await network.range(network_cidr="10.0.0.0/24")
        await network.ips(required_ip="10.0.0.9", owner=owner)

    assert [each.l3_network_uuid for each in (await history(one, ip="10.0.0.9")).items] == [one.l3]
    both = await ipam(QueryHistory.model_validate({"filters": {"owner": owner}, "sort": "allocatedAt"}))
    assert [each.l3_network_uuid for each in both.items] == [one.l3, other.l3]


async def test_what_cannot_be_asked_is_refused(network: Network) -> None:
    """A span that ends before it begins, a cursor that is not ours, a sort field that does not exist."""
    with pytest.raises(InvalidRequest) as refused:
        await history(network, from_time=START + timedelta(days=1), to_time=START)
    assert refused.value.details["field"] == "filters.toTime"
    with pytest.raises(InvalidRequest):
        await history(network, after="made up")
    with pytest.raises(InvalidRequest):
        await network.ipam(QueryHistory(sort="endedBy"))
