"""`vm.migrateNetworks`: the destination is made ready before the source gives up anything."""

import asyncio
from uuid import UUID, uuid4

import pytest
from integration.manager.eventually import eventually
from integration.manager.scripted_agent import REALIZE, REFUSED, RELEASE, SYNC, ScriptedAgent
from integration.manager.vms import Vms

from viaduct_common.errors import (
    BackendFailed,
    Conflict,
    DeadlineExceeded,
    HostUnreachable,
    NotFound,
    PreconditionFailed,
)
from viaduct_common.messages.vm import NicInventory


async def pair(vms: Vms) -> tuple[ScriptedAgent, ScriptedAgent]:
    return await vms.fleet.join(), await vms.fleet.join()


def identity(nics: list[NicInventory]) -> list[tuple[object, ...]]:
    """What a guest sees of its NICs."""
    return [(nic.uuid, nic.mac, nic.ips, nic.device_name, nic.device_index) for nic in nics]


async def test_networks_move_with_the_vm(vms: Vms) -> None:
    """MACs and addresses stay; what only this VM needed is on the new host and no more on the old one."""
    old, new = await pair(vms)
    l3, plain = await vms.l3(await vms.ranged_l2(100, 199)), await vms.l3(await vms.attached_l2())
    vm = uuid4()
    before = await vms.prepare(vm, old, [l3, plain])
    own = before[0].l2_network_uuid

    after = await vms.migrate(vm, new)

    assert identity(after) == identity(before)
    assert {nic.host_uuid for nic in after} == {new.uuid}
    assert await vms.nics(vm_uuid=vm) == after
    await old.hears(RELEASE)
    await eventually(lambda: vms.realized(own), lambda hosts: hosts == {new.uuid})
    assert await vms.migrate(vm, new) == after
    assert await vms.prepare(vm, new, [l3, plain]) == after
    await vms.books_agree(l3, plain)


async def test_live_migration_has_both_hosts_until_it_is_finished(vms: Vms) -> None:
    """`begin` and `finish`; each may be repeated."""
    old, new = await pair(vms)
    l3, vm = await vms.l3(await vms.ranged_l2(100, 199)), uuid4()
    before = await vms.prepare(vm, old, [l3])
    own = before[0].l2_network_uuid

    begun = await vms.migrate(vm, new, "begin")
    assert identity(begun) == identity(before)
    assert [(nic.host_uuid, nic.migrating_to_host_uuid) for nic in begun] == [(old.uuid, new.uuid)]
    assert await vms.realized(own) == {old.uuid, new.uuid}
    assert await vms.migrate(vm, new, "begin") == begun
    with pytest.raises(Conflict):
        await vms.prepare(vm, old, [l3, l3])
    after = await vms.migrate(vm, new, "finish")
    assert [(nic.host_uuid, nic.migrating_to_host_uuid) for nic in after] == [(new.uuid, None)]
    assert await vms.migrate(vm, new, "finish") == after
    await eventually(lambda: vms.realized(own), lambda hosts: hosts == {new.uuid})


async def test_aborted_migration_leaves_no_trace(vms: Vms) -> None:
    """The source was never touched."""
    old, new = await pair(vms)
    l3, vm = await vms.l3(await vms.ranged_l2(100, 199)), uuid4()
    before = await vms.prepare(vm, old, [l3])
    await vms.migrate(vm, new, "begin")

    assert await vms.migrate(vm, new, "abort") == before
    assert await vms.migrate(vm, new, "abort") == before
    await eventually(lambda: vms.realized(before[0].l2_network_uuid), lambda hosts: hosts == {old.uuid})
    assert RELEASE not in old.types()
    with pytest.raises(Conflict):
        await vms.migrate(vm, new, "finish")


