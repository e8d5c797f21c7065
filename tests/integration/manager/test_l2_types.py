"""What L2 types other than VLANs need of the manager: numbers that are taken once, backends, networks at VM time."""

import asyncio
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from integration.manager.conftest import Fleet, eventually
from integration.manager.scripted_agent import CHECK, REALIZE, RELEASE, SYNC
from integration.manager.tunnelled import Vms, join, of_account, ranged

from viaduct_common.errors import InUse, InvalidRequest, L2Conflict
from viaduct_common.messages.l2 import L2NetworkInventory

# ---- numbers -----------------------------------------------------------------------------------------------------


async def of_vni(fleet: Fleet, vni: int) -> L2NetworkInventory:
    return await fleet.network(type="L2VxlanNetwork", vni=vni)


async def test_numbers_are_taken_once_on_a_cluster(fleet: Fleet, other: Fleet) -> None:
    """A VNI, and a range that has it; GRE keys are numbers of another kind, and other clusters are free."""
    first = await of_vni(fleet, 500)
    await fleet.attach(first)
    twin = await of_vni(fleet, 500)
    around, beside = await ranged(fleet, 490, 500), await ranged(fleet, 501, 600)
    for rival, about in ((twin, "vni 500"), (around, "vni 500")):
        with pytest.raises(L2Conflict, match=f"has the same {about} on") as refusal:
            await fleet.attach(rival)
        assert refusal.value.details["l2NetworkUuid"] == str(first.uuid)
        assert not await fleet.attached(rival)
        with pytest.raises(L2Conflict, match=about):
            await fleet.client.l2.plan(l2_network_uuid=rival.uuid, cluster_uuid=fleet.cluster_uuid, action="attach")
        candidates = await fleet.client.l2.candidate_clusters(l2_network_uuid=rival.uuid)
        assert [one.cluster.uuid for one in candidates.refused] == [fleet.cluster_uuid]
        assert [one.uuid for one in candidates.clusters] == [other.cluster_uuid]
    await fleet.attach(beside)
    with pytest.raises(L2Conflict, match="vni 590 to 600"):
        await fleet.attach(await ranged(fleet, 590, 700))
    gre = [await fleet.network(type="OvsGreL2Network", key=500) for _ in range(2)]
    await fleet.attach(gre[0])
    with pytest.raises(L2Conflict, match="gre 500"):
        await fleet.attach(gre[1])

    await other.attach(around)
    await fleet.detach(first)
    await fleet.attach(twin)


async def test_of_two_attaches_that_conflict_one_wins(fleet: Fleet) -> None:
    """At the same moment, whichever it is; the other is told who."""
    await fleet.join()
    for vni in range(700, 705):
        rivals = [await of_vni(fleet, vni), await ranged(fleet, vni - 50, vni + 50)]
        outcomes: list[Any] = await asyncio.gather(*(fleet.attach(one) for one in rivals), return_exceptions=True)

        [refusal] = [one for one in outcomes if isinstance(one, Exception)]
        winner = rivals[1 - outcomes.index(refusal)]
        assert isinstance(refusal, L2Conflict)
        assert refusal.details["l2NetworkUuid"] == str(winner.uuid)
        await fleet.detach(winner)


# ---- backends ----------------------------------------------------------------------------------------------------


async def test_hosts_are_told_the_backend_that_their_cluster_chose(fleet: Fleet) -> None:
    """In questions, orders, releases and syncs; of the other types the usual one."""
    await fleet.client.cluster.update(uuid=fleet.cluster_uuid, backends={"L2VlanNetwork": "vlanAwareBridge"})
    agent = await fleet.join()
    vlan, plain = await fleet.network(), await fleet.network(type="L2NoVlanNetwork")
    for network in (vlan, plain):
        await fleet.attach(network)
    agent.held.clear()
    await agent.hello()
    await agent.hears(SYNC, lambda one: len(one.command.items) == 2)
    await fleet.settles(vlan, "realized")
    await fleet.detach(vlan)

    told = {(heard.type, item.l2_network.uuid): item.backend for heard in agent.heard for item in heard.command.items}
    assert {kind: told[kind, vlan.uuid] for kind in (CHECK, REALIZE, SYNC, RELEASE)} == dict.fromkeys(
        (CHECK, REALIZE, SYNC, RELEASE), "vlanAwareBridge"
    )
    assert told[REALIZE, plain.uuid] is told[SYNC, plain.uuid] is None


@pytest.mark.parametrize(
    ("backends", "field"),
    [({"L2TokenRing": "bridge"}, "backends.L2TokenRing"), ({"L2VlanNetwork": "gretap"}, "backends.L2VlanNetwork")],
)
async def test_backend_that_does_not_exist_is_refused(fleet: Fleet, backends: dict[str, str], field: str) -> None:
    """At creation and later; nothing is changed."""
    client = fleet.client
    for request in (
        client.cluster.create(zone_uuid=fleet.zone_uuid, name="c", backends=backends),
        client.cluster.update(uuid=fleet.cluster_uuid, name="changed", backends=backends),
    ):
        with pytest.raises(InvalidRequest) as refusal:
            await request
        assert refusal.value.details["field"] == field
    assert (await client.cluster.get(uuid=fleet.cluster_uuid)).name == "cluster"


