"""What NICs mean to the rest: what they stand on stays, where they could be, who hears of them, how they are found."""

import asyncio
from uuid import uuid4
from xml.etree import ElementTree

import pytest
from aio_pika import connect
from aio_pika.abc import AbstractQueue
from integration.manager.scripted_agent import REALIZE
from integration.manager.vms import Vms

from viaduct_common.errors import (
    InUse,
    NotFound,
    PreconditionFailed,
)
from viaduct_common.messages.vm import NicInventory


async def test_what_nics_stand_on_is_not_taken_away(vms: Vms) -> None:
    """Detach, and the deletion of L3 network and host, name the NICs; a detach by force goes through."""
    agent = await vms.fleet.join()
    l2 = await vms.attached_l2()
    l3 = await vms.l3(l2)
    vm = uuid4()
    [nic] = await vms.prepare(vm, agent, [l3])

    for refused in (
        vms.fleet.detach(l2),
        vms.client.l3.delete(uuid=l3),
        vms.client.host.delete(uuid=agent.uuid),
    ):
        with pytest.raises(InUse) as refusal:
            await refused
        assert refusal.value.details["nicUuids"] == [str(nic.uuid)]
    await vms.fleet.detach(l2, force=True)
    assert await vms.nics(vm_uuid=vm) == [nic]
    await vms.release(vm)
    await vms.client.l3.delete(uuid=l3)
    await vms.client.host.delete(uuid=agent.uuid)


async def test_release_does_not_wait_for_a_lost_host(vms: Vms) -> None:
    """Its NICs are given back, and then it can be removed."""
    agent = await vms.fleet.join()
    l3 = await vms.l3(await vms.attached_l2())
    vm = uuid4()
    [nic] = await vms.prepare(vm, agent, [l3])
    await vms.lose(agent)

    assert await vms.release(vm) == [nic]
    await vms.books_agree(l3)
    await vms.client.host.delete(uuid=agent.uuid)


async def test_placement_is_where_all_networks_are(vms: Vms) -> None:
    """Clusters with every network; of their hosts those that are there, in service, and did not fail."""
    good, away, serviced = await vms.fleet.join(), await vms.fleet.enrol(), await vms.fleet.join()
    one, two = await vms.attached_l2(), await vms.fleet.network()
    l3s = [await vms.l3(one), await vms.l3(two), await vms.l3(one)]
    await vms.client.host.set_maintenance(uuid=serviced.uuid, maintenance=True)

    nowhere = await vms.client.placement.hosts(l3_network_uuids=l3s)
    assert (nowhere.cluster_uuids, nowhere.host_uuids) == ([], [])
    bad = await vms.fleet.join(errors={REALIZE: PreconditionFailed("there is no eth1")})
    await vms.fleet.attach(two, on_failure="keep", wait=False)
    await vms.fleet.settles(two, "realized", "pending", "pending", "failed")
    found = await vms.client.placement.hosts(l3_network_uuids=l3s)
    assert (found.cluster_uuids, found.host_uuids) == ([vms.fleet.cluster_uuid], [good.uuid])
    assert away.uuid not in found.host_uuids
    alone = await vms.client.placement.hosts(l3_network_uuids=[l3s[0]])
    assert alone.host_uuids == [good.uuid]
    assert bad.uuid not in alone.host_uuids
    unknown = uuid4()
    with pytest.raises(NotFound) as refusal:
        await vms.client.placement.hosts(l3_network_uuids=[l3s[0], unknown])
    assert (refusal.value.details["uuid"], refusal.value.details["field"]) == (str(unknown), "l3NetworkUuids.1")


async def test_owners_of_addresses_are_nics_that_the_manager_knows(vms: Vms) -> None:
    """An audit finds nothing while they are there, and what was left behind when they are not."""
    agent = await vms.fleet.join()
    l3 = await vms.l3(await vms.attached_l2())
    vm = uuid4()
    [nic] = await vms.prepare(vm, agent, [l3])
    owner = str(nic.uuid)

    assert await vms.client.owner.look_up(owners=[owner]) == [owner]
    assert (await vms.client.ip.audit(l3_network_uuid=l3, grace_seconds=0)).unknown == []
    await vms.release(vm)
    assert await vms.client.owner.look_up(owners=[owner]) == []
    [left] = await vms.client.ip.allocate(l3_network_uuid=l3, owner=owner)
    assert (await vms.client.ip.audit(l3_network_uuid=l3, grace_seconds=0)).unknown == [left]


async def test_nics_are_found_by_what_they_are(vms: Vms) -> None:
    """Each filter finds its own, and one that matches nothing finds nothing."""
    agent, other = await vms.fleet.join(), await vms.fleet.join()
    l2 = await vms.attached_l2()
    l3, second = await vms.l3(l2), await vms.l3(l2)
    [nic] = await vms.prepare(uuid4(), agent, [l3])
    [stranger] = await vms.prepare(uuid4(), other, [second], account_uuid=uuid4())

    for name in ("uuid", "vm_uuid", "host_uuid", "account_uuid", "l3_network_uuid", "mac"):
        assert await vms.nics(**{name: getattr(nic, name)}) == [nic]
        assert await vms.nics(**{name: [getattr(nic, name), getattr(stranger, name)]}) == [nic, stranger]
    assert await vms.nics(l2_network_uuid=l2.uuid) == [nic, stranger]
    assert await vms.nics(vm_uuid=uuid4()) == []
    page = await vms.client.nic.query(filters={"l2_network_uuid": l2.uuid}, limit=1, sort="-createdAt")
    assert page.items == [stranger]
    rest = await vms.client.nic.query(
        filters={"l2_network_uuid": l2.uuid}, limit=1, sort="-createdAt", after=page.after
    )
    assert (rest.items, rest.after) == ([nic], None)


async def test_backend_of_the_cluster_says_where_a_nic_is_plugged_in(vms: Vms) -> None:
    """A VLAN-aware bridge is shared by all VLANs of an interface, and the NIC's port there is tagged."""
    agent = await vms.fleet.join()
    await vms.client.cluster.update(uuid=vms.fleet.cluster_uuid, backends={"L2VlanNetwork": "vlanAwareBridge"})
    l2 = await vms.attached_l2(vlan=77)
    [nic] = await vms.prepare(uuid4(), agent, [await vms.l3(l2)])

    assert (nic.bridge, nic.vlan) == ("brv_eth1", 77)
    xml = ElementTree.fromstring(nic.libvirt_xml)
    assert [tag.attrib for tag in xml.findall("vlan/tag")] == [{"id": "77"}]


async def test_the_world_hears_of_nics(vms: Vms) -> None:
    """`nic.prepared` and `nic.released`, each with the whole NIC."""
    agent = await vms.fleet.join()
    l3 = await vms.l3(await vms.attached_l2())
    queue = await ears(vms)
    vm = uuid4()
    [nic] = await vms.prepare(vm, agent, [l3])
    await vms.release(vm)

    heard = []
    while len(heard) < 2:
        async with asyncio.timeout(10):
            message = await queue.get(fail=False)
        if message is None:
            await asyncio.sleep(0.02)
        else:
            heard.append((message.type, NicInventory.from_json(message.body)))
    assert heard == [("nic.prepared", nic), ("nic.released", nic)]


async def ears(vms: Vms) -> AbstractQueue:
    """A queue that gets every event about NICs."""
    connection = await vms.fleet.stack.enter_async_context(await connect(vms.fleet.place.amqp_url()))
    channel = await connection.channel()
    queue = await channel.declare_queue(exclusive=True)
    await queue.bind("viaduct.events", "nic.*")
    return queue