async def test_destination_that_cannot_leaves_the_vm_where_it_was(vms: Vms) -> None:
    """Refused by the host; too slow; not there; without the network. The VM can be released or moved after that."""
    old, new = await pair(vms)
    absent = await vms.fleet.enrol()
    l3, vm = await vms.l3(await vms.ranged_l2(100, 199)), uuid4()
    before = await vms.prepare(vm, old, [l3])
    own = before[0].l2_network_uuid

    async def unchanged() -> None:
        assert await vms.nics(vm_uuid=vm) == before
        await eventually(lambda: vms.realized(own), lambda hosts: hosts == {old.uuid})

    new.errors[REALIZE] = REFUSED
    for action in (None, "begin"):
        with pytest.raises(BackendFailed):
            await vms.migrate(vm, new, action)
        await unchanged()
    new.errors.clear()
    new.silent = {REALIZE, SYNC}
    with pytest.raises(DeadlineExceeded):
        await vms.migrate(vm, new, timeout_seconds=1)
    await unchanged()
    new.silent = set()
    with pytest.raises(HostUnreachable):
        await vms.migrate(vm, absent)
    stranger = await vms.client.cluster.create(zone_uuid=vms.fleet.zone_uuid, name="other")
    vms.fleet.cluster_uuid = stranger.uuid
    elsewhere = await vms.fleet.join()
    with pytest.raises(PreconditionFailed) as refusal:
        await vms.migrate(vm, elsewhere)
    assert len(refusal.value.details["l2NetworkUuids"]) == 1
    await unchanged()
    assert {nic.host_uuid for nic in await vms.migrate(vm, new)} == {new.uuid}
    with pytest.raises(NotFound):
        await vms.migrate(uuid4(), new)


async def test_another_backend_plugs_in_otherwise(vms: Vms) -> None:
    """`begin` already answers what the destination needs, while a query shows the source."""
    old = await vms.fleet.join()
    l2 = await vms.attached_l2(vlan=55)
    source = vms.fleet.cluster_uuid
    other = await vms.client.cluster.create(
        zone_uuid=vms.fleet.zone_uuid, name="aware", backends={"L2VlanNetwork": "vlanAwareBridge"}
    )
    vms.fleet.cluster_uuid = other.uuid
    new = await vms.fleet.join()
    await vms.fleet.attach(l2)
    vm = uuid4()
    [before] = await vms.prepare(vm, old, [await vms.l3(l2)])
    assert (before.bridge, before.vlan) == (l2.bridge_name, None)

    [begun] = await vms.migrate(vm, new, "begin")
    assert (begun.bridge, begun.vlan) == ("brv_eth1", 55)
    assert '<tag id="55"' in begun.libvirt_xml
    [shown] = await vms.nics(vm_uuid=vm)
    assert shown.libvirt_xml == before.libvirt_xml
    [after] = await vms.migrate(vm, new, "finish")
    assert (after.bridge, after.vlan, after.libvirt_xml) == ("brv_eth1", 55, begun.libvirt_xml)
    vms.fleet.cluster_uuid = source


async def test_release_in_the_middle_of_a_migration_frees_both_hosts(vms: Vms) -> None:
    """The VM is gone, wherever it was."""
    old, new = await pair(vms)
    l3, vm = await vms.l3(await vms.ranged_l2(100, 199)), uuid4()
    [nic] = await vms.prepare(vm, old, [l3])
    await vms.migrate(vm, new, "begin")
    await vms.release(vm)

    await vms.gone(nic.l2_network_uuid)
    await vms.books_agree(l3)


async def test_dead_host_is_left_by_migrating_away(vms: Vms) -> None:
    """The source need not answer; it is told to release when it returns."""
    old, new = await pair(vms)
    l3, vm = await vms.l3(await vms.ranged_l2(100, 199)), uuid4()
    [nic] = await vms.prepare(vm, old, [l3])
    await vms.lose(old)
    [moved] = await vms.migrate(vm, new)

    assert moved.host_uuid == new.uuid
    await vms.client.host.delete(uuid=old.uuid)
    assert await holders(vms, nic.l2_network_uuid) == {new.uuid}


async def holders(vms: Vms, l2_uuid: UUID) -> set[UUID]:
    rows = await vms.client.realization.query(filters={"l2_network_uuid": l2_uuid})
    return {row.host_uuid for row in rows.items}


async def test_of_migrations_at_once_one_is_done(vms: Vms) -> None:
    """To two hosts: the VM is on one of them, and nothing is left on the other."""
    old = await vms.fleet.join()
    targets = [await vms.fleet.join(), await vms.fleet.join()]
    l3, vm = await vms.l3(await vms.ranged_l2(100, 199)), uuid4()
    [nic] = await vms.prepare(vm, old, [l3])
    results = await asyncio.gather(*(vms.migrate(vm, target) for target in targets), return_exceptions=True)

    moved = [result for result in results if isinstance(result, list)]
    assert moved
    assert all(isinstance(one, list | Conflict) for one in results)
    [now] = await vms.nics(vm_uuid=vm)
    await eventually(lambda: vms.realized(nic.l2_network_uuid), lambda hosts: hosts == {now.host_uuid})