async def test_backend_of_what_is_attached_cannot_be_changed(fleet: Fleet) -> None:
    """Not while it is being attached either. What it is may be named, and other types may change."""
    update, cluster = fleet.client.cluster.update, fleet.cluster_uuid
    agent = await fleet.join(silent={REALIZE})
    network = await fleet.network()
    attach = asyncio.create_task(fleet.attach(network))
    realize = await agent.hears(REALIZE)
    with pytest.raises(InUse) as refusal:
        await update(uuid=cluster, backends={"L2VlanNetwork": "vlanAwareBridge"})
    assert refusal.value.details["l2NetworkUuids"] == [str(network.uuid)]
    await agent.say(agent.do(realize))
    await attach

    chosen = {"L2VlanNetwork": "bridge", "OvsGreL2Network": "gretap"}
    assert (await update(uuid=cluster, backends=chosen)).backends == chosen
    assert (await update(uuid=cluster, name="same")).backends == chosen
    with pytest.raises(InUse):
        await update(uuid=cluster, backends={"L2VlanNetwork": "vlanAwareBridge"})
    await fleet.detach(network)
    await update(uuid=cluster, backends={"L2VlanNetwork": "vlanAwareBridge"})
    await fleet.client.cluster.create(zone_uuid=fleet.zone_uuid, name="new", backends=chosen)


# ---- networks with a VNI range -----------------------------------------------------------------------------------


async def test_network_with_a_range_is_attached_without_hosts(fleet: Fleet) -> None:
    """Nobody is asked, nothing is desired; a host that joins does not get it; a check has no lines."""
    agent = await join(fleet, 1)
    network = await ranged(fleet, 20_000, 20_099)
    await fleet.attach(network)
    await join(fleet, 2)

    assert (network.bridge_name, network.device_names) == ("", [])
    assert await fleet.attached(network)
    assert await fleet.rows(network) == {}
    assert await fleet.client.l2.check(l2_network_uuid=network.uuid) == []
    await fleet.detach(network)
    assert not await fleet.attached(network)
    assert [agent.types() for agent in fleet.agents] == [[], []]
    assert agent.held == {}
    assert await fleet.client.l2.delete(uuid=network.uuid) is not None


async def test_what_an_account_has_of_it_is_realised_where_it_is_wanted(
    fleet: Fleet, database: asyncpg.Connection
) -> None:
    """With the parent's CIDR, peers of its own, and no mention among networks; it cannot be attached by itself."""
    agents = [await fleet.join(addresses=[f"10.9.0.{number}/16"]) for number in (1, 2, 3)]
    network, account = await ranged(fleet, 30_000, 30_099), uuid4()
    await fleet.attach(network, tunnel_cidr="10.9.0.0/16")
    child = await of_account(database, network, account, 30_000, *agents[:2])
    await of_account(database, network, uuid4(), 30_001, agents[2])
    known = await fleet.client.l2.get(uuid=child)
    assert (known.parent_uuid, known.owner_account_uuid) == (network.uuid, account)
    assert known.own_fields() == {"vni": 30_000, "vniRange": None, "udpPort": 4789}

    for agent, end, peer_end in ((agents[0], "10.9.0.1", "10.9.0.2"), (agents[1], "10.9.0.2", "10.9.0.1")):
        order = await eventually(
            lambda agent=agent: asyncio.sleep(0, agent.told(child)), lambda seen: seen is not None and seen.peers
        )
        assert order is not None
        assert (str(order.tunnel_ip), [str(peer.tunnel_ip) for peer in order.peers]) == (end, [peer_end])
        assert order.l2_network.own_fields() == known.own_fields()
    await fleet.settles(known, "realized", "realized", "gone")
    assert {check.host_uuid: check.status for check in await fleet.client.l2.check(l2_network_uuid=child)} == {
        agent.uuid: "ok" for agent in agents[:2]
    }
    agents[0].held.clear()  # as after a reboot
    await agents[0].hello()
    await agents[0].hears(SYNC, lambda one: child in one.networks)
    listed = await fleet.client.l2.query(filters={"zone_uuid": fleet.zone_uuid})
    assert [one.uuid for one in listed.items] == [network.uuid]
    for refused in (
        fleet.attach(known),
        fleet.detach(known),
        fleet.client.l2.delete(uuid=child),
        fleet.client.l3.create(l2_network_uuid=child, name="no"),
    ):
        with pytest.raises(InvalidRequest, match=str(network.uuid)):
            await refused


async def test_forced_detach_takes_what_accounts_have_of_it(fleet: Fleet, database: asyncpg.Connection) -> None:
    """Unforced it is refused while NICs use it; afterwards the network can be deleted, and nothing is left."""
    agent = await join(fleet, 1)
    network = await ranged(fleet, 40_000, 40_099)
    await fleet.attach(network)
    child = await of_account(database, network, uuid4(), 40_000, agent)
    await agent.hears(REALIZE)
    vms = Vms(fleet, database, network)
    await vms.prepare()
    await vms.plug(agent, child)
    with pytest.raises(InUse, match="NICs of VMs use") as refusal:
        await fleet.detach(network)
    assert len(refusal.value.details["nicUuids"]) == 1
    assert await fleet.attached(network)

    await fleet.detach(network, force=True)
    await agent.hears(RELEASE, lambda one: one.networks == {child})
    await vms.unplug_all(child)
    await database.execute("DELETE FROM l3_network WHERE l2_uuid = $1", network.uuid)
    await eventually(lambda: asyncio.sleep(0, agent.held), lambda held: held == {})
    await fleet.client.l2.delete(uuid=network.uuid)
    await eventually(
        lambda: database.fetchval("SELECT count(*) FROM l2_network WHERE uuid = ANY($1)", [network.uuid, child]),
        lambda count: count == 0,
    )
