"""`ip.audit` and `ip.reclaim` with a real manager behind a real broker: IPAM asks it, with the rights it comes with."""

import asyncio
from typing import Any

import pytest
from integration.manager.conftest import Fleet

from local_stack.service import Service
from viaduct_common.errors import Forbidden, PreconditionFailed
from viaduct_common.messages.l3 import L3NetworkInventory


@pytest.fixture
async def network(fleet: Fleet, ipam: Service) -> L3NetworkInventory:
    l2 = await fleet.network()
    l3 = await fleet.client.l3.create(l2_network_uuid=l2.uuid, name="blue")
    await fleet.client.range.create(l3_network_uuid=l3.uuid, network_cidr="10.0.0.0/24")
    return l3


async def allocate(fleet: Fleet, network: L3NetworkInventory, owner: object) -> Any:
    [used] = await fleet.client.ip.allocate(l3_network_uuid=network.uuid, owner=str(owner))
    return used


async def test_what_a_deleted_owner_held_is_found_and_taken_back(fleet: Fleet, network: L3NetworkInventory) -> None:
    """Whom the manager still knows keeps what he has, also if he is named."""
    client = fleet.client
    gone = await client.host.create(cluster_uuid=fleet.cluster_uuid, name="gone")
    stays = await client.host.create(cluster_uuid=fleet.cluster_uuid, name="stays")
    lost, kept = await allocate(fleet, network, gone.uuid), await allocate(fleet, network, stays.uuid)
    assert (await client.ip.audit(l3_network_uuid=network.uuid, grace_seconds=0)).unknown == []

    await client.host.delete(uuid=gone.uuid)

    found = await client.ip.audit(l3_network_uuid=network.uuid, grace_seconds=0)
    assert (found.unknown, found.checked, found.after) == ([lost], 2, None)
    assert await client.ip.reclaim(uuids=[kept.uuid, lost.uuid]) == [lost]
    [past] = (await client.ip.history(filters={"uuid": lost.uuid})).items
    assert (past.end, past.ended_by) == ("reclaimed", "viaduct-operator")


@pytest.mark.slow
async def test_without_a_manager_an_audit_is_refused_and_can_be_repeated(
    fleet: Fleet, network: L3NetworkInventory, manager: Service
) -> None:
    """With known owners it needs none."""
    lost = await allocate(fleet, network, "vm-1")
    await asyncio.to_thread(manager.kill)
    try:
        with pytest.raises(PreconditionFailed, match="knownOwners") as refused:
            await fleet.client.ip.audit(l3_network_uuid=network.uuid, grace_seconds=0)
        assert refused.value.retryable
        known = await fleet.client.ip.audit(l3_network_uuid=network.uuid, grace_seconds=0, known_owners=[])
        assert known.unknown == [lost]
    finally:
        await asyncio.to_thread(manager.start)

    assert (await fleet.client.ip.audit(l3_network_uuid=network.uuid, grace_seconds=0)).unknown == [lost]


async def test_ipam_may_ask_the_manager_and_no_more(fleet: Fleet) -> None:
    """Its user is a reader there: a stolen one changes nothing."""
    url = fleet.place.amqp_url("viaduct-ipam")
    async with type(fleet.client)(url, timeout_seconds=10) as thief:
        assert await thief.owner.look_up(owners=[str(fleet.zone_uuid)]) == [str(fleet.zone_uuid)]
        with pytest.raises(Forbidden):
            await thief.zone.create(name="mine")
