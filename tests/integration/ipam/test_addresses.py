"""`ip.*` on a real database."""

import ipaddress
from uuid import uuid4

import pytest
from integration.ipam.harness import Ipam, Network

from viaduct_common.errors import Exhausted, InvalidRequest, IpInUse, NotFound, NotInRange
from viaduct_common.messages.ipam import (
    AllocateIp,
    CheckIp,
    DeleteReservation,
    GetFreeIps,
    GetIp,
    GetIpCapacity,
    QueryIps,
    ReleaseIp,
    UsedIpFilters,
)

SMALL = {"start_ip": "10.0.0.10", "end_ip": "10.0.0.12", "prefix_length": 24, "gateway": "10.0.0.1"}


async def test_first_available_gives_the_lowest_free_address(network: Network) -> None:
    """A released address below the highest one used comes next."""
    await network.range(network_cidr="10.0.0.0/24")

    assert await network.ips(count=3) == ["10.0.0.2", "10.0.0.3", "10.0.0.4"]
    await network.release("10.0.0.3")
    assert await network.ips(count=2) == ["10.0.0.3", "10.0.0.5"]


async def test_allocation_tells_all_that_an_interface_needs(network: Network) -> None:
    """The answer holds netmask, prefix length and gateway of the range, and the owner."""
    [stored] = await network.range(network_cidr="10.0.0.0/24")

    [used] = await network.allocate(owner="vm-7")

    assert (str(used.ip), used.prefix_length, str(used.netmask), str(used.gateway)) == (
        "10.0.0.2",
        24,
        "255.255.255.0",
        "10.0.0.1",
    )
    assert (used.range_uuid, used.l3_network_uuid, used.owner, used.ip_version) == (stored.uuid, network.l3, "vm-7", 4)
    assert await network.ipam(GetIp(uuid=used.uuid)) == used


async def test_next_fit_gives_a_released_address_only_after_all_others(ipam: Ipam) -> None:
    """Ascending from the last one given, then round; also across two ranges."""
    network = await ipam.network("nextFit")
    await network.range(network_cidr="10.0.0.0/29", gateway="10.0.0.4")  # .1-.3 and .5-.6

    assert await network.ips(count=3) == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    await network.release("10.0.0.1", "10.0.0.2")
    assert await network.ips(count=3) == ["10.0.0.5", "10.0.0.6", "10.0.0.1"]
    assert await network.ips() == ["10.0.0.2"]
    with pytest.raises(Exhausted):
        await network.ips()


async def test_next_fit_goes_on_where_the_named_range_was_left(ipam: Ipam) -> None:
    """A range asked for by its uuid has a cursor of its own."""
    network = await ipam.network("nextFit")
    low, high = await network.range(network_cidr="10.0.0.0/28", gateway="10.0.0.8")

    assert await network.ips(range_uuid=low.uuid) == ["10.0.0.1"]
    assert await network.ips(range_uuid=high.uuid) == ["10.0.0.9"]
    await network.release("10.0.0.1", "10.0.0.9")
    assert await network.ips(range_uuid=low.uuid) == ["10.0.0.2"]
    assert await network.ips(range_uuid=high.uuid) == ["10.0.0.10"]


async def test_random_gives_every_address_once_and_not_in_order(ipam: Ipam) -> None:
    """Random ends with the last free address found, not with a missed guess."""
    network = await ipam.network("random")
    await network.range(network_cidr="10.0.0.0/24")

    given = [ip for _ in range(253) for ip in await network.ips()]

    assert len(set(given)) == 253
    assert given != sorted(given, key=ipaddress.ip_address)
    with pytest.raises(Exhausted):
        await network.ips()


async def test_random_gives_many_at_once(network: Network) -> None:
    """A count is served by one search, from guesses and then from what is left."""
    await network.range(network_cidr="10.0.0.0/23")

    given = await network.ips(count=300, strategy="random") + await network.ips(count=209, strategy="random")

    assert len(set(given)) == 509


async def test_allocation_is_all_or_none(network: Network) -> None:
    """Four of three free addresses is none, and the details say how many there are."""
    await network.range(**SMALL)

    with pytest.raises(Exhausted) as refused:
        await network.allocate(count=4)

    assert refused.value.details["l3NetworkUuid"] == str(network.l3)
    assert refused.value.details["free"] == 3
    assert (await network.capacity()).used == 0
    assert len(await network.allocate(count=3)) == 3


async def test_required_address_is_given_once(network: Network) -> None:
    """A second request for it is refused, until it is released."""
    await network.range(**SMALL)
    assert await network.ips(required_ip="10.0.0.11") == ["10.0.0.11"]

    with pytest.raises(IpInUse) as refused:
        await network.ips(required_ip="10.0.0.11")

    assert refused.value.details["reason"] == "USED"
    await network.release("10.0.0.11")
    assert await network.ips(required_ip="10.0.0.11") == ["10.0.0.11"]


