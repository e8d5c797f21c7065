"""Hosts that move between clusters, join full ones, rest, and leave."""

import asyncio
import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from integration.manager.conftest import Fleet, eventually
from integration.manager.scripted_agent import CHECK, REALIZE, REFUSED, RELEASE, SYNC, ScriptedAgent

from viaduct_common.errors import BackendFailed, Conflict, DeadlineExceeded, InUse, NotFound, PreconditionFailed
from viaduct_common.messages.l2 import L2NetworkInventory
from viaduct_common.postgres.pool import Pool, open_pool, transaction
from viaduct_manager.store import clusters, hosts


async def another_cluster(fleet: Fleet, **fields: Any) -> UUID:
    body = {"zone_uuid": fleet.zone_uuid, "name": "other"} | fields
    return (await fleet.client.cluster.create(**body)).uuid


async def attach_to(fleet: Fleet, network: L2NetworkInventory, cluster_uuid: UUID) -> None:
    await fleet.client.l2.attach(l2_network_uuid=network.uuid, cluster_uuid=cluster_uuid, timeout_seconds=15)


async def move(fleet: Fleet, agent: ScriptedAgent, cluster_uuid: UUID, **options: Any) -> Any:
    return await fleet.client.host.move(
        uuid=agent.uuid, cluster_uuid=cluster_uuid, **{"timeout_seconds": 15, **options}
    )


async def generation(fleet: Fleet, network: L2NetworkInventory, agent: ScriptedAgent) -> int:
    return (await fleet.rows(network))[agent.uuid].generation


async def test_moved_host_has_what_its_new_cluster_has_and_no_more(fleet: Fleet) -> None:
    """What both have is not touched; the answer comes when the host has done the rest."""
    agent, stays = await fleet.join(), await fleet.join()
    other = await another_cluster(fleet)
    old, both, new = await fleet.network(), await fleet.network(), await fleet.network()
    for network in (old, both):
        await fleet.attach(network)
    for network in (both, new):
        await attach_to(fleet, network, other)
    before = await generation(fleet, both, agent)
    moved = await move(fleet, agent, other)

    assert moved.cluster_uuid == other
    assert set(agent.held) == {both.uuid, new.uuid}
    assert agent.held[both.uuid] == before == await generation(fleet, both, agent)
    assert set(stays.held) == {old.uuid, both.uuid}
    assert await fleet.states(old) == ["gone", "realized"]
    assert await fleet.states(both) == ["realized", "realized"]
    assert await fleet.states(new) == ["realized", "gone"]
    done = (await fleet.client.operation.query(filters={"type": "host.move", "cluster_uuid": other})).items[0]
    steps = (await fleet.client.operation.get(uuid=done.uuid)).steps
    assert (done.state, [(step.host_uuid, step.state) for step in steps]) == ("succeeded", [(agent.uuid, "done")])
    await move(fleet, agent, fleet.cluster_uuid)
    assert set(agent.held) == {old.uuid, both.uuid}
    assert agent.held[both.uuid] == before


async def test_two_networks_of_one_place_change_hands_in_one_message(fleet: Fleet) -> None:
    """The old cluster's VLAN is released before the new one's of the same id is made: one sync says both."""
    agent = await fleet.join()
    other = await another_cluster(fleet)
    mine, theirs = await fleet.network(vlan=77), await fleet.network(vlan=77)
    await fleet.attach(mine)
    await attach_to(fleet, theirs, other)
    heard = len(agent.heard)
    await move(fleet, agent, other)

    assert agent.types()[heard:] == [SYNC]
    assert set(agent.held) == {theirs.uuid}


async def test_move_to_its_own_cluster_changes_nothing(fleet: Fleet) -> None:
    """Nobody is told anything."""
    agent = await fleet.join()
    host = await move(fleet, agent, fleet.cluster_uuid)
    assert (host.cluster_uuid, host.revision, agent.heard) == (fleet.cluster_uuid, agent.host.revision, [])


