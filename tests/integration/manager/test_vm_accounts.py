"""Networks with a VNI range: what each account has of them comes with its first VM on a host and goes with its last."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest
from integration.manager.eventually import eventually
from integration.manager.scripted_agent import REALIZE, REFUSED, RELEASE, ScriptedAgent
from integration.manager.vms import Vms

from viaduct_common.errors import BackendFailed, Exhausted, InUse, IpInUse, NotFound
from viaduct_common.messages.l2 import L2NetworkInventory
from viaduct_common.messages.vm import NicInventory


async def vni_of(vms: Vms, l2_uuid: UUID) -> int:
    vni: int = (await vms.client.l2.get(uuid=l2_uuid)).own_fields()["vni"]
    return vni


def ordered(agent: ScriptedAgent, kind: str) -> list[UUID]:
    return [uuid for heard in agent.heard if heard.type == kind for uuid in heard.networks]


async def kept(vms: Vms, parent: L2NetworkInventory) -> str:
    """How many accounts have a VNI of it, those included that give it up just now."""
    statement = f"SELECT count(*) FROM l2_network WHERE parent_uuid = '{parent.uuid}'"
    return await asyncio.to_thread(vms.fleet.place.sql, statement)


async def test_attach_touches_no_host(vms: Vms) -> None:
    """It only says where accounts may have it; no host that joins gets it either."""
    agent = await vms.fleet.join()
    parent = await vms.ranged_l2(100, 199)
    await vms.fleet.join()

    assert agent.types() == []
    assert await vms.fleet.rows(parent) == {}
    assert await vms.fleet.attached(parent)
    await vms.fleet.detach(parent)
    assert await vms.realized(parent.uuid) == set()


async def test_network_of_an_account_is_where_its_vms_are(vms: Vms) -> None:
    """Realised once on a host, before its first VM there, and released with the last; then the VNI is free again."""
    one, two = await vms.fleet.join(), await vms.fleet.join()
    parent = await vms.ranged_l2(100, 199)
    l3 = await vms.l3(parent)
    first, second, third = uuid4(), uuid4(), uuid4()

    [nic] = await vms.prepare(first, one, [l3])
    own = nic.l2_network_uuid
    network = await vms.client.l2.get(uuid=own)
    assert own != parent.uuid
    fields: dict[str, Any] = network.own_fields()
    assert (fields["vni"], network.parent_uuid, network.owner_account_uuid) == (100, parent.uuid, vms.account)
    assert (nic.bridge, nic.mtu) == (network.bridge_name, parent.mtu) == ("br_vx_100", 1450)
    assert network.attached_cluster_uuids == [vms.fleet.cluster_uuid]
    assert await vms.realized(own) == {one.uuid}

    await vms.prepare(second, one, [l3, l3])
    await vms.prepare(third, two, [l3])
    assert await vms.realized(own) == {one.uuid, two.uuid}
    assert ordered(one, REALIZE) == ordered(two, REALIZE) == [own]
    listed = await vms.client.l2.query(filters={"zone_uuid": vms.fleet.zone_uuid})
    assert [l2.uuid for l2 in listed.items] == [parent.uuid]

    await vms.release(first)
    assert RELEASE not in one.types()
    await vms.release(second)
    await one.hears(RELEASE)
    await eventually(lambda: vms.realized(own), lambda hosts: hosts == {two.uuid})
    await vms.release(third)
    await vms.gone(own)
    await eventually(lambda: kept(vms, parent), lambda count: count == "0")
    with pytest.raises(NotFound):
        await vms.client.l2.get(uuid=own)
    [again] = await vms.prepare(first, one, [l3])
    assert again.l2_network_uuid != own
    assert await vni_of(vms, again.l2_network_uuid) == 100


async def test_accounts_share_no_vni(vms: Vms) -> None:
    """Ten at once; one account with many VMs at once has one; when all are taken, the next is refused and undone."""
    agent = await vms.fleet.join()
    parent = await vms.ranged_l2(500, 509)
    l3, plain = await vms.l3(parent), await vms.l3(await vms.attached_l2())
    accounts = [uuid4() for _ in range(10)]
    answers = await asyncio.gather(
        *(vms.prepare(uuid4(), agent, [l3], account_uuid=account) for account in accounts for _ in range(2))
    )

    by_account: dict[UUID, set[UUID]] = {}
    for [nic] in answers:
        by_account.setdefault(nic.account_uuid, set()).add(nic.l2_network_uuid)
    assert {len(networks) for networks in by_account.values()} == {1}
    vnis = [await vni_of(vms, network) for networks in by_account.values() for network in networks]
    assert sorted(vnis) == list(range(500, 510))
    vm = uuid4()
    with pytest.raises(Exhausted) as refusal:
        await vms.prepare(vm, agent, [plain, l3], account_uuid=uuid4())
    assert refusal.value.details["l2NetworkUuid"] == str(parent.uuid)
    assert await vms.used(plain) == {}
    assert await vms.release(vm) == []
    freed = await vni_of(vms, answers[0][0].l2_network_uuid)
    for [nic] in answers[:2]:
        await vms.release(nic.vm_uuid)
    await eventually(lambda: kept(vms, parent), lambda count: count == "9")
    [nic] = await vms.prepare(vm, agent, [l3], account_uuid=uuid4())
    assert await vni_of(vms, nic.l2_network_uuid) == freed
    await vms.books_agree(l3, plain)


async def test_host_that_cannot_have_it_gets_nothing(vms: Vms) -> None:
    """The error is the host's; what was ordered is released, and the VNI is free."""
    agent = await vms.fleet.join(errors={REALIZE: REFUSED})
    parent = await vms.ranged_l2(100, 100)
    l3 = await vms.l3(parent)
    with pytest.raises(BackendFailed):
        await vms.prepare(uuid4(), agent, [l3])

    await eventually(lambda: kept(vms, parent), lambda count: count == "0")
    await vms.books_agree(l3)
    agent.errors.clear()
    [nic] = await vms.prepare(uuid4(), agent, [l3])
    assert await vni_of(vms, nic.l2_network_uuid) == 100


