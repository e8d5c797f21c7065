"""`range.*` on a real database."""

import asyncio
import ipaddress
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from integration.ipam.harness import Ipam, Network

from viaduct_common.errors import Exhausted, InUse, InvalidRequest, IpRangeConflict, NotFound, ViaductError
from viaduct_common.messages.ipam import (
    CreateRange,
    CreateReservation,
    DeleteRange,
    DeleteReservation,
    DeleteScope,
    GetRange,
    QueryRanges,
    RangeFilters,
)
from viaduct_common.postgres.pool import Pool


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


async def test_one_l3_network_is_dual_stack(ipam: Ipam, network: Network) -> None:
    """Ranges of both IP versions stand side by side; each version has rules of its own."""
    [four] = await network.range(network_cidr="10.0.0.0/24")
    [six] = await network.range(network_cidr="2001:db8::/64")

    assert (four.ip_version, four.address_mode, str(four.netmask)) == (4, None, "255.255.255.0")
    assert (six.ip_version, six.address_mode, str(six.netmask)) == (6, "stateful", "ffff:ffff:ffff:ffff::")
    assert await ipam(GetRange(uuid=six.uuid)) == six
    assert await network.ips(ip_version=6) == ["2001:db8::2"]
    assert await network.ips() == ["10.0.0.2"]


@pytest.mark.parametrize("mode", ["slaac", "statelessDhcp"])
async def test_addresses_that_guests_make_want_a_whole_64(ipam: Ipam, network: Network, mode: Any) -> None:
    """The mode is kept; other modes, other prefixes and IPv4 are refused with their field."""
    for fields, culprit in (
        ({"network_cidr": "10.0.0.0/24"}, "addressMode"),
        ({"network_cidr": "2001:db8::/63"}, "networkCidr"),
        ({"start_ip": "2001:db8::1", "end_ip": "2001:db8::ff", "prefix_length": 64}, "endIp"),
        ({"network_cidr": "2001:db8::/64", "type": "addressPool"}, "addressMode"),
    ):
        with pytest.raises(InvalidRequest) as refused:
            await network.range(**fields, address_mode=mode)
        assert refused.value.details["field"] == culprit
    low, high = await network.range(network_cidr="2001:db8::/64", gateway="2001:db8::aa", address_mode=mode)

    assert (low.address_mode, high.address_mode) == (mode, mode)
    page = await ipam(QueryRanges(filters=RangeFilters(l3_network_uuid=network.l3)))
    assert page.items == [low, high]
    await ipam(DeleteRange(uuid=high.uuid))
    bounds = {"start_ip": high.start_ip, "end_ip": high.end_ip, "prefix_length": 64}
    with pytest.raises(InvalidRequest) as refused:
        await network.range(**bounds)
    assert refused.value.details["field"] == "addressMode"
    assert await network.range(**bounds, address_mode=mode)


@pytest.mark.parametrize(
    ("fields", "given"),
    [
        ({"network_cidr": "10.0.0.4/31"}, ["10.0.0.5"]),
        ({"network_cidr": "10.0.0.4/32", "type": "addressPool"}, ["10.0.0.4"]),
        ({"start_ip": "10.0.0.4", "end_ip": "10.0.0.5", "prefix_length": 31}, ["10.0.0.4", "10.0.0.5"]),
        ({"start_ip": "10.0.0.4", "end_ip": "10.0.0.4", "netmask": "255.255.255.255"}, ["10.0.0.4"]),
        ({"network_cidr": "2001:db8::4/127"}, ["2001:db8::5"]),
        ({"network_cidr": "2001:db8::4/128", "type": "addressPool"}, ["2001:db8::4"]),
        ({"start_ip": "2001:db8::4", "end_ip": "2001:db8::5", "prefix_length": 127}, ["2001:db8::4", "2001:db8::5"]),
        ({"start_ip": "2001:db8::", "end_ip": "2001:db8::", "prefix_length": 128}, ["2001:db8::"]),
    ],
)
async def test_smallest_ranges_hand_out_all_they_have(
    network: Network, fields: dict[str, Any], given: list[str]
) -> None:
    """/31, /32, /127 and /128 have no edges; by CIDR a normal range still needs a gateway."""
    await network.range(**fields)

    assert (await network.capacity()).total == len(given)
    assert await network.ips(count=len(given)) == given
    with pytest.raises(Exhausted):
        await network.ips()


async def test_last_normal_range_stays_while_there_is_an_address_pool(ipam: Ipam, network: Network) -> None:
    """Of its IP version; the pools in the way are named. A pool may come first, and all go with their network."""
    [pool] = await network.range(network_cidr="10.9.0.0/24", type="addressPool")
    low, high = await network.range(network_cidr="10.0.0.0/24", gateway="10.0.0.9")
    [six] = await network.range(network_cidr="2001:db8::/64")

    assert await ipam(DeleteRange(uuid=six.uuid))
    assert await ipam(DeleteRange(uuid=high.uuid))
    with pytest.raises(InUse) as refused:
        await ipam(DeleteRange(uuid=low.uuid))
    assert refused.value.details == {"rangeUuid": str(low.uuid), "addressPoolUuids": [str(pool.uuid)]}

    assert await ipam(DeleteRange(uuid=pool.uuid))
    assert await ipam(DeleteRange(uuid=low.uuid))
    await network.range(network_cidr="10.9.0.0/24", type="addressPool")
    assert await ipam(DeleteScope(l3_network_uuid=network.l3))