async def test_move_that_cannot_be_is_refused_with_the_reason(fleet: Fleet) -> None:
    """Another zone, no such cluster, no such host: nothing is changed."""
    agent = await fleet.join()
    zone = await fleet.client.zone.create(name="far")
    far = await another_cluster(fleet, zone_uuid=zone.uuid)
    with pytest.raises(PreconditionFailed) as refusal:
        await move(fleet, agent, far)
    assert refusal.value.details["field"] == "clusterUuid"
    with pytest.raises(NotFound):
        await move(fleet, agent, uuid4())
    with pytest.raises(NotFound):
        await fleet.client.host.move(uuid=uuid4(), cluster_uuid=fleet.cluster_uuid)
    assert (await fleet.client.host.get(uuid=agent.uuid)).cluster_uuid == fleet.cluster_uuid
    assert agent.heard == []


async def test_host_that_an_operation_waits_for_is_not_moved(fleet: Fleet) -> None:
    """It would never answer what it was asked; a mere question does not keep it."""
    agent = await fleet.join(silent={REALIZE, CHECK})
    other = await another_cluster(fleet)
    network = await fleet.network()
    question = asyncio.create_task(fleet.client.l2.check(l2_network_uuid=network.uuid, host_uuid=agent.uuid))
    await agent.hears(CHECK)
    await move(fleet, agent, other)
    await move(fleet, agent, fleet.cluster_uuid)
    await agent.say(agent.do(await agent.hears(CHECK)))
    await question
    agent.silent = {REALIZE}
    attach = asyncio.create_task(fleet.attach(network))
    realize = await agent.hears(REALIZE)
    with pytest.raises(Conflict) as refusal:
        await move(fleet, agent, other)

    assert refusal.value.details["operationUuids"] == [realize.correlation_id]
    await agent.say(agent.do(realize))
    await attach
    await move(fleet, agent, other)
    assert agent.held == {}


async def test_host_with_nics_in_networks_that_the_new_cluster_lacks_is_not_moved(fleet: Fleet) -> None:
    """The refusal names them; with the networks there it is."""
    agent = await fleet.join()
    other = await another_cluster(fleet)
    network = await fleet.network()
    await fleet.attach(network)
    nic = await fleet.plug(agent, network)
    with pytest.raises(InUse) as refusal:
        await move(fleet, agent, other)
    assert refusal.value.details == {"nicUuids": [str(nic)], "l2NetworkUuids": [str(network.uuid)]}
    await attach_to(fleet, network, other)
    aware = {"L2VlanNetwork": "vlanAwareBridge"}
    fleet.place.sql(f"UPDATE cluster SET backends = '{json.dumps(aware)}' WHERE uuid = '{other}'")
    with pytest.raises(InUse):
        await move(fleet, agent, other)
    fleet.place.sql(f"UPDATE cluster SET backends = '{{}}' WHERE uuid = '{other}'")
    assert (await move(fleet, agent, other)).cluster_uuid == other


async def test_network_that_the_new_cluster_builds_otherwise_is_ordered_anew(fleet: Fleet) -> None:
    """By another backend; what both build alike stays as it is."""
    agent = await fleet.join()
    other = await another_cluster(fleet)
    network = await fleet.network()
    untagged = await fleet.client.l2.create(
        zone_uuid=fleet.zone_uuid, type="L2NoVlanNetwork", physical_interface="eth1", name="untagged"
    )
    for one in (network, untagged):
        await fleet.attach(one)
        await attach_to(fleet, one, other)
    fleet.place.sql(f"""UPDATE cluster SET backends = '{{"L2VlanNetwork": "other"}}' WHERE uuid = '{other}'""")
    before = dict(agent.held)
    await move(fleet, agent, other)
    assert agent.held[network.uuid] > before[network.uuid]
    assert agent.held[untagged.uuid] == before[untagged.uuid]


@pytest.mark.parametrize("away", ["disconnected", "resting"])
async def test_host_that_cannot_be_told_is_moved_all_the_same(fleet: Fleet, away: str) -> None:
    """It converges when it returns."""
    agent = await fleet.join()
    other = await another_cluster(fleet)
    old, new = await fleet.network(), await fleet.network()
    await fleet.attach(old)
    await attach_to(fleet, new, other)
    if away == "resting":
        await fleet.client.host.set_maintenance(uuid=agent.uuid, maintenance=True)
    else:
        await fleet.lose(agent)
    heard = len(agent.heard)
    assert (await move(fleet, agent, other)).cluster_uuid == other

    assert len(agent.heard) == heard
    assert await fleet.states(old) == ["releasing"]
    assert await fleet.states(new) == ["pending"]
    if away == "resting":
        await fleet.client.host.set_maintenance(uuid=agent.uuid, maintenance=False)
    else:
        await agent.hello()
        agent.beat_on()
    await fleet.settles(old, "gone")
    await fleet.settles(new, "realized")
    assert set(agent.held) == {new.uuid}


