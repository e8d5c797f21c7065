"""`ip.capacity`: exact, and from counters alone."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from integration.ipam.harness import Ipam, Network

from viaduct_common.errors import InvalidRequest, NotFound
from viaduct_common.messages.ipam import GetIpCapacity, IpCapacity
from viaduct_common.postgres.pool import Pool


def parts(capacity: IpCapacity) -> tuple[int, int, int, int, int]:
    """(total, used, cooling, reserved, available)."""
    return capacity.total, capacity.used, capacity.cooling, capacity.reserved, capacity.available


async def test_an_address_counts_once_and_the_harder_way(ipam: Ipam) -> None:
    """Used before cooling before reserved, whichever came first."""
    network = await ipam.network(cooling_seconds=3600)
    await network.range(network_cidr="10.0.0.0/28")  # 13 beside the gateway
    await network.reserve("10.0.0.2", "10.0.0.5")
    assert parts(await network.capacity()) == (13, 0, 0, 4, 9)

    await network.ips(required_ip="10.0.0.2", allow_reserved=True)
    await network.ips(required_ip="10.0.0.3", allow_reserved=True)
    await network.ips(count=2)  # .6 and .7
    assert parts(await network.capacity()) == (13, 4, 0, 2, 7)

    await network.release("10.0.0.3", "10.0.0.7")
    assert parts(await network.capacity()) == (13, 2, 2, 2, 7)

    await network.reserve("10.0.0.5", "10.0.0.8")  # over the end of the other, a used one, and one that cools
    assert parts(await network.capacity()) == (13, 2, 2, 3, 6)


async def test_lists_of_networks_ranges_and_zones_are_sums(ipam: Ipam) -> None:
    """Each range once, however often it is named; both IP versions; reservations count where they lie."""
    zone = uuid4()
    one, other = await ipam.network(zone=zone), await ipam.network(zone=zone)
    low, high = await one.range(network_cidr="10.0.0.0/24", gateway="10.0.0.100")  # 99 - 1 and 154
    [six] = await one.range(network_cidr="2001:db8::/64")
    await other.range(network_cidr="10.1.0.0/30")
    await one.reserve("10.0.0.90", "10.0.0.109")
    await one.ips(count=3)
    await other.reserve("0.0.0.0", "255.255.255.255")

    async def asked(**lists: Any) -> tuple[int, int, int, int, int]:
        return parts(await ipam(GetIpCapacity(**lists)))

    assert await asked(range_uuids=[low.uuid, low.uuid]) == (99, 3, 0, 10, 86)
    assert await asked(range_uuids=[low.uuid, high.uuid]) == (253, 3, 0, 19, 231)
    assert await asked(range_uuids=[six.uuid]) == (2**64 - 2, 0, 0, 0, 2**64 - 2)
    assert await asked(l3_network_uuids=[one.l3]) == (2**64 + 251, 3, 0, 19, 2**64 + 229)
    assert await asked(l3_network_uuids=[other.l3, other.l3]) == (1, 0, 0, 1, 0)
    assert await asked(zone_uuids=[zone]) == (2**64 + 252, 3, 0, 20, 2**64 + 229)
    assert await asked(zone_uuids=[uuid4()]) == (0, 0, 0, 0, 0)


async def test_reservations_of_one_ip_version_leave_the_other_alone(network: Network) -> None:
    """Though as numbers ::a00:2 and 10.0.0.2 are the same."""
    await network.range(network_cidr="10.0.0.0/28")
    await network.reserve("::a00:0", "::a00:f")

    assert parts(await network.capacity()) == (13, 0, 0, 0, 13)


async def test_exactly_one_list_of_what_there_is(ipam: Ipam, network: Network) -> None:
    """None or two are refused; what does not exist is named."""
    [stored] = await network.range(network_cidr="10.0.0.0/28")
    for lists in ({}, {"l3_network_uuids": [network.l3], "range_uuids": [stored.uuid]}):
        with pytest.raises(InvalidRequest):
            await ipam(GetIpCapacity.model_validate(lists))
    for lists in ({"l3_network_uuids": [network.l3, uuid4()]}, {"range_uuids": [stored.uuid, uuid4()]}):
        with pytest.raises(NotFound):
            await ipam(GetIpCapacity.model_validate(lists))


async def test_no_address_is_looked_at(ipam: Ipam, network: Network, pool: Pool) -> None:
    """Nobody may read the tables of addresses, and the capacity is told all the same: it costs the same however many
    are held."""
    await network.range(network_cidr="10.0.0.0/24")
    await network.reserve("10.0.0.2", "10.0.0.9")
    await network.ips(count=5)

    async with pool.acquire() as other, other.transaction():
        await other.execute("LOCK TABLE used_ip, cooling_ip, address_block IN ACCESS EXCLUSIVE MODE")
        async with asyncio.timeout(5):
            assert parts(await network.capacity()) == (253, 5, 0, 8, 240)
