"""`reservation.*` on a real database; what they mean for an allocation is in `test_addresses.py`."""

import ipaddress
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from integration.ipam.harness import Ipam, Network

from viaduct_common.errors import Conflict, InvalidRequest
from viaduct_common.messages.ipam import DeleteReservation, QueryReservations, ReservationFilters
from viaduct_common.postgres.pool import Pool
from viaduct_ipam.model.blocks import BLOCK_SIZE

MAC = "52:54:00:12:34:56"


async def test_reservation_may_come_before_its_range(ipam: Ipam, network: Network) -> None:
    """So no address slips out between the two."""
    reservation = await network.reserve("10.0.0.2", "10.0.0.5")
    await network.range(network_cidr="10.0.0.0/29")

    assert await network.ips() == ["10.0.0.6"]
    page = await ipam(QueryReservations(filters=ReservationFilters(l3_network_uuid=network.l3)))
    assert page.items == [reservation]


@pytest.mark.parametrize(
    ("start", "end", "fields", "culprit"),
    [
        ("10.0.0.5", "10.0.0.4", {}, "endIp"),
        ("10.0.0.5", "2001:db8::1", {}, "endIp"),
        ("10.0.0.5", "10.0.0.6", {"owner": "vm-1"}, "owner"),
        ("10.0.0.5", "10.0.0.6", {"mac": MAC}, "mac"),
        ("10.0.0.5", "10.0.0.6", {"mac": MAC, "owner": "vm-1"}, "owner"),
    ],
)
async def test_bad_reservation_is_refused(
    network: Network, start: str, end: str, fields: dict[str, Any], culprit: str
) -> None:
    """Start <= end, one IP version; for somebody it is a single address."""
    with pytest.raises(InvalidRequest) as refused:
        await network.reserve(start, end, **fields)

    assert refused.value.details["field"] == culprit


async def test_used_addresses_become_reserved_when_released(ipam: Ipam, network: Network) -> None:
    """Until then they count as used."""
    await network.range(network_cidr="10.0.0.0/28")
    await network.ips(count=4)
    await network.reserve("10.0.0.2", "10.0.0.9")
    capacity = await network.capacity()
    assert (capacity.used, capacity.reserved, capacity.available) == (4, 4, 5)

    await network.release("10.0.0.2", "10.0.0.4")

    capacity = await network.capacity()
    assert (capacity.used, capacity.reserved, capacity.available) == (2, 6, 5)
    assert await network.ips() == ["10.0.0.10"]


async def test_an_address_is_kept_for_one_holder(ipam: Ipam, network: Network) -> None:
    """For another it is a conflict that names the reservation; a holder may have several, and more than once."""
    first = await network.reserve("10.0.0.5", "10.0.0.5", owner="vm-1")
    assert (first.owner, first.mac) == ("vm-1", None)

    for other in ({"owner": "vm-2"}, {"mac": MAC}, {"owner": "vm-1", "mac": MAC}):
        with pytest.raises(Conflict) as refused:
            await network.reserve("10.0.0.5", "10.0.0.5", **other)
        assert refused.value.details == {"reservationUuid": str(first.uuid)}
    again = await network.reserve("10.0.0.5", "10.0.0.5", owner="vm-1")
    await network.reserve("10.0.0.6", "10.0.0.6", owner="vm-1", mac=MAC)
    await network.reserve("2001:db8::5", "2001:db8::5", owner="vm-1")
    await network.reserve("10.0.0.0", "10.0.0.9", reason="for nobody: it may lie over it")
    stranger = await ipam.network()
    await stranger.reserve("10.0.0.5", "10.0.0.5", owner="vm-2")

    for one in (first, again):
        assert await ipam(DeleteReservation(uuid=one.uuid)) == one
    assert await network.reserve("10.0.0.5", "10.0.0.5", mac=MAC.upper().replace(":", "-"))