async def test_range_goes_with_what_is_cooling_in_it(ipam: Ipam) -> None:
    """What cools is nobody's; its range may go, and its bounds are free again."""
    network = await ipam.network(cooling_seconds=3600)
    [stored] = await network.range(network_cidr="10.0.0.0/24")
    await network.release(*await network.ips(count=3))
    assert (await network.capacity()).cooling == 3

    assert await ipam(DeleteRange(uuid=stored.uuid)) == stored
    await network.range(network_cidr="10.0.0.0/24")
    assert (await network.capacity()).cooling == 0
    assert await network.ips() == ["10.0.0.2"]


@pytest.mark.parametrize(
    "change",
    [
        "type = 'other'",
        "start_ip = '10.0.0.9', end_ip = '10.0.0.8'",
        "end_ip = '2001:db8::'",
        "prefix_length = 33",
        "prefix_length = 0",
        "gateway = '2001:db8::1'",
        "address_mode = 'slaac'",
        "used_count = -1",
        "cooling_count = -1",
        "taken_reserved_count = used_count - 1",
    ],
)
async def test_the_database_itself_refuses_what_contradicts_itself(ipam: Ipam, network: Network, change: str) -> None:
    """Whatever the code does: of a row as it is changed, and of the same row as it is made."""
    [stored] = await network.range(network_cidr="10.0.0.0/24")
    changed = f"UPDATE ip_range SET {change} WHERE uuid = $1"
    made = """
        WITH gone AS (DELETE FROM ip_range WHERE uuid = $1 RETURNING *)
        INSERT INTO ip_range (uuid, type, l3_network_uuid, l2_network_uuid, start_ip, end_ip, prefix_length, gateway,
                              address_mode, used_count, cooling_count, taken_reserved_count)
        SELECT uuid, type, l3_network_uuid, l2_network_uuid, start_ip, end_ip, prefix_length, gateway,
               address_mode, used_count, cooling_count, taken_reserved_count FROM gone
    """
    for part in change.split(", "):
        column, _, value = part.partition(" = ")
        names, _, values = made.rpartition("SELECT")
        made = f"{names}SELECT{values.replace(column, value, 1)}"

    for statement in (changed, made):
        with pytest.raises((asyncpg.CheckViolationError, asyncpg.DataError)):  # the second of a span without a meaning
            await ipam.pool.execute(statement, stored.uuid)


async def test_every_change_of_ranges_raises_the_revisions(ipam: Ipam, network: Network) -> None:
    """So whoever has read the scope before reads it again; a refusal raises nothing."""
    before = await network.revisions()
    [stored] = await network.range(network_cidr="10.0.0.0/24")
    added = await network.revisions()
    with pytest.raises(IpRangeConflict):
        await network.range(network_cidr="10.0.0.0/24")
    assert await network.revisions() == added
    await ipam(DeleteRange(uuid=stored.uuid))
    removed = await network.revisions()

    for older, newer in ((before, added), (added, removed)):
        assert newer[0] > older[0]
        assert newer[1] > older[1]


