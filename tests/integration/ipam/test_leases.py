"""Leases and cooling: what ends by itself. Time is the database's: the tests put ends into the past."""

from uuid import UUID

import pytest
from integration.ipam.harness import Ipam, Network

from viaduct_common.errors import Exhausted, IpInUse, NotFound
from viaduct_common.messages.ipam import IpamEvent, QueryHistory, ReleaseIp, RenewIps, UsedIpInventory


async def end(network: Network, *uuids: UUID) -> None:
    """As if the leases had ended a second ago."""
    await network.ipam.pool.execute(
        "UPDATE used_ip SET expires_at = now() - interval '1 second' WHERE uuid = ANY($1::uuid[])", list(uuids)
    )


async def cool_down(network: Network) -> None:
    """As if all that cools had cooled long enough."""
    await network.ipam.pool.execute("UPDATE cooling_ip SET until = now() WHERE l3_network_uuid = $1", network.l3)


async def lease(network: Network, **fields: object) -> UsedIpInventory:
    [one] = await network.allocate(ttl_seconds=60, **fields)
    return one


async def test_a_lease_says_when_it_ends(network: Network) -> None:
    """The time to live counts from the allocation; without one there is no end."""
    await network.range(network_cidr="10.0.0.0/24")

    one = await lease(network)
    [forever] = await network.allocate()

    assert one.expires_at is not None
    assert (one.expires_at - one.allocated_at).total_seconds() == 60
    assert forever.expires_at is None


async def test_an_ended_lease_is_given_to_the_next(network: Network) -> None:
    """Once swept, and not before; the history and an event say that it ended by itself."""
    await network.range(start_ip="10.0.0.5", end_ip="10.0.0.5", prefix_length=24)
    one = await lease(network, owner="vm-1")
    await network.ipam.sweep()
    await end(network, one.uuid)
    with pytest.raises(Exhausted):
        await network.ips()

    await network.ipam.sweep()
    await network.ipam.sweep()

    [past] = (await network.ipam(QueryHistory.model_validate({"filters": {"uuid": one.uuid}}))).items
    assert (past.end, past.ended_by, past.ended_by_message) == ("expired", "viaduct-ipam", None)
    assert await network.ips(owner="vm-2") == ["10.0.0.5"]
    bodies = await network.ipam.pool.fetch("SELECT body FROM outbox WHERE type = 'ip.expired'")
    subjects = [IpamEvent.from_json(bytes(row["body"])).subject for row in bodies]
    assert [subject["owner"] for subject in subjects if subject["uuid"] == str(one.uuid)] == ["vm-1"]


async def test_a_renewed_lease_outlives_its_first_end(network: Network) -> None:
    """It ends later, or never; all that are named, or none."""
    await network.range(network_cidr="10.0.0.0/24")
    one, other = await lease(network), await lease(network)

    renewed = await network.ipam(RenewIps(uuids=[other.uuid, one.uuid], ttl_seconds=3600))
    assert [each.uuid for each in renewed] == [other.uuid, one.uuid]
    assert all(each.expires_at and (each.expires_at - each.allocated_at).total_seconds() > 3000 for each in renewed)
    [forever] = await network.ipam(RenewIps(uuids=[one.uuid], ttl_seconds=None))
    assert forever.expires_at is None

    await end(network, other.uuid)
    with pytest.raises(NotFound) as refused:
        await network.ipam(RenewIps(uuids=[one.uuid, other.uuid], ttl_seconds=5))
    assert refused.value.details["uuid"] == str(other.uuid)
    await network.ipam.sweep()
    assert (await network.capacity()).used == 1


async def test_an_ended_lease_cannot_be_renewed(network: Network) -> None:
    """Neither before it is swept, nor after: somebody else may have the address by then."""
    await network.range(network_cidr="10.0.0.0/24")
    one = await lease(network)
    await end(network, one.uuid)

    for _ in range(2):
        with pytest.raises(NotFound):
            await network.ipam(RenewIps(uuids=[one.uuid], ttl_seconds=60))
        await network.ipam.sweep()


async def test_a_late_release_by_the_old_uuid_frees_nobody(network: Network) -> None:
    """The next owner keeps the address."""
    await network.range(start_ip="10.0.0.5", end_ip="10.0.0.5", prefix_length=24)
    one = await lease(network, owner="vm-1")
    await end(network, one.uuid)
    await network.ipam.sweep()
    [next_] = await network.allocate(owner="vm-2")

    assert await network.ipam(ReleaseIp(uuids=[one.uuid])) == []
    assert await network.release("10.0.0.5") == [next_]


async def test_a_cooling_address_goes_to_nobody_but_its_former_owner(ipam: Ipam) -> None:
    """Until it has cooled and was swept; asked for by name, and unasked."""
    network = await ipam.network(cooling_seconds=3600)
    await network.range(start_ip="10.0.0.5", end_ip="10.0.0.6", prefix_length=24)
    await network.ips(owner="vm-1")
    await network.release("10.0.0.5")
    await ipam.sweep()

    assert await network.ips(owner="vm-2") == ["10.0.0.6"]
    with pytest.raises(Exhausted):
        await network.ips(owner="vm-2")
    with pytest.raises(IpInUse) as refused:
        await network.ips(owner="vm-2", required_ip="10.0.0.5")
    assert refused.value.details["reason"] == "COOLING"
    assert await network.ips(owner="vm-1", required_ip="10.0.0.5") == ["10.0.0.5"]
    await network.release("10.0.0.5")

    await cool_down(network)
    with pytest.raises(Exhausted):
        await network.ips(owner="vm-2")
    await ipam.sweep()
    assert await network.ips(owner="vm-2") == ["10.0.0.5"]


async def test_an_ended_lease_cools_as_a_released_address_does(ipam: Ipam) -> None:
    """First the lease, then the rest."""
    network = await ipam.network(cooling_seconds=3600)
    await network.range(start_ip="10.0.0.5", end_ip="10.0.0.5", prefix_length=24)
    one = await lease(network)
    await end(network, one.uuid)

    await ipam.sweep()
    capacity = await network.capacity()
    assert (capacity.used, capacity.cooling, capacity.available) == (0, 1, 0)
    await cool_down(network)
    await ipam.sweep()
    capacity = await network.capacity()
    assert (capacity.used, capacity.cooling, capacity.available) == (0, 0, 1)
