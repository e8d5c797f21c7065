"""`scope.*`, `range.*` and `reservation.*` on a real database."""

from uuid import uuid4

import pytest
from integration.ipam.harness import Ipam, Network

from viaduct_common.errors import Conflict, Exhausted, InUse, InvalidRequest, IpRangeConflict, NotFound
from viaduct_common.messages.ipam import (
    CreateRange,
    CreateReservation,
    DeleteRange,
    DeleteReservation,
    DeleteScope,
    GetRange,
    QueryRanges,
    QueryReservations,
    RangeFilters,
    RegisterScope,
    ReservationFilters,
)


async def test_registration_is_idempotent(ipam: Ipam) -> None:
    """The same again gives the same scope; another L2 network or zone is a conflict; a named strategy is taken over."""
    first = RegisterScope(l3_network_uuid=uuid4(), l2_network_uuid=uuid4(), zone_uuid=uuid4(), strategy="random")
    scope = await ipam(first)

    assert await ipam(first) == scope
    unnamed = RegisterScope.model_validate(first.model_dump(exclude={"strategy"}))
    assert (await ipam(unnamed)).strategy == "random"
    assert (await ipam(first.model_copy(update={"strategy": "nextFit"}))).strategy == "nextFit"
    for field in ("l2_network_uuid", "zone_uuid"):
        with pytest.raises(Conflict):
            await ipam(first.model_copy(update={field: uuid4()}))


async def test_scope_with_used_addresses_stays(ipam: Ipam, network: Network) -> None:
    """It goes with its ranges and reservations once nothing of it is used; a second delete is no error."""
    [stored] = await network.range(network_cidr="10.0.0.0/29")
    await network.reserve("10.0.0.5", "10.0.0.6")
    [ip] = await network.ips()

    with pytest.raises(InUse) as refused:
        await ipam(DeleteScope(l3_network_uuid=network.l3))
    assert refused.value.details["used"] == 1

    await network.release(ip)
    gone = await ipam(DeleteScope(l3_network_uuid=network.l3))
    assert gone is not None
    assert gone.l3_network_uuid == network.l3
    assert await ipam(DeleteScope(l3_network_uuid=network.l3)) is None
    with pytest.raises(NotFound):
        await ipam(GetRange(uuid=stored.uuid))


async def test_cidr_is_split_around_its_gateway(ipam: Ipam, network: Network) -> None:
    """Host bits are cleared, two ranges come back in order, and each can be got again."""
    low, high = await network.range(network_cidr="10.0.0.77/24", gateway="10.0.0.100", name="blue")

    assert [(str(one.start_ip), str(one.end_ip)) for one in (low, high)] == [
        ("10.0.0.1", "10.0.0.99"),
        ("10.0.0.101", "10.0.0.254"),
    ]
    assert {(one.network_cidr, str(one.gateway), str(one.netmask), one.name) for one in (low, high)} == {
        ("10.0.0.0/24", "10.0.0.100", "255.255.255.0", "blue")
    }
    assert await ipam(GetRange(uuid=low.uuid)) == low
    page = await ipam(QueryRanges(filters=RangeFilters(l3_network_uuid=network.l3, ip_version=4, type="normal")))
    assert page.items == [low, high]


async def test_ranges_on_one_l2_never_overlap(ipam: Ipam, network: Network) -> None:
    """Whichever L3 network they belong to; the other range is named, and another L2 network does not care."""
    neighbour, stranger = await ipam.network(l2=network.l2), await ipam.network()
    [stored] = await network.range(network_cidr="10.0.0.0/24")

    for other in (network, neighbour):
        for cidr in ("10.0.0.0/24", "10.0.0.128/25", "10.0.0.0/16"):
            with pytest.raises(IpRangeConflict) as refused:
                await other.range(network_cidr=cidr)
            assert refused.value.details["rangeUuid"] == str(stored.uuid)
    assert await stranger.range(network_cidr="10.0.0.0/24")
    assert await neighbour.range(network_cidr="2001:db8::/64")


async def test_neighbours_share_a_subnet_but_no_address(ipam: Ipam, network: Network) -> None:
    """Two L3 networks of one L2 network may cut one subnet in two."""
    neighbour = await ipam.network(l2=network.l2)
    await network.range(start_ip="10.0.0.2", end_ip="10.0.0.9", prefix_length=24, gateway="10.0.0.1")
    await neighbour.range(start_ip="10.0.0.10", end_ip="10.0.0.19", prefix_length=24, gateway="10.0.0.1")

    assert await network.ips(count=8) != await neighbour.ips(count=8)


async def test_normal_ranges_share_subnet_and_gateway(network: Network) -> None:
    """Another subnet, netmask or gateway is refused with its field; without a gateway the L3 network's is taken."""
    await network.range(start_ip="10.0.0.2", end_ip="10.0.0.9", prefix_length=24, gateway="10.0.0.1")
    near = {"start_ip": "10.0.0.20", "end_ip": "10.0.0.29"}

    for fields, culprit in (
        ({"start_ip": "10.0.1.2", "end_ip": "10.0.1.9", "prefix_length": 24, "gateway": "10.0.1.1"}, "startIp"),
        ({**near, "prefix_length": 25, "gateway": "10.0.0.1"}, "prefixLength"),
        ({**near, "prefix_length": 24, "gateway": "10.0.0.254"}, "gateway"),
        ({"network_cidr": "10.0.7.0/24"}, "networkCidr"),
    ):
        with pytest.raises(InvalidRequest) as refused:
            await network.range(**fields)
        assert refused.value.details["field"] == culprit

    [inherited] = await network.range(**near, prefix_length=24)
    assert str(inherited.gateway) == "10.0.0.1"