@pytest.mark.parametrize(
    ("ip", "error", "reason"),
    [
        ("10.0.0.0", NotInRange, "NETWORK"),
        ("10.0.0.255", NotInRange, "BROADCAST"),
        ("10.0.0.1", IpInUse, "GATEWAY"),
        ("10.0.1.1", NotInRange, "NOT_IN_RANGE"),
        ("2001:db8::1", NotInRange, "NOT_IN_RANGE"),
        ("10.0.0.9", IpInUse, "RESERVED"),
    ],
)
async def test_required_address_that_cannot_be_had_is_refused_for_its_reason(
    network: Network, ip: str, error: type[Exception], reason: str
) -> None:
    """`ip.allocate` refuses and `ip.check` says for the same reason."""
    await network.range(network_cidr="10.0.0.0/24")
    await network.reserve("10.0.0.9", "10.0.0.9")

    with pytest.raises(error) as refused:
        await network.ips(required_ip=ip)

    assert getattr(refused.value, "details", {})["reason"] == reason
    checked = await network.ipam(CheckIp.model_validate({"l3_network_uuid": network.l3, "ip": ip}))
    assert (checked.available, checked.reason) == (False, reason)


async def test_check_tells_a_free_and_a_used_address(network: Network) -> None:
    """Free: available, no reason; used comes before reserved."""
    await network.range(**SMALL)
    await network.reserve("10.0.0.10", "10.0.0.10")
    await network.ips(required_ip="10.0.0.10", allow_reserved=True)

    async def check(ip: str) -> tuple[bool, str | None]:
        found = await network.ipam(CheckIp.model_validate({"l3_network_uuid": network.l3, "ip": ip}))
        return found.available, found.reason

    assert await check("10.0.0.11") == (True, None)
    assert await check("10.0.0.10") == (False, "USED")


async def test_excluded_addresses_are_passed_over(network: Network) -> None:
    """With all free addresses excluded nothing is left."""
    await network.range(**SMALL)

    assert await network.ips(excluded_ips=["10.0.0.10", "10.0.0.11"]) == ["10.0.0.12"]
    with pytest.raises(Exhausted):
        await network.ips(excluded_ips=["10.0.0.10", "10.0.0.11"], strategy="random")


async def test_reserved_addresses_are_given_only_when_asked_for(network: Network) -> None:
    """Unasked they are passed over, by name with `allow_reserved` given; unreserved they are free again."""
    await network.range(**SMALL)
    reservation = await network.reserve("10.0.0.10", "10.0.0.11")

    assert await network.ips() == ["10.0.0.12"]
    with pytest.raises(Exhausted):
        await network.ips(allow_reserved=True)
    assert await network.ips(required_ip="10.0.0.10", allow_reserved=True) == ["10.0.0.10"]
    assert await network.ipam(DeleteReservation(uuid=reservation.uuid)) == reservation
    assert await network.ipam(DeleteReservation(uuid=reservation.uuid)) is None
    assert await network.ips() == ["10.0.0.11"]


async def test_a_used_address_becomes_reserved_when_released(network: Network) -> None:
    """A reservation over an address in use takes nothing away, and keeps it from then on."""
    await network.range(**SMALL)
    await network.ips()  # .10
    await network.reserve("10.0.0.10", "10.0.0.11")

    before = await network.capacity()
    await network.release("10.0.0.10")
    after = await network.capacity()

    assert (before.total, before.used, before.reserved, before.available) == (3, 1, 1, 1)
    assert (after.total, after.used, after.reserved, after.available) == (3, 0, 2, 1)
    assert await network.ips() == ["10.0.0.12"]


async def test_release_of_what_is_not_used_is_no_error(network: Network) -> None:
    """Only what was released is answered: by uuid, by address, twice, unknown, of an L3 network that never was."""
    await network.range(**SMALL)
    first, second = await network.allocate(count=2)

    assert await network.ipam(ReleaseIp(uuids=[second.uuid, uuid4(), first.uuid])) == [second, first]
    assert await network.ipam(ReleaseIp(uuids=[first.uuid])) == []
    assert await network.release("10.0.0.10", "10.0.0.200") == []
    assert await network.ipam(ReleaseIp.model_validate({"l3_network_uuid": uuid4(), "ips": ["10.0.0.10"]})) == []
    with pytest.raises(NotFound):
        await network.ipam(GetIp(uuid=first.uuid))