async def test_address_that_cannot_be_had_takes_the_network_back(vms: Vms) -> None:
    """What was realised in vain is released, but not from under another VM."""
    agent, other = await vms.fleet.join(), await vms.fleet.join()
    l3 = await vms.l3(await vms.ranged_l2(100, 199), "10.9.0.0/24")
    taken = {"l3_network_uuid": l3, "ip": "10.9.0.9"}
    [nic] = await vms.prepare(uuid4(), agent, [taken])
    for host in (agent, other):
        with pytest.raises(IpInUse):
            await vms.prepare(uuid4(), host, [taken])

    await other.hears(RELEASE)
    await eventually(lambda: vms.realized(nic.l2_network_uuid), lambda hosts: hosts == {agent.uuid})
    assert RELEASE not in agent.types()
    await vms.books_agree(l3)


async def test_account_that_comes_back_takes_up_what_is_being_released(vms: Vms) -> None:
    """A host that has not released it yet is told to have it after all, by the same VNI."""
    agent = await vms.fleet.join()
    parent = await vms.ranged_l2(100, 199)
    l3, vm = await vms.l3(parent), uuid4()
    [nic] = await vms.prepare(vm, agent, [l3])
    agent.silent = {RELEASE}
    await vms.release(vm)
    await agent.hears(RELEASE)
    [again] = await vms.prepare(uuid4(), agent, [l3])
    assert again.l2_network_uuid == nic.l2_network_uuid
    assert (await vms.fleet.rows(await vms.client.l2.get(uuid=nic.l2_network_uuid)))[agent.uuid].state == "realized"
    other = await vms.prepare(uuid4(), agent, [l3], account_uuid=uuid4())
    assert await vni_of(vms, other[0].l2_network_uuid) == 101


async def test_detach_is_refused_while_an_account_has_it(vms: Vms) -> None:
    """By force it goes from under the NICs."""
    agent = await vms.fleet.join()
    parent = await vms.ranged_l2(100, 199)
    [nic] = await vms.prepare(uuid4(), agent, [await vms.l3(parent)])
    with pytest.raises(InUse) as refusal:
        await vms.fleet.detach(parent)
    assert refusal.value.details["nicUuids"] == [str(nic.uuid)]

    await vms.fleet.detach(parent, force=True)
    await vms.gone(nic.l2_network_uuid)


async def test_host_that_was_away_follows(vms: Vms) -> None:
    """What accounts have is part of a host's full desired set."""
    agent = await vms.fleet.join()
    l3, vm = await vms.l3(await vms.ranged_l2(100, 199)), uuid4()
    [nic] = await vms.prepare(vm, agent, [l3])
    agent.held.clear()
    await eventually(lambda: vms.realized(nic.l2_network_uuid), lambda hosts: hosts == {agent.uuid})
    await vms.lose(agent)
    await vms.release(vm)
    agent.session_id = uuid4()
    await agent.hello()
    agent.beat_on()
    await vms.gone(nic.l2_network_uuid)


async def test_hosts_of_an_account_learn_of_each_others_nics(vms: Vms) -> None:
    """So that what is sent to them is not flooded: added when a VM comes, moved with it, forgotten with it."""
    one, two = await vms.fleet.join(), await vms.fleet.join()
    for number, agent in enumerate((one, two)):
        await vms.client.host.update(uuid=agent.uuid, tunnel_ip=f"192.0.2.{number + 1}")
    l3 = await vms.l3(await vms.ranged_l2(100, 199))
    vm = uuid4()
    [mine] = await vms.prepare(uuid4(), one, [l3])
    [other] = await vms.prepare(vm, two, [l3])
    own = mine.l2_network_uuid

    async def behind(agent: ScriptedAgent) -> dict[UUID, set[tuple[str, str]]]:
        """(MAC, address) by peer, as the agent was last told."""
        order = agent.told(own)
        assert order is not None
        return {peer.host_uuid: {(nic.mac, str(ip)) for nic in peer.nics for ip in nic.ips} for peer in order.peers}

    def known(*nics: NicInventory) -> set[tuple[str, str]]:
        return {(nic.mac, str(one.ip)) for nic in nics for one in nic.ips}

    await eventually(lambda: behind(one), lambda seen: seen == {two.uuid: known(other)})
    await eventually(lambda: behind(two), lambda seen: seen == {one.uuid: known(mine)})
    three = await vms.fleet.join()
    await vms.client.host.update(uuid=three.uuid, tunnel_ip="192.0.2.3")
    await vms.migrate(vm, three)
    await eventually(lambda: behind(one), lambda seen: seen == {three.uuid: known(other)})
    await vms.release(vm)
    await eventually(lambda: behind(one), lambda seen: seen == {})