async def test_what_was_on_its_way_out_is_wanted_again_where_the_new_cluster_has_it(fleet: Fleet) -> None:
    """The host was away when its old cluster lost it."""
    agent = await fleet.join()
    other = await another_cluster(fleet)
    network = await fleet.network()
    await fleet.attach(network)
    await attach_to(fleet, network, other)
    await fleet.lose(agent)
    await fleet.detach(network)
    assert await fleet.states(network) == ["releasing"]
    await move(fleet, agent, other)
    row = (await fleet.rows(network))[agent.uuid]
    assert (row.desired, row.state) == ("present", "pending")
    await agent.hello()
    agent.beat_on()
    await fleet.settles(network, "realized")
    assert agent.held == {network.uuid: row.generation}


async def test_host_that_is_moved_while_its_hello_waits_gets_what_its_new_cluster_has(fleet: Fleet) -> None:
    """Whoever finds out what a host should have looks again where the host is, once it has the lock."""
    agent = await fleet.enrol()
    other = await another_cluster(fleet)
    async with open_pool(fleet.place.postgres_url(), "test") as pool:
        async with transaction(pool) as moving:
            for uuid in (fleet.cluster_uuid, other):
                await clusters.lock(moving, uuid)
            await hosts.move(moving, agent.uuid, other)
            holding = asyncio.create_task(_hold(pool, agent.uuid))
            waiting = (
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'test'"
            )
            await eventually(lambda: asyncio.to_thread(fleet.place.sql, waiting), lambda seen: "1" in seen.split())
        assert await holding == other


async def _hold(pool: Pool, host_uuid: UUID) -> UUID | None:
    async with transaction(pool) as connection:
        return await hosts.hold_cluster(connection, host_uuid)


async def test_host_that_cannot_do_it_all_is_moved_and_the_reason_is_answered(fleet: Fleet) -> None:
    """What fails is tried again, as after an attach that keeps."""
    agent = await fleet.join(errors={REALIZE: REFUSED})
    other = await another_cluster(fleet)
    new = await fleet.network()
    await attach_to(fleet, new, other)
    with pytest.raises(BackendFailed) as refusal:
        await move(fleet, agent, other)

    assert refusal.value.details["operation"]["type"] == "host.move"
    assert (await fleet.client.host.get(uuid=agent.uuid)).cluster_uuid == other
    agent.errors.clear()
    await fleet.settles(new, "realized")


async def test_what_the_host_cannot_release_is_told_and_tried_again(fleet: Fleet) -> None:
    """A VM that nobody knows of still uses it."""
    agent = await fleet.join()
    other = await another_cluster(fleet)
    old = await fleet.network()
    await fleet.attach(old)
    agent.stuck[old.uuid] = InUse("in use by tap0", ports=["tap0"])
    with pytest.raises(InUse) as refusal:
        await move(fleet, agent, other)

    assert refusal.value.details["ports"] == ["tap0"]
    row = (await fleet.rows(old))[agent.uuid]
    assert (row.desired, row.state, row.error and row.error.code) == ("absent", "releasing", "IN_USE")
    agent.stuck.clear()
    await fleet.settles(old, "gone")
    assert agent.held == {}


async def test_silent_host_ends_the_wait_at_the_deadline(fleet: Fleet) -> None:
    """It is moved; `wait: false` is answered at once."""
    agent = await fleet.join(silent={SYNC})
    other = await another_cluster(fleet)
    with pytest.raises(DeadlineExceeded) as refusal:
        await move(fleet, agent, other, timeout_seconds=1)
    assert refusal.value.details["operation"]["state"] == "failed"
    assert (await fleet.client.host.get(uuid=agent.uuid)).cluster_uuid == other
    assert (await move(fleet, agent, fleet.cluster_uuid, wait=False)).cluster_uuid == fleet.cluster_uuid


