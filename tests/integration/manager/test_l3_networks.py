"""`l3.*`: what the manager and IPAM both know of an L3 network is the same."""

import asyncio

import pytest
from integration.manager.conftest import Fleet

from local_stack.service import Service
from viaduct_common.errors import Conflict, DeadlineExceeded, NotFound
from viaduct_common.messages.l3 import L3NetworkInventory


@pytest.fixture
async def network(fleet: Fleet, ipam: Service) -> L3NetworkInventory:
    l2 = await fleet.network()
    return await fleet.client.l3.create(l2_network_uuid=l2.uuid, name="blue", strategy="random")


async def test_ipam_knows_an_l3_network_as_long_as_the_manager(fleet: Fleet, network: L3NetworkInventory) -> None:
    """From `l3.create` to `l3.delete`, with the strategy it was created with."""
    scope = await fleet.client.scope.get(l3_network_uuid=network.uuid)

    assert (scope.l2_network_uuid, scope.zone_uuid) == (network.l2_network_uuid, network.zone_uuid)
    assert scope.strategy == network.strategy == "random"
    page = await fleet.client.scope.query(filters={"l2_network_uuid": network.l2_network_uuid})
    assert page.items == [scope]
    await fleet.client.l3.delete(uuid=network.uuid)
    with pytest.raises(NotFound):
        await fleet.client.scope.get(l3_network_uuid=network.uuid)


async def test_a_new_strategy_is_ipams_as_well(fleet: Fleet, network: L3NetworkInventory) -> None:
    """One that names none leaves it, and none changes the cooling time; one that is refused changes nothing."""
    client, place = fleet.client, {"l2_network_uuid": network.l2_network_uuid, "zone_uuid": network.zone_uuid}
    await client.scope.register(l3_network_uuid=network.uuid, **place, cooling_seconds=60)

    async def strategies() -> tuple[str, str]:
        scope = await client.scope.get(l3_network_uuid=network.uuid)
        assert scope.cooling_seconds == 60
        return (await client.l3.get(uuid=network.uuid)).strategy, scope.strategy

    updated = await client.l3.update(uuid=network.uuid, strategy="nextFit", revision=network.revision)
    assert (updated.strategy, updated.revision) == ("nextFit", network.revision + 1)
    assert await strategies() == ("nextFit", "nextFit")
    await client.l3.update(uuid=network.uuid, name="green")
    assert await strategies() == ("nextFit", "nextFit")
    with pytest.raises(Conflict):
        await client.l3.update(uuid=network.uuid, strategy="firstAvailable", revision=network.revision)
    assert await strategies() == ("nextFit", "nextFit")


@pytest.mark.slow
async def test_a_strategy_that_ipam_does_not_hear_of_is_not_kept(
    fleet: Fleet, network: L3NetworkInventory, ipam: Service
) -> None:
    """The update is refused as a whole; the repetition goes through once IPAM is back."""
    await asyncio.to_thread(ipam.kill)
    with pytest.raises(DeadlineExceeded):
        await fleet.client.l3.update(uuid=network.uuid, strategy="nextFit", name="green")
    unchanged = await fleet.client.l3.get(uuid=network.uuid)
    assert (unchanged.strategy, unchanged.name) == ("random", "blue")
    await asyncio.to_thread(ipam.start)

    await fleet.client.l3.update(uuid=network.uuid, strategy="nextFit")
    assert (await fleet.client.scope.get(l3_network_uuid=network.uuid)).strategy == "nextFit"
