"""Hosts of tunnelled networks learn of each other, whoever comes, goes or moves, and in whatever order."""

import asyncio
import random
from collections.abc import Awaitable
from ipaddress import ip_address
from typing import Any

import asyncpg
import pytest
from integration.manager.conftest import Fleet, eventually
from integration.manager.scripted_agent import CHECK, REALIZE, REFUSED, SYNC, ScriptedAgent
from integration.manager.tunnelled import Vms, end_of, join, known_to, knows, quiet, vxlan

from viaduct_common.errors import BackendFailed, InvalidRequest
from viaduct_common.messages.agent import L2Inquiry
from viaduct_common.messages.l2 import L2NetworkInventory

# ---- who comes and goes ------------------------------------------------------------------------------------------


async def test_attach_tells_each_host_its_end_and_all_others(fleet: Fleet) -> None:
    """Before anything is changed, too, so that a host can refuse what cannot work; and no host is told twice."""
    one, two, three = [await join(fleet, number) for number in (1, 2, 3)]
    network = await vxlan(fleet)
    await fleet.attach(network)

    for agent, others in ((one, [two, three]), (two, [one, three]), (three, [one, two])):
        assert agent.types() == [CHECK, REALIZE]
        [inquiry], [order] = (heard.command.items for heard in agent.heard)
        assert isinstance(inquiry, L2Inquiry)
        for item in (inquiry, order):
            assert (str(item.tunnel_ip), item.backend) == (end_of(agent), None)
            assert {peer.host_uuid: str(peer.tunnel_ip) for peer in item.peers} == {
                peer.uuid: end_of(peer) for peer in others
            }
    await quiet(one, two, three)
    assert await fleet.states(network) == ["realized"] * 3


async def test_host_that_joins_costs_each_other_host_one_message(fleet: Fleet) -> None:
    """However many networks it joins; meanwhile they are as usable as before."""
    old = [await join(fleet, number) for number in (1, 2)]
    networks = [await vxlan(fleet) for _ in range(5)]
    vlan = await fleet.network()
    for network in (*networks, vlan):
        await fleet.attach(network)
    before = [len(agent.heard) for agent in old]
    new = await join(fleet, 3)

    for network in networks:
        await knows(new, network, *old)
        await knows(old[0], network, old[1], new)
        await knows(old[1], network, old[0], new)
        await fleet.settles(network, *["realized"] * 3)
    assert [len(agent.heard) - count for agent, count in zip(old, before, strict=True)] == [1, 1]
    assert all(vlan.uuid not in agent.heard[-1].networks for agent in old)
    rows = await fleet.rows(networks[0])
    await eventually(
        lambda: fleet.rows(networks[0]),
        lambda seen: all(row.observed_generation == row.generation for row in seen.values()),
    )
    assert {row.state for row in rows.values()} == {"realized"}
    await quiet(*old, new)


async def test_hosts_that_join_at_once_learn_of_each_other(fleet: Fleet) -> None:
    """Neither transaction sees the other's host; and two managers must not undo each other's news."""
    network = await vxlan(fleet)
    await fleet.attach(network)
    async with fleet.place.running("manager"):
        for _ in range(3):
            first = len(fleet.agents) + 1
            crowd = [await fleet.enrol(tunnel_ip=f"192.0.2.{number}") for number in range(first, first + 3)]
            await asyncio.gather(*(agent.hello() for agent in crowd))
            for agent in crowd:
                agent.beat_on()
            for agent in fleet.agents:
                await knows(agent, network, *(peer for peer in fleet.agents if peer is not agent))
        await fleet.settles(network, *["realized"] * 9)
        await quiet(*fleet.agents)