async def test_moves_among_attaches_and_detaches_leave_every_host_with_its_clusters_networks(fleet: Fleet) -> None:
    """Whatever the order; two moves of one host at once are one after the other, or one is refused."""
    agents = [await fleet.join() for _ in range(3)]
    other = await another_cluster(fleet)
    clusters = [fleet.cluster_uuid, other]
    networks = [await fleet.network() for _ in range(4)]
    await fleet.attach(networks[0])
    await attach_to(fleet, networks[1], other)
    work = [move(fleet, agent, cluster) for agent in agents for cluster in reversed(clusters)]
    work += [attach_to(fleet, networks[2], cluster) for cluster in clusters]
    work += [fleet.detach(networks[0]), attach_to(fleet, networks[3], other)]
    outcomes = await asyncio.gather(*work, return_exceptions=True)

    assert {type(one) for one in outcomes if isinstance(one, Exception)} <= {Conflict}
    attached = {
        network.uuid: set((await fleet.client.l2.get(uuid=network.uuid)).attached_cluster_uuids) for network in networks
    }
    for agent in agents:
        cluster = (await fleet.client.host.get(uuid=agent.uuid)).cluster_uuid
        wanted = {uuid for uuid, where in attached.items() if cluster in where}
        await eventually(lambda agent=agent: _held(agent), lambda held, wanted=wanted: held == wanted)  # type: ignore[misc]


async def _held(agent: ScriptedAgent) -> set[UUID]:
    return set(agent.held)


# ---- a full cluster ----------------------------------------------------------------------------------------------


async def test_host_that_joins_a_full_cluster_gets_a_hundred_networks_in_one_message(fleet: Fleet) -> None:
    """The untagged network of an interface before the VLANs on it; so when all are tried again."""
    networks = [await fleet.network() for _ in range(99)]
    untagged = {"type": "L2NoVlanNetwork", "physical_interface": "eth1", "name": "untagged"}
    networks.append(await fleet.client.l2.create(zone_uuid=fleet.zone_uuid, **untagged))
    for start in range(0, 100, 25):
        await asyncio.gather(*(fleet.attach(network) for network in networks[start : start + 25]))
    agent = await fleet.join(errors={REALIZE: REFUSED})
    sync = await agent.hears(SYNC)

    assert sync.networks == {network.uuid for network in networks}
    assert sync.items[0].l2_network.uuid == networks[-1].uuid
    again = await agent.hears(REALIZE, lambda one: len(one.items) > 50)
    assert again.items[0].l2_network.uuid == networks[-1].uuid
    agent.errors.clear()

    async def states() -> set[str]:
        page = await fleet.client.realization.query(filters={"host_uuid": agent.uuid}, limit=100)
        return {row.state for row in page.items}

    await eventually(states, lambda seen: seen == {"realized"})
    assert set(agent.held) == sync.networks


# ---- rest --------------------------------------------------------------------------------------------------------


async def test_resting_host_is_removed_cleanly_and_without_waiting_for_others(fleet: Fleet) -> None:
    """Removal is the one order that it gets."""
    agent = await fleet.join()
    network = await fleet.network()
    await fleet.attach(network)
    await fleet.client.host.set_maintenance(uuid=agent.uuid, maintenance=True)
    assert await fleet.client.host.delete(uuid=agent.uuid) is not None
    assert agent.held == {}
    assert await fleet.rows(network) == {}


async def test_resting_host_that_says_hello_is_told_nothing(fleet: Fleet) -> None:
    """Its agent may be restarted as often as it takes; failures there are not tried again either."""
    agent = await fleet.join(errors={REALIZE: REFUSED})
    network = await fleet.network()
    with pytest.raises(BackendFailed):
        await fleet.attach(network, on_failure="keep")
    await fleet.client.host.set_maintenance(uuid=agent.uuid, maintenance=True)
    heard = len(agent.heard)
    await agent.hello()
    other = await fleet.join()
    await fleet.settles(network, "failed", "realized")
    await fleet.detach(network)
    await eventually(lambda: asyncio.sleep(0, RELEASE in other.types()), bool)

    assert len(agent.heard) == heard
    await fleet.client.host.set_maintenance(uuid=agent.uuid, maintenance=False)
    await fleet.settles(network, "gone", "gone")