async def test_reservations_are_listed_by_holder(ipam: Ipam, network: Network) -> None:
    """By owner, MAC, uuid and L3 network, and together."""
    one = await network.reserve("10.0.0.5", "10.0.0.5", owner="vm-1", mac=MAC)
    two = await network.reserve("10.0.0.6", "10.0.0.6", owner="vm-1")
    wide = await network.reserve("10.0.0.7", "10.0.0.9", reason="switches")

    async def listed(sort: str | None = None, **filters: Any) -> list[Any]:
        asked = QueryReservations(filters=ReservationFilters(l3_network_uuid=network.l3, **filters), sort=sort)
        return (await ipam(asked)).items

    assert one.mac == MAC
    assert await listed() == [one, two, wide]
    assert await listed(owner="vm-1") == [one, two]
    assert await listed(mac=MAC.upper()) == [one]
    assert await listed(mac=[MAC, "52:54:00:00:00:00"], owner=["vm-1", "vm-2"]) == [one]
    assert await listed(uuid=[two.uuid, wide.uuid]) == [two, wide]
    assert (await listed(sort="-mac"))[0] == one
    assert await listed(sort="owner") == [wide, *sorted([one, two], key=lambda held: str(held.uuid))]


async def test_every_reservation_raises_the_revisions(ipam: Ipam, network: Network) -> None:
    """So whoever has read the scope before reads it again."""
    before = await network.revisions()
    made = await network.reserve("10.0.0.5", "10.0.0.5")
    added = await network.revisions()
    await ipam(DeleteReservation(uuid=made.uuid))
    removed = await network.revisions()
    assert await ipam(DeleteReservation(uuid=made.uuid)) is None

    assert await network.revisions() == removed
    for older, newer in ((before, added), (added, removed)):
        assert newer[0] > older[0]
        assert newer[1] > older[1]


numbers = st.integers(0, 40)
spans = st.tuples(numbers, st.integers(0, 12)).map(lambda pair: (pair[0], min(40, sum(pair))))
steps = st.one_of(
    st.tuples(st.just("reserve"), spans),
    st.tuples(st.just("reserve"), spans),
    st.tuples(st.just("unreserve"), numbers),
    st.tuples(st.just("require"), numbers),
    st.tuples(st.just("require"), numbers),
    st.tuples(st.just("release"), numbers),
)


@settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(cooling=st.sampled_from([0, 3600]), program=st.lists(steps, min_size=10, max_size=40))
async def test_overlapping_reservations_count_every_address_once(
    pool: Pool, cooling: int, program: list[tuple[str, Any]]
) -> None:
    """Over two ranges and a gap between them, used and cooling addresses: the capacity is what a set says."""
    base = ipaddress.ip_address("10.0.0.0") + BLOCK_SIZE - 20  # so that the ranges cross the border of a block
    assignable = {*range(16), *range(20, 41)}
    used: set[int] = set()
    rests: set[int] = set()
    reserved: dict[UUID, set[int]] = {}
    async with Ipam(pool) as ipam:
        network = await ipam.network(cooling_seconds=cooling)
        bounds = {"prefix_length": 21, "gateway": "10.0.0.1"}
        await network.range(start_ip=base, end_ip=base + 15, **bounds)
        await network.range(start_ip=base + 20, end_ip=base + 40, **bounds)
        for name, argument in program:
            if name == "reserve":
                made = await network.reserve(str(base + argument[0]), str(base + argument[1]))
                reserved[made.uuid] = set(range(argument[0], argument[1] + 1))
            elif name == "unreserve" and reserved:
                uuid = list(reserved)[argument % len(reserved)]
                assert await ipam(DeleteReservation(uuid=uuid))
                del reserved[uuid]
            elif name == "require" and argument in assignable - used - rests:
                await network.ips(required_ip=base + argument, allow_reserved=True)
                used.add(argument)
            elif name == "release" and used:
                number = sorted(used)[argument % len(used)]
                await network.release(str(base + number))
                used.remove(number)
                if cooling:
                    rests.add(number)
            capacity = await network.capacity()
            kept = (set().union(*reserved.values()) & assignable) - used - rests
            assert (capacity.total, capacity.used, capacity.cooling) == (len(assignable), len(used), len(rests))
            assert capacity.reserved == len(kept)
            assert capacity.available == len(assignable - used - rests - kept)
        assert await ipam.audit() == []


async def test_reserved_addresses_that_nobody_can_get_do_not_count(network: Network) -> None:
    """Neither outside of all ranges, nor the gateway or the edges of the subnet, which are never handed out."""
    await network.range(start_ip="10.0.0.0", end_ip="10.0.0.7", prefix_length=29, gateway="10.0.0.3")
    await network.reserve("10.0.0.0", "10.0.0.3")
    await network.reserve("10.0.0.7", "10.0.7.0")

    capacity = await network.capacity()
    assert (capacity.total, capacity.reserved, capacity.available) == (5, 2, 3)