async def test_address_pool_may_lie_in_another_subnet(network: Network) -> None:
    """With or without a gateway; it is used unasked only after the normal ranges."""
    [pool] = await network.range(network_cidr="10.9.0.0/30", type="addressPool")
    await network.range(start_ip="10.20.0.2", end_ip="10.20.0.2", prefix_length=24, gateway="10.20.0.1")

    assert pool.gateway is None
    assert await network.ips(range_uuid=pool.uuid) == ["10.9.0.1"]
    assert await network.ips(count=2) == ["10.20.0.2", "10.9.0.2"]
    with pytest.raises(Exhausted):
        await network.ips()


async def test_gateway_is_never_handed_out_by_another_range(network: Network) -> None:
    """A pool over the gateway of a normal range is refused, and the other way round."""
    await network.range(start_ip="10.0.0.10", end_ip="10.0.0.19", prefix_length=24, gateway="10.0.0.1")
    with pytest.raises(InvalidRequest) as refused:
        await network.range(type="addressPool", start_ip="10.0.0.1", end_ip="10.0.0.5", prefix_length=24)
    assert refused.value.details["field"] == "startIp"

    await network.range(type="addressPool", start_ip="10.7.0.1", end_ip="10.7.0.5", prefix_length=24)
    with pytest.raises(InvalidRequest) as refused:
        await network.range(
            type="addressPool", start_ip="10.7.0.7", end_ip="10.7.0.9", prefix_length=24, gateway="10.7.0.2"
        )
    assert refused.value.details["field"] == "gateway"


async def test_a_gateway_between_the_bounds_is_neither_counted_nor_given(network: Network) -> None:
    """So are the subnet's edges, where bounds include them."""
    await network.range(start_ip="10.0.0.0", end_ip="10.0.0.7", prefix_length=29, gateway="10.0.0.3")

    assert (await network.capacity()).total == 5
    assert await network.ips(count=5) == ["10.0.0.1", "10.0.0.2", "10.0.0.4", "10.0.0.5", "10.0.0.6"]


async def test_range_with_used_addresses_stays(ipam: Ipam, network: Network) -> None:
    """The refusal names addresses in use; once released the range goes, and its bounds are free again."""
    [stored] = await network.range(network_cidr="10.0.0.0/24")
    ips = await network.ips(count=12)

    with pytest.raises(InUse) as refused:
        await ipam(DeleteRange(uuid=stored.uuid))
    assert (refused.value.details["used"], refused.value.details["ips"]) == (12, ips[:10])

    await network.release(*ips)
    assert await ipam(DeleteRange(uuid=stored.uuid)) == stored
    assert await ipam(DeleteRange(uuid=stored.uuid)) is None
    assert await network.range(network_cidr="10.0.0.0/24")


async def test_next_fit_survives_the_range_it_was_in(ipam: Ipam) -> None:
    """It goes on with the next range above."""
    network = await ipam.network("nextFit")
    low, _ = await network.range(network_cidr="10.0.0.0/29", gateway="10.0.0.4")
    ips = await network.ips(count=2)
    await network.release(*ips)
    await ipam(DeleteRange(uuid=low.uuid))

    assert await network.ips(count=2) == ["10.0.0.5", "10.0.0.6"]


async def test_reservation_may_come_before_its_range(ipam: Ipam, network: Network) -> None:
    """So no address slips out between the two."""
    reservation = await network.reserve("10.0.0.2", "10.0.0.5")
    await network.range(network_cidr="10.0.0.0/29")

    assert await network.ips() == ["10.0.0.6"]
    page = await ipam(QueryReservations(filters=ReservationFilters(l3_network_uuid=network.l3)))
    assert page.items == [reservation]


@pytest.mark.parametrize(("start", "end"), [("10.0.0.5", "10.0.0.4"), ("10.0.0.5", "2001:db8::1")])
async def test_reservation_with_ends_that_do_not_match_is_refused(network: Network, start: str, end: str) -> None:
    """Start <= end, one IP version."""
    with pytest.raises(InvalidRequest) as refused:
        await network.reserve(start, end)

    assert refused.value.details["field"] == "endIp"


async def test_nothing_is_made_in_an_unknown_network(ipam: Ipam) -> None:
    """Ranges and reservations want a registered L3 network."""
    body = {"l3_network_uuid": uuid4(), "start_ip": "10.0.0.1", "end_ip": "10.0.0.2"}
    with pytest.raises(NotFound):
        await ipam(CreateRange.model_validate({**body, "prefix_length": 24}))
    with pytest.raises(NotFound):
        await ipam(CreateReservation.model_validate(body))
    assert await ipam(DeleteReservation(uuid=uuid4())) is None


async def test_changes_are_announced_with_their_commit(ipam: Ipam, network: Network) -> None:
    """One event per range and for the scope; a refused request announces nothing."""
    low, high = await network.range(network_cidr="10.0.0.0/24", gateway="10.0.0.9")
    with pytest.raises(IpRangeConflict):
        await network.range(network_cidr="10.0.0.0/24")
    await ipam(DeleteRange(uuid=low.uuid))
    await ipam(DeleteScope(l3_network_uuid=network.l3))

    rows = await ipam.pool.fetch(
        "SELECT type, exchange, convert_from(body, 'UTF8') AS body FROM outbox "
        "WHERE convert_from(body, 'UTF8') LIKE $1 ORDER BY id",
        f"%{network.l3}%",
    )
    assert [row["type"] for row in rows] == ["range.created", "range.created", "range.deleted", "scope.deleted"]
    assert str(high.uuid) in rows[1]["body"]
    assert {row["exchange"] for row in rows} == {"viaduct.events"}