async def test_hosts_of_another_cluster_are_peers_while_it_is_attached_there(fleet: Fleet, other: Fleet) -> None:
    """They learn of its hosts at the attach, and forget them at the detach, and at one that was rolled back."""
    here, there = await join(fleet, 1), await join(other, 2)
    network = await vxlan(fleet)
    await fleet.attach(network)
    await other.attach(network)
    await knows(here, network, there)
    await knows(there, network, here)

    await other.detach(network)
    await knows(here, network)
    assert there.held == {}
    there.errors[REALIZE] = REFUSED
    with pytest.raises(BackendFailed):
        await other.attach(network)
    await knows(here, network)
    await quiet(here)
    await fleet.settles(network, "realized")


async def test_silent_host_stays_a_peer_and_knows_its_peers_when_it_returns(fleet: Fleet) -> None:
    """A silent agent is no dead host. Nobody writes to it while it is away; its sync has them all."""
    stays, away, leaves = [await join(fleet, number) for number in (1, 2, 3)]
    network = await vxlan(fleet)
    await fleet.attach(network)
    await away.fall_silent()
    await fleet.state_of(away, "disconnected")
    before = len(away.heard)
    new = await join(fleet, 4)
    await knows(stays, network, away, leaves, new)
    await fleet.client.host.delete(uuid=leaves.uuid)
    await knows(stays, network, away, new)
    assert len(away.heard) == before
    assert (await fleet.rows(network))[away.uuid].state == "realized"  # which it still is, with the peers of then

    await away.hello()
    away.beat_on()
    await away.hears(SYNC)
    await knows(away, network, stays, new)
    await fleet.settles(network, "realized", "realized", "gone", "realized")
    await quiet(stays, away, new)


async def test_host_that_is_removed_unheard_is_forgotten(fleet: Fleet) -> None:
    """It never came; its end was one all the same."""
    stays, never_came = await join(fleet, 1), await fleet.enrol(tunnel_ip="192.0.2.2")
    network = await vxlan(fleet)
    await fleet.attach(network)
    await knows(stays, network, never_came)

    await fleet.client.host.delete(uuid=never_came.uuid)
    await knows(stays, network)


async def test_host_in_maintenance_stays_a_peer_and_catches_up_after(fleet: Fleet) -> None:
    """Maintenance is no leave."""
    rests, works = await join(fleet, 1), await join(fleet, 2)
    network = await vxlan(fleet)
    await fleet.attach(network)
    await fleet.client.host.set_maintenance(uuid=rests.uuid, maintenance=True)
    before = len(rests.heard)
    new = await join(fleet, 3)
    await knows(works, network, rests, new)
    assert len(rests.heard) == before

    await fleet.client.host.set_maintenance(uuid=rests.uuid, maintenance=False)
    await knows(rests, network, works, new)


# ---- where tunnels end -------------------------------------------------------------------------------------------


async def test_other_tunnel_ip_is_told_to_the_host_and_its_peers(fleet: Fleet) -> None:
    """By `host.update`; every field but the address stays."""
    one, two = await join(fleet, 1), await join(fleet, 2)
    network = await vxlan(fleet)
    await fleet.attach(network)
    one.host = await fleet.client.host.update(uuid=one.uuid, tunnel_ip="192.0.2.77")

    assert one.host.name == "host0"
    await knows(two, network, one)
    await eventually(
        lambda: asyncio.sleep(0, one.told(network.uuid)),
        lambda told: told is not None and str(told.tunnel_ip) == "192.0.2.77",
    )
    await fleet.settles(network, "realized", "realized")