async def test_whoever_makes_room_or_takes_it_tells_of_the_level(ipam: Ipam, network: Network) -> None:
    """A new range and a removed reservation relieve a full L3 network, a removed range and a reservation fill it."""
    await network.range(start_ip="10.0.0.1", end_ip="10.0.0.10", prefix_length=24)
    await network.ips(count=10)
    [more] = await network.range(start_ip="10.0.0.11", end_ip="10.0.0.20", prefix_length=24)
    await ipam(DeleteRange(uuid=more.uuid))
    await network.range(start_ip="10.0.0.31", end_ip="10.0.0.80", prefix_length=24)
    reservation = await network.reserve("10.0.0.31", "10.0.0.78")
    await ipam(DeleteReservation(uuid=reservation.uuid))

    rows = await ipam.pool.fetch(
        "SELECT type, (convert_from(body, 'UTF8')::jsonb #>> '{subject,level}')::int AS level FROM outbox "
        "WHERE type LIKE 'scope.%' AND convert_from(body, 'UTF8') LIKE $1 ORDER BY id",
        f"%{network.l3}%",
    )
    assert [(row["type"].partition(".")[2], row["level"]) for row in rows] == [
        ("filled", 100), ("relieved", 0), ("filled", 100), ("relieved", 0), ("filled", 80), ("relieved", 0),
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
async def test_losers_of_a_race_are_told_who_won(ipam: Ipam, seed: int) -> None:
    """Ranges are added to an L2 network one at a time. Else the losers would wait for each other in the exclusion
    constraint, until Postgres ends one of them, and could not be told which range is in their way."""
    l2 = uuid4()
    networks = [await ipam.network(l2=l2) for _ in range(10)]
    cidrs = ["10.0.0.0/24", "10.0.0.0/25", "10.0.0.128/25"]

    answers = await asyncio.gather(
        *(one.range(network_cidr=cidrs[(index + seed) % 3]) for index, one in enumerate(networks)),
        return_exceptions=True,
    )

    made = {str(one.uuid) for answer in answers if isinstance(answer, list) for one in answer}
    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    assert {type(one) for one in refused} == {IpRangeConflict}
    assert {one.details.get("rangeUuid") for one in refused if isinstance(one, IpRangeConflict)} <= made
    assert len(made) in {1, 2}


# Addresses are numbers in 10.0.0.0/27 from here on.
SPACE = ipaddress.ip_network("10.0.0.0/27")
numbers = st.integers(0, 31)
creates = st.fixed_dictionaries(
    {
        "network": st.integers(0, 1),
        "first": numbers,
        "size": st.integers(0, 7),
        "prefix_length": st.sampled_from([27, 27, 27, 28]),
        "gateway": st.sampled_from([None, 1, 1, 17]),
        "type": st.sampled_from(["normal", "normal", "addressPool"]),
    }
)


class Ledger:
    """Ranges as sets of addresses, and which of a request's fields are at fault beside them."""

    def __init__(self) -> None:
        self.bounds: list[set[int]] = []  # of both networks
        self.normal: dict[int, tuple[Any, int | None]] = {}  # by network: subnet and gateway
        self.given: list[tuple[int, set[int], int | None]] = []  # network, what is handed out, gateway

    def judge(self, ask: dict[str, Any]) -> tuple[str, set[str]] | None:
        members = set(range(ask["first"], min(31, ask["first"] + ask["size"]) + 1))
        subnet = ipaddress.ip_network((SPACE[ask["first"]], ask["prefix_length"]), strict=False)
        inside = {int(ip) - int(SPACE[0]) for ip in subnet}
        edges = {min(inside), max(inside)}
        gateway = ask["gateway"]
        if not members <= inside:
            return "INVALID_REQUEST", {"endIp"}
        if gateway is not None and gateway not in inside - edges:
            return "INVALID_REQUEST", {"gateway"}
        if not members - edges - {gateway}:
            return "INVALID_REQUEST", {"startIp"}
        if any(members & other for other in self.bounds):
            return "IP_RANGE_CONFLICT", set()
        fields = set()
        shared = self.normal.get(ask["network"]) if ask["type"] == "normal" else None
        if shared:
            gateway = shared[1] if gateway is None else gateway
            if subnet != shared[0]:
                fields |= {"startIp", "prefixLength"}
            if gateway != shared[1]:
                fields.add("gateway")
        given = members - edges - {gateway}
        for network, others, their_gateway in self.given:
            if network == ask["network"]:
                fields |= {"gateway"} if gateway in others else set()
                fields |= {"startIp"} if their_gateway in given else set()
        if fields or not given:
            return "INVALID_REQUEST", fields or {"startIp"}
        self.bounds.append(members)
        self.given.append((ask["network"], given, gateway))
        if ask["type"] == "normal":
            self.normal.setdefault(ask["network"], (subnet, gateway))
        return None


# Not shrunk: a program of ten steps is soon read.
@settings(
    max_examples=40,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(asks=st.lists(creates, min_size=4, max_size=10))
async def test_ranges_are_judged_as_by_a_look_at_every_address(pool: Pool, asks: list[dict[str, Any]]) -> None:
    """Two L3 networks on one L2 network: what is refused and why, and what the rest hands out in all."""
    l2, ledger = uuid4(), Ledger()
    async with Ipam(pool) as ipam:
        networks = [await ipam.network(l2=l2), await ipam.network(l2=l2)]
        for ask in asks:
            await judged_alike(ledger, networks[ask["network"]], ask)

        for index, network in enumerate(networks):
            given = sum(len(members) for number, members, _ in ledger.given if number == index)
            assert (await network.capacity()).total == given


async def judged_alike(ledger: Ledger, network: Network, ask: dict[str, Any]) -> None:
    verdict = ledger.judge(ask)
    request = network.range(
        start_ip=SPACE[ask["first"]],
        end_ip=SPACE[min(31, ask["first"] + ask["size"])],
        prefix_length=ask["prefix_length"],
        gateway=None if ask["gateway"] is None else SPACE[ask["gateway"]],
        type=ask["type"],
    )
    event("made" if verdict is None else verdict[0])
    if verdict is None:
        assert len(await request) == 1
        return
    code, fields = verdict
    with pytest.raises(ViaductError) as refused:
        await request
    assert refused.value.code == code
    assert not fields or refused.value.details["field"] in fields