async def test_release_by_uuid_reaches_over_networks(ipam: Ipam) -> None:
    """One request releases in several L3 networks, and an old uuid never frees the address's next owner."""
    one, other = await ipam.network(), await ipam.network()
    await one.range(**SMALL)
    await other.range(**SMALL)
    mine, theirs = (await one.allocate())[0], (await other.allocate())[0]

    assert await ipam(ReleaseIp(uuids=[theirs.uuid, mine.uuid])) == [theirs, mine]

    [again] = await one.allocate()
    assert again.ip == mine.ip
    assert await ipam(ReleaseIp(uuids=[mine.uuid])) == []
    assert await ipam(GetIp(uuid=again.uuid)) == again


@pytest.mark.parametrize(
    ("fields", "culprit"),
    [
        ({}, "uuids"),
        ({"uuids": [str(uuid4())], "ips": ["10.0.0.1"]}, "uuids"),
        ({"uuids": [str(uuid4())], "l3_network_uuid": str(uuid4())}, "uuids"),
        ({"ips": ["10.0.0.1"]}, "l3NetworkUuid"),
        ({"l3_network_uuid": str(uuid4())}, "ips"),
    ],
)
async def test_release_wants_uuids_or_addresses_of_a_network(
    ipam: Ipam, fields: dict[str, object], culprit: str
) -> None:
    """Neither, or both, is refused with the culprit's name."""
    with pytest.raises(InvalidRequest) as refused:
        await ipam(ReleaseIp.model_validate(fields))

    assert refused.value.details["field"] == culprit


@pytest.mark.parametrize(
    ("fields", "culprit"),
    [
        ({"required_ip": "10.0.0.10", "count": 2}, "count"),
        ({"required_ip": "10.0.0.10", "ip_version": 6}, "ipVersion"),
        ({"required_ip": "10.0.0.10", "excluded_ips": ["10.0.0.10"]}, "excludedIps"),
    ],
)
async def test_allocation_that_contradicts_itself_is_refused(
    network: Network, fields: dict[str, object], culprit: str
) -> None:
    """The culprit is named."""
    await network.range(**SMALL)

    with pytest.raises(InvalidRequest) as refused:
        await network.allocate(**fields)

    assert refused.value.details["field"] == culprit


async def test_unknown_networks_and_ranges_are_not_found(ipam: Ipam, network: Network) -> None:
    """Also a range that is of another L3 network."""
    other = await ipam.network()
    [stored] = await other.range(**SMALL)

    for request in (
        AllocateIp(l3_network_uuid=uuid4()),
        AllocateIp(l3_network_uuid=network.l3, range_uuid=stored.uuid),
        CheckIp.model_validate({"l3_network_uuid": uuid4(), "ip": "10.0.0.1"}),
        GetFreeIps(l3_network_uuid=uuid4()),
        GetFreeIps(range_uuid=uuid4()),
        GetIpCapacity(l3_network_uuids=[network.l3, uuid4()]),
        GetIpCapacity(range_uuids=[uuid4()]),
    ):
        with pytest.raises(NotFound):
            await ipam(request)


async def test_a_network_without_ranges_is_exhausted(network: Network) -> None:
    """Nothing is left where nothing ever was."""
    with pytest.raises(Exhausted):
        await network.allocate()
    with pytest.raises(NotInRange):
        await network.allocate(required_ip="10.0.0.1")


async def test_dual_stack_is_served_by_version(network: Network) -> None:
    """IPv4 unless the request says otherwise; capacity counts both exactly."""
    await network.range(network_cidr="10.0.0.0/30")
    [six] = await network.range(network_cidr="2001:db8::/64")

    assert await network.ips() == ["10.0.0.2"]
    with pytest.raises(Exhausted):
        await network.ips()
    assert await network.ips(ip_version=6, count=2) == ["2001:db8::2", "2001:db8::3"]
    assert await network.ips(range_uuid=six.uuid) == ["2001:db8::4"]
    assert await network.ips(required_ip="2001:db8::ffff:ffff:ffff:ffff") == ["2001:db8::ffff:ffff:ffff:ffff"]
    assert (await network.capacity()).total == 1 + 2**64 - 2
    assert (await network.capacity()).available == 2**64 - 2 - 4


@pytest.mark.parametrize("strategy", ["firstAvailable", "nextFit", "random"])
async def test_an_ipv6_range_wider_than_64_works(network: Network, strategy: str) -> None:
    """A /20 has 2^108 addresses; giving, releasing, listing and counting are exact."""
    await network.range(network_cidr="2400::/20")

    given = await network.allocate(count=5, strategy=strategy)
    assert len({one.ip for one in given}) == 5
    await network.ipam(ReleaseIp(uuids=[given[2].uuid]))

    capacity = await network.capacity()
    assert (capacity.total, capacity.used) == (2**108 - 2, 4)
    assert capacity.available == 2**108 - 6