async def test_tunnel_cidr_chooses_among_the_addresses_of_each_host(fleet: Fleet) -> None:
    """The one inside; none or several are no end, so the host can refuse; a host that returns with another is heard."""
    one = await fleet.join(addresses=["198.51.100.1/24", "10.9.0.1/16", "2001:db8::1/64"], tunnel_ip="198.51.100.1")
    two = await fleet.join(addresses=["10.9.0.2/16"])
    three = await fleet.join(addresses=["10.9.0.3/16", "10.9.0.4/16", "not an address"])
    network = await vxlan(fleet)
    await fleet.attach(network, tunnel_cidr="10.9.0.0/16")

    orders = [agent.told(network.uuid) for agent in fleet.agents]
    assert [order and order.tunnel_ip for order in orders] == [ip_address("10.9.0.1"), ip_address("10.9.0.2"), None]
    assert [str(peer.tunnel_ip) for peer in known_to(one, network).values()] == ["10.9.0.2"]
    assert (await fleet.client.host.get(uuid=one.uuid)).interfaces[0]["addresses"] == one.addresses
    two.addresses = ["10.9.0.22/16"]
    await two.hello()
    await eventually(
        lambda: asyncio.sleep(0, [str(peer.tunnel_ip) for peer in known_to(one, network).values()]),
        lambda seen: seen == ["10.9.0.22"],
    )
    await eventually(
        lambda: asyncio.sleep(0, two.told(network.uuid)),
        lambda told: told is not None and str(told.tunnel_ip) == "10.9.0.22",
    )
    three.addresses.pop(0)
    await three.hello()
    await eventually(lambda: asyncio.sleep(0, known_to(one, network)), lambda seen: three.uuid in seen)


async def test_tunnel_cidr_is_refused_where_there_are_no_tunnels(fleet: Fleet) -> None:
    """Nothing is attached."""
    await fleet.join()
    network = await fleet.network()
    with pytest.raises(InvalidRequest) as refusal:
        await fleet.attach(network, tunnel_cidr="10.0.0.0/8")

    assert refusal.value.details["field"] == "tunnelCidr"
    assert not await fleet.attached(network)


async def test_plan_tells_hosts_what_an_attach_would(fleet: Fleet) -> None:
    """With its CIDR, though nothing is attached."""
    one, two = [await fleet.join(addresses=[f"10.9.0.{number}/16"]) for number in (1, 2)]
    network = await vxlan(fleet)
    await fleet.client.l2.plan(
        l2_network_uuid=network.uuid, cluster_uuid=fleet.cluster_uuid, action="attach", tunnel_cidr="10.9.0.0/16"
    )

    [item] = one.heard[0].command.items
    assert (str(item.tunnel_ip), [str(peer.tunnel_ip) for peer in item.peers]) == ("10.9.0.1", ["10.9.0.2"])
    assert two.types() == [CHECK]


# ---- what is lost, and what goes on at the same time -------------------------------------------------------------


async def test_peers_that_change_during_an_attach_do_not_disturb_it(fleet: Fleet) -> None:
    """The step waits for the newest order; what the older one came to does not count any more."""
    slow = await fleet.join(tunnel_ip="192.0.2.1", silent={REALIZE})
    network = await vxlan(fleet)
    attach = asyncio.create_task(fleet.attach(network, timeout_seconds=60))
    first = await slow.hears(REALIZE)
    new = await join(fleet, 2)
    await knows(slow, network, new)
    failed = slow.do(first)
    late = failed.items[0].model_copy(update={"outcome": "failed", "error": REFUSED.to_body()})
    await slow.say(failed.model_copy(update={"items": [late]}))
    assert not attach.done()
    newest = await slow.hears(REALIZE, lambda one: one.generations > first.generations)
    await slow.say(slow.do(newest))

    operation = await attach
    assert operation.state == "succeeded"
    assert [step.generation for step in operation.steps if step.phase == "realize"] == newest.generations
    await fleet.settles(network, "realized", "realized")


async def test_lost_news_of_peers_come_again_and_lost_completions_are_proven(fleet: Fleet) -> None:
    """By the digest: the order has a generation of its own; then the host is left in peace."""
    old = await join(fleet, 1)
    network = await vxlan(fleet)
    await fleet.attach(network)
    old.silent.add(REALIZE)  # not even done
    new = await join(fleet, 2)
    sync = await old.hears(SYNC)
    assert [peer.host_uuid for peer in sync.command.items[0].peers] == [new.uuid]
    await fleet.settles(network, "realized", "realized")

    old.silent.clear()
    old.mute = True  # done, but nobody hears of it
    third = await join(fleet, 3)
    await knows(old, network, new, third)
    await eventually(
        lambda: fleet.rows(network), lambda rows: rows[old.uuid].observed_generation == rows[old.uuid].generation
    )
    await quiet(old, new, third)