async def test_free_lists_in_order_what_could_be_given(network: Network) -> None:
    """Used and reserved ones are left out, `start` is inclusive, nothing is allocated."""
    await network.range(network_cidr="10.0.0.0/24")
    await network.range(network_cidr="2001:db8::/64")
    await network.ips(count=2)
    await network.reserve("10.0.0.5", "10.0.0.250")

    async def free(**fields: object) -> list[str]:
        body = {"l3_network_uuid": network.l3, **fields}
        return [str(ip) for ip in await network.ipam(GetFreeIps.model_validate(body))]

    assert await free(limit=4) == ["10.0.0.4", "10.0.0.251", "10.0.0.252", "10.0.0.253"]
    assert await free(start="10.0.0.253") == ["10.0.0.253", "10.0.0.254"]
    assert await free(start="2001:db8::10", limit=2) == ["2001:db8::10", "2001:db8::11"]
    assert (await network.capacity()).used == 2


async def test_capacity_is_of_exactly_one_kind_of_list(ipam: Ipam, network: Network) -> None:
    """By network, range and zone the same numbers come out; a range named twice counts once."""
    [stored] = await network.range(**SMALL)
    await network.ips()

    by_range = await ipam(GetIpCapacity(range_uuids=[stored.uuid, stored.uuid]))
    assert by_range == await network.capacity() == await ipam(GetIpCapacity(zone_uuids=[network.zone]))
    assert (by_range.total, by_range.used, by_range.reserved, by_range.available) == (3, 1, 0, 2)
    for request in (GetIpCapacity(), GetIpCapacity(zone_uuids=[network.zone], range_uuids=[stored.uuid])):
        with pytest.raises(InvalidRequest):
            await ipam(request)


async def test_overlapping_reservations_count_once(network: Network) -> None:
    """Reserved is what lies in any of them, less the gateway and what no range has."""
    await network.range(network_cidr="10.0.0.0/28")
    await network.reserve("10.0.0.1", "10.0.0.4")
    await network.reserve("10.0.0.3", "10.0.0.100")
    await network.ips(required_ip="10.0.0.3", allow_reserved=True)

    capacity = await network.capacity()

    assert (capacity.total, capacity.used, capacity.reserved, capacity.available) == (13, 1, 12, 0)


@pytest.mark.parametrize("sort", [None, "-ip", "owner", "-owner", "allocatedAt", "uuid"])
async def test_pages_hold_every_address_once(network: Network, sort: str | None) -> None:
    """Whatever the order, small pages together are the whole."""
    await network.range(network_cidr="10.0.0.0/24")
    for owner in ("b", "a", None):
        await network.allocate(count=4, owner=owner)

    ips, after = [], None
    while True:
        query = QueryIps(filters=UsedIpFilters(l3_network_uuid=network.l3), sort=sort, limit=5, after=after)
        page = await network.ipam(query)
        ips += [one.ip for one in page.items]
        after = page.after
        if after is None:
            break

    assert len(ips) == 12 == len(set(ips))
    if sort in {None, "-ip"}:
        assert ips == sorted(ips, reverse=sort == "-ip")


async def test_query_filters_by_owner_and_address(network: Network) -> None:
    """Filters are joined by and; a list is any of its values."""
    await network.range(network_cidr="10.0.0.0/24")
    await network.allocate(count=2, owner="a")
    await network.allocate(count=2, owner="b")

    async def ips(**filters: object) -> list[str]:
        filters = {"l3_network_uuid": network.l3, **filters}
        page = await network.ipam(QueryIps.model_validate({"filters": filters}))
        return [str(one.ip) for one in page.items]

    assert await ips(owner="b") == ["10.0.0.4", "10.0.0.5"]
    assert await ips(owner=["a", "c"]) == ["10.0.0.2", "10.0.0.3"]
    assert await ips(ip="10.0.0.5") == ["10.0.0.5"]
    assert await ips(ip="10.0.0.5", owner="a") == []


@pytest.mark.parametrize(
    ("fields", "culprit"),
    [
        ({"sort": "l2"}, "sort"),
        ({"sort": "ip; drop table used_ip"}, "sort"),
        ({"after": "nonsense"}, "after"),
        ({"after": "WyJhIiwgImIiXQ=="}, "after"),  # ["a", "b"]: a cursor, but not of addresses
    ],
)
async def test_a_bad_page_request_names_its_field(ipam: Ipam, fields: dict[str, str], culprit: str) -> None:
    """A sort field that is not listed, or a cursor that is none of ours."""
    with pytest.raises(InvalidRequest) as refused:
        await ipam(QueryIps.model_validate(fields))

    assert refused.value.details["field"] == culprit