# ---- NICs --------------------------------------------------------------------------------------------------------


async def test_nics_are_told_to_the_other_hosts_many_at_a_time(fleet: Fleet, database: asyncpg.Connection) -> None:
    """Those that are ready, with their addresses; the host that has them is not told."""
    has, hears = await join(fleet, 1), await join(fleet, 2)
    network = await vxlan(fleet)
    await fleet.attach(network)
    vms = Vms(fleet, database, network)
    await vms.prepare()
    before = len(has.heard), len(hears.heard)
    macs = {await vms.plug(has, network.uuid) for _ in range(60)}
    await vms.plug(has, network.uuid, state="preparing")

    seen = await eventually(
        lambda: asyncio.sleep(0, known_to(hears, network)[has.uuid].nics), lambda nics: len(nics) == 60
    )
    assert {nic.mac for nic in seen} == macs
    assert [str(ip) for ip in seen[0].ips] == ["10.1.0.1", "2001:db8::1"]
    assert len(hears.heard) - before[1] < 15
    assert len(has.heard) == before[0]
    await vms.unplug_all(network.uuid)
    await eventually(lambda: asyncio.sleep(0, known_to(hears, network)[has.uuid].nics), lambda nics: nics == [])
    await fleet.settles(network, "realized", "realized")


async def test_whatever_happens_at_the_same_time_all_know_their_peers_in_the_end(
    fleet: Fleet, other: Fleet, database: asyncpg.Connection
) -> None:
    """Attaches, detaches, hosts that join, move their ends, and are removed, NICs: in any order, on two managers."""
    rng = random.Random(7)
    networks = [await vxlan(fleet) for _ in range(4)]
    vms = Vms(fleet, database, networks[0])
    await vms.prepare()
    agents = [await join(rng.choice((fleet, other)), number) for number in range(1, 5)]
    await fleet.attach(networks[0])
    gone = agents[0]

    async def plug() -> None:
        for _ in range(20):
            await vms.plug(agents[1], networks[0].uuid)

    async def attach_and_detach(cluster: Fleet, network: L2NetworkInventory, *, stays: bool) -> None:
        await cluster.attach(network, timeout_seconds=30)
        if not stays:
            await cluster.detach(network, timeout_seconds=30, force=True)

    async def join_late(cluster: Fleet, number: int) -> None:
        agents.append(await join(cluster, number))

    async def readdress(agent: ScriptedAgent) -> None:
        agent.host = await fleet.client.host.update(uuid=agent.uuid, tunnel_ip=f"192.0.2.1{end_of(agent)[-1]}")

    async with fleet.place.running("manager"):
        work: list[Awaitable[Any]] = [
            plug(),
            readdress(agents[1]),
            readdress(agents[2]),
            fleet.client.host.delete(uuid=gone.uuid),
        ]
        work += [attach_and_detach(fleet, network, stays=True) for network in networks[1:]]
        work += [attach_and_detach(other, network, stays=network is not networks[3]) for network in networks]
        work += [join_late(cluster, number) for cluster, number in ((fleet, 5), (other, 6), (other, 7), (fleet, 8))]
        rng.shuffle(work)
        await asyncio.gather(*work)
        agents.remove(gone)
        for network in networks:
            members = [a for a in agents if a in fleet.agents or network is not networks[3]]
            for agent in members:
                await knows(agent, network, *(peer for peer in members if peer is not agent))
            assert all(
                len(peer.nics) == (20 if peer.host_uuid == agents[0].uuid and network is networks[0] else 0)
                for agent in members
                for peer in known_to(agent, network).values()
            )
        await quiet(*agents)
    await eventually(
        lambda: database.fetchval(
            "SELECT count(*) FROM realization WHERE state <> 'realized' OR generation <> observed_generation"
            " AND host_uuid = ANY($1)",
            [agent.uuid for agent in agents],
        ),
        lambda count: count == 0,
    )
