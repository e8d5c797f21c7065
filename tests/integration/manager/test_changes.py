"""VLAN and MTU of attached networks: all hosts follow, or the network stays as it was."""

import asyncio
import base64
import json
from typing import Any
from uuid import uuid4

import pytest
from integration.manager.conftest import Fleet, eventually
from integration.manager.scripted_agent import CHECK, REALIZE, REFUSED, SYNC, Heard, ScriptedAgent

from local_stack.service import Service
from viaduct_common.errors import (
    BackendFailed,
    Conflict,
    DeadlineExceeded,
    InUse,
    InvalidRequest,
    L2Conflict,
    NotFound,
    PreconditionFailed,
)
from viaduct_common.messages.l2 import L2NetworkInventory
from viaduct_common.postgres.pool import open_pool, transaction
from viaduct_manager.store import hosts, realizations


async def change_vlan(fleet: Fleet, network: L2NetworkInventory, vlan: int, **options: Any) -> Any:
    return await fleet.client.l2.change_vlan(
        l2_network_uuid=network.uuid, vlan=vlan, **{"timeout_seconds": 15, **options}
    )


async def change_mtu(fleet: Fleet, network: L2NetworkInventory, mtu: int, **options: Any) -> Any:
    return await fleet.client.l2.change_mtu(l2_network_uuid=network.uuid, mtu=mtu, **{"timeout_seconds": 15, **options})


def of_vlan(network: L2NetworkInventory, vlan: int) -> Any:
    """Matches a command that makes the network one of this VLAN."""

    def matches(heard: Heard) -> bool:
        return any(
            item.l2_network.uuid == network.uuid and item.l2_network.own_fields()["vlan"] == vlan
            for item in heard.items
        )

    return matches


async def told(fleet: Fleet, network: L2NetworkInventory) -> tuple[int, list[str]]:
    """VLAN and device names that the manager says."""
    now = await fleet.client.l2.get(uuid=network.uuid)
    return now.own_fields()["vlan"], now.device_names


def vlans(agent: ScriptedAgent, network: L2NetworkInventory) -> list[int]:
    """Of the network, in the order in which the agent was told to make it so."""
    return [
        item.l2_network.own_fields()["vlan"]
        for heard in agent.heard
        if heard.type in {REALIZE, SYNC}
        for item in heard.items
        if item.l2_network.uuid == network.uuid
    ]


def claims(fleet: Fleet, network: L2NetworkInventory) -> set[str]:
    names = fleet.place.sql(f"SELECT DISTINCT device_name FROM attachment_name WHERE l2_uuid = '{network.uuid}'")
    keys = fleet.place.sql(f"SELECT DISTINCT conflict_key FROM attachment WHERE l2_uuid = '{network.uuid}'")
    return {line.strip() for line in f"{names}\n{keys}".splitlines() if "eth1" in line}


async def everywhere(fleet: Fleet, network: L2NetworkInventory) -> ScriptedAgent:
    """Attach it to the fleet's cluster and to another one with a host of its own; that host's agent."""
    first = fleet.cluster_uuid
    other = await fleet.client.cluster.create(zone_uuid=fleet.zone_uuid, name="other")
    fleet.cluster_uuid = other.uuid
    agent = await fleet.join()
    await fleet.attach(network)
    fleet.cluster_uuid = first
    await fleet.attach(network)
    return agent


async def test_vlan_changes_on_the_hosts_of_all_clusters(fleet: Fleet) -> None:
    """All are asked first, then all do it; bridges keep their names, and the old place is free for others."""
    near = await fleet.join()
    network = await fleet.network(vlan=500)
    far = await everywhere(fleet, network)
    before = {agent.uuid: agent.held[network.uuid] for agent in (near, far)}
    operation = await change_vlan(fleet, network, 501)

    assert (operation.type, operation.state, operation.cluster_uuid) == ("l2.changeVlan", "succeeded", None)
    assert {(step.host_uuid, step.phase, step.state) for step in operation.steps} == {
        (agent.uuid, phase, "done") for agent in (near, far) for phase in ("preflight", "realize")
    }
    assert await told(fleet, network) == (501, ["br_eth1_500", "eth1.501"])
    for agent in (near, far):
        check = [one for one in agent.heard if one.type == CHECK][-1]
        assert of_vlan(network, 501)(check)
        assert vlans(agent, network) == [500, 501]
        assert agent.held[network.uuid] > before[agent.uuid]
        assert agent.heard[-1].items[0].l2_network.bridge_name == "br_eth1_500"
    assert await fleet.states(network) == ["realized", "realized"]
    assert claims(fleet, network) == {"br_eth1_500", "eth1.501", "vlan/eth1/501"}
    later = await fleet.join()
    assert vlans(later, network) == [] or vlans(later, network)[-1] == 501
    await fleet.settles(network, "realized", "realized", "realized")


async def test_mtu_changes_on_all_hosts(fleet: Fleet) -> None:
    """Names and claims stay."""
    agent = await fleet.join()
    network = await fleet.network(vlan=510)
    await fleet.attach(network)
    operation = await change_mtu(fleet, network, 9000)
    assert (operation.type, operation.state) == ("l2.changeMtu", "succeeded")
    assert agent.heard[-1].items[0].l2_network.mtu == 9000
    assert (await fleet.client.l2.get(uuid=network.uuid)).mtu == 9000
    assert claims(fleet, network) == {"br_eth1_510", "eth1.510", "vlan/eth1/510"}


async def test_host_that_could_not_do_it_stops_it_before_any_is_told(fleet: Fleet) -> None:
    """The network, its claims and its generations are as before."""
    good, bad = await fleet.join(), await fleet.join()
    network = await fleet.network(vlan=520)
    await fleet.attach(network)
    held = [dict(good.held), dict(bad.held)]
    bad.errors[CHECK] = PreconditionFailed("MTU 9000 does not fit eth1", device="eth1")
    with pytest.raises(PreconditionFailed) as refusal:
        await change_vlan(fleet, network, 521)
    with pytest.raises(PreconditionFailed):
        await change_mtu(fleet, network, 9000)

    assert refusal.value.details["hostUuid"] == str(bad.uuid)
    assert vlans(good, network) == vlans(bad, network) == [520]
    assert [good.held, bad.held] == held
    now = await fleet.client.l2.get(uuid=network.uuid)
    assert (now.mtu, now.revision) == (network.mtu, network.revision)
    assert claims(fleet, network) == {"br_eth1_520", "eth1.520", "vlan/eth1/520"}
    bad.errors.clear()
    assert (await change_vlan(fleet, network, 521)).state == "succeeded"


async def test_host_that_fails_takes_all_back(fleet: Fleet) -> None:
    """Also those that had done it; the error is the host's, and the new place is free again."""
    good, bad = await fleet.join(), await fleet.join()
    network, rival = await fleet.network(vlan=530), await fleet.network(vlan=531)
    await fleet.attach(network)
    bad.silent, bad.errors = {REALIZE}, {REALIZE: REFUSED}
    change = asyncio.create_task(change_vlan(fleet, network, 531))
    refused = bad.do(await bad.hears(REALIZE, of_vlan(network, 531)))
    bad.silent, bad.errors = set(), {}
    await bad.say(refused)
    with pytest.raises(BackendFailed) as refusal:
        await change

    details = refusal.value.details
    assert details["hostUuid"] == str(bad.uuid)
    steps = {(step["hostUuid"], step["phase"]): step["state"] for step in details["operation"]["steps"]}
    assert (steps[str(bad.uuid), "realize"], steps[str(good.uuid), "rollback"]) == ("failed", "done")
    assert vlans(good, network) == vlans(bad, network) == [530, 531, 530]
    assert await told(fleet, network) == (530, ["br_eth1_530", "eth1.530"])
    assert await fleet.states(network) == ["realized", "realized"]
    assert claims(fleet, network) == {"br_eth1_530", "eth1.530", "vlan/eth1/530"}
    await fleet.attach(rival)


async def test_silent_host_takes_all_back_at_the_deadline(fleet: Fleet) -> None:
    """The rollback has time of its own, and does not wait for ever either."""
    good, silent = await fleet.join(), await fleet.join()
    network = await fleet.network(vlan=540)
    await fleet.attach(network)
    silent.silent = {REALIZE, SYNC}
    with pytest.raises(DeadlineExceeded):
        await change_vlan(fleet, network, 541, timeout_seconds=1)
    assert vlans(good, network) == [540, 541, 540]
    assert await told(fleet, network) == (540, ["br_eth1_540", "eth1.540"])
    silent.silent.clear()
    await fleet.settles(network, "realized", "realized")
    assert silent.held[network.uuid] == (await fleet.rows(network))[silent.uuid].generation


async def test_hosts_that_are_away_block_nothing_and_converge_when_they_return(fleet: Fleet) -> None:
    """Disconnected, in maintenance, or lost meanwhile."""
    away, resting, lost = await fleet.join(), await fleet.join(), await fleet.join()
    network = await fleet.network(vlan=550)
    await fleet.attach(network)
    await fleet.lose(away)
    await fleet.client.host.set_maintenance(uuid=resting.uuid, maintenance=True)
    lost.silent = {REALIZE}
    change = asyncio.create_task(change_vlan(fleet, network, 551, timeout_seconds=60))
    await lost.hears(REALIZE, of_vlan(network, 551))
    await fleet.lose(lost)

    assert (await change).state == "succeeded"
    assert vlans(away, network) == vlans(resting, network) == [550]
    assert await fleet.states(network) == ["pending", "pending", "realizing"]
    lost.silent.clear()
    await fleet.client.host.set_maintenance(uuid=resting.uuid, maintenance=False)
    for agent in (away, lost):
        await agent.hello()
        agent.beat_on()
    await fleet.settles(network, "realized", "realized", "realized")
    assert [vlans(agent, network)[-1] for agent in (away, resting, lost)] == [551, 551, 551]


async def test_place_of_another_network_is_refused_before_anybody_is_asked(fleet: Fleet) -> None:
    """By interface and tag, or by a name; on any of its clusters."""
    agent = await fleet.join()
    network, rival = await fleet.network(vlan=560), await fleet.network(vlan=561)
    await everywhere(fleet, network)
    await fleet.attach(rival)
    heard = len(agent.heard)
    with pytest.raises(L2Conflict) as refusal:
        await change_vlan(fleet, network, 561)

    assert refusal.value.details["l2NetworkUuid"] == str(rival.uuid)
    assert len(agent.heard) == heard
    assert claims(fleet, network) == {"br_eth1_560", "eth1.560", "vlan/eth1/560"}
    await change_vlan(fleet, rival, 562)
    heir = await fleet.network(vlan=561)
    with pytest.raises(L2Conflict) as taken:
        await fleet.attach(heir)
    assert taken.value.details["about"] == "device name br_eth1_561"
    await change_vlan(fleet, network, 561)


async def test_while_a_change_runs_both_places_are_its_own_and_nothing_else_begins(fleet: Fleet) -> None:
    """Whoever wants either place is refused until it has ended."""
    agent = await fleet.join()
    network = await fleet.network(vlan=570)
    await fleet.attach(network)
    other = await fleet.client.cluster.create(zone_uuid=fleet.zone_uuid, name="other")
    agent.silent = {REALIZE}
    change = asyncio.create_task(change_vlan(fleet, network, 571))
    realize = await agent.hears(REALIZE, of_vlan(network, 571))
    for request in (
        change_mtu(fleet, network, 9000),
        change_vlan(fleet, network, 571),
        fleet.detach(network),
        fleet.client.l2.attach(l2_network_uuid=network.uuid, cluster_uuid=other.uuid),
    ):
        with pytest.raises(Conflict) as refusal:
            await request
        assert refusal.value.details["operationUuid"] == realize.correlation_id
    for vlan in (570, 571):
        rival = await fleet.network(vlan=vlan)
        with pytest.raises(L2Conflict) as conflict:
            await fleet.attach(rival)
        assert conflict.value.details["l2NetworkUuid"] == str(network.uuid)
    await agent.say(agent.do(realize))
    assert (await change).state == "succeeded"
    agent.silent.clear()
    assert (await fleet.detach(network)).state == "succeeded"


async def test_change_during_an_attach_is_refused(fleet: Fleet) -> None:
    """One after the other."""
    agent = await fleet.join(silent={REALIZE})
    network = await fleet.network(vlan=580)
    attach = asyncio.create_task(fleet.attach(network))
    realize = await agent.hears(REALIZE)
    with pytest.raises(Conflict):
        await change_vlan(fleet, network, 581)
    await agent.say(agent.do(realize))
    await attach


async def test_of_two_changes_to_one_place_one_gets_it(fleet: Fleet) -> None:
    """The constraints decide; the other is refused, and neither is left with half of it."""
    await fleet.join()
    first, second = await fleet.network(vlan=590), await fleet.network(vlan=591)
    for network in (first, second):
        await fleet.attach(network)
    outcomes = await asyncio.gather(
        change_vlan(fleet, first, 592), change_vlan(fleet, second, 592), return_exceptions=True
    )
    assert sorted(type(one).__name__ for one in outcomes) == ["L2Conflict", "OperationInventory"]
    assert [(await told(fleet, one))[0] for one in (first, second)].count(592) == 1


async def test_host_that_joins_during_a_change_that_fails_ends_with_the_old_values(fleet: Fleet) -> None:
    """It was told the new ones; the undoing reaches it, too."""
    first = await fleet.join()
    network = await fleet.network(vlan=600)
    await fleet.attach(network)
    first.silent = {REALIZE}
    change = asyncio.create_task(change_vlan(fleet, network, 601))
    realize = await first.hears(REALIZE, of_vlan(network, 601))
    late = await fleet.join()
    await late.hears(SYNC, of_vlan(network, 601))
    first.errors[REALIZE] = REFUSED
    await first.say(first.do(realize))
    first.errors.clear()
    first.silent.clear()
    with pytest.raises(BackendFailed):
        await change

    await fleet.settles(network, "realized", "realized")
    assert [vlans(agent, network)[-1] for agent in (first, late)] == [600, 600]


async def test_host_that_joins_at_the_very_moment_of_the_change_is_not_missed(fleet: Fleet) -> None:
    """Its hello has found out what its cluster has, and is not committed yet: the change waits for it."""
    first = await fleet.join()
    network = await fleet.network(vlan=605)
    await fleet.attach(network)
    first.silent = {CHECK}
    heard = len(first.heard)
    late = await fleet.enrol()
    change = asyncio.create_task(change_vlan(fleet, network, 606))
    check = await first.hears(CHECK, lambda one: one in first.heard[heard:])
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    async with open_pool(fleet.place.postgres_url(), "test") as pool:
        async with transaction(pool) as hello:
            await hosts.hold_cluster(hello, late.uuid)
            await realizations.desire_on_host(hello, late.uuid)
            told_first = await realizations.generations(hello, network.uuid, [late.uuid])
            await first.say(first.do(check))
            await eventually(lambda: asyncio.to_thread(fleet.place.sql, waiting), lambda seen: "0" not in seen.split())
        await change

    assert (await fleet.rows(network))[late.uuid].generation > told_first[late.uuid]


async def test_network_that_is_attached_nowhere_is_changed_at_once(fleet: Fleet) -> None:
    """And tells of it; the same value again is no change."""
    await fleet.place.api("PUT", "/queues/{vhost}/changes", {})
    await fleet.place.api("POST", "/bindings/{vhost}/e/viaduct.events/q/changes", {"routing_key": "l2.updated"})
    network = await fleet.network(vlan=610)
    for _ in range(2):
        operation = await change_vlan(fleet, network, 611)
        assert (operation.state, operation.steps) == ("succeeded", [])
        assert await told(fleet, network) == (611, ["br_eth1_610", "eth1.611"])
    await change_mtu(fleet, network, 1400)

    async def events() -> list[Any]:
        asked = {"count": 10, "ackmode": "ack_requeue_true", "encoding": "base64"}
        got = await fleet.place.api("POST", "/queues/{vhost}/changes/get", asked)
        return [json.loads(base64.b64decode(one["payload"])) for one in got]

    seen = await eventually(events, lambda got: len(got) >= 2)
    assert [(one["uuid"], one["vlan"], one["mtu"], one["revision"]) for one in seen] == [
        (str(network.uuid), 611, 1500, 2),
        (str(network.uuid), 611, 1400, 3),
    ]


async def test_what_cannot_be_changed_is_refused(fleet: Fleet) -> None:
    """No VLAN without one; no network that does not exist; no id that is reserved."""
    untagged = await fleet.client.l2.create(
        zone_uuid=fleet.zone_uuid, name="n", type="L2NoVlanNetwork", physical_interface="eth5"
    )
    with pytest.raises(InvalidRequest) as refusal:
        await change_vlan(fleet, untagged, 7)
    assert refusal.value.details["field"] == "l2NetworkUuid"
    with pytest.raises(InvalidRequest):
        await change_vlan(fleet, untagged, 4095)
    with pytest.raises(NotFound):
        await fleet.client.l2.change_mtu(l2_network_uuid=uuid4(), mtu=1500)
    assert (await change_mtu(fleet, untagged, 1400)).state == "succeeded"


async def test_vlan_that_nics_carry_as_their_tag_is_not_changed(fleet: Fleet) -> None:
    """A port of a VLAN-aware bridge is tagged by whoever plugged it in; one of a bridge of its own is not."""
    agent = await fleet.join()
    network = await fleet.network(vlan=615)
    await fleet.attach(network)
    nic = await fleet.plug(agent, network)
    assert (await change_vlan(fleet, network, 616)).state == "succeeded"
    aware = """UPDATE cluster SET backends = '{"L2VlanNetwork": "vlanAwareBridge"}' WHERE uuid = """
    fleet.place.sql(f"{aware} '{fleet.cluster_uuid}'")
    with pytest.raises(InUse) as refusal:
        await change_vlan(fleet, network, 617)
    assert refusal.value.details["nicUuids"] == [str(nic)]
    assert (await change_mtu(fleet, network, 1400)).state == "succeeded"


@pytest.mark.parametrize("fails", [False, True])
async def test_change_goes_on_after_the_manager_was_killed(fleet: Fleet, manager: Service, fails: bool) -> None:
    """To its end, or back to what it was before: that is not in memory only."""
    agent = await fleet.join()
    base = 620 + 10 * fails
    network = await fleet.network(vlan=base)
    await fleet.attach(network)
    agent.silent = {REALIZE}
    change = asyncio.create_task(change_vlan(fleet, network, base + 1, timeout_seconds=40))
    realize = await agent.hears(REALIZE, of_vlan(network, base + 1))
    await asyncio.to_thread(manager.kill)
    if fails:
        agent.errors[REALIZE] = REFUSED
    await agent.say(agent.do(realize))
    agent.errors.clear()
    if fails:
        agent.errors[SYNC] = REFUSED  # a heartbeat may bring one before the failure is heard: it fails no less
    agent.silent.clear()
    await asyncio.to_thread(manager.start)
    [outcome] = await asyncio.gather(change, return_exceptions=True)
    agent.errors.clear()

    assert isinstance(outcome, BackendFailed) == fails, outcome
    await fleet.settles(network, "realized")
    vlan = base if fails else base + 1
    assert await told(fleet, network) == (vlan, [f"br_eth1_{base}", f"eth1.{vlan}"])
    assert vlans(agent, network)[-1] == vlan
    assert claims(fleet, network) == {f"br_eth1_{base}", f"eth1.{vlan}", f"vlan/eth1/{vlan}"}


async def test_changes_among_joins_and_failures_end_with_every_host_of_one_mind(fleet: Fleet) -> None:
    """Whatever succeeded last is what all have."""
    agents = [await fleet.join() for _ in range(2)]
    network = await fleet.network(vlan=650)
    await fleet.attach(network)

    async def disturb() -> None:
        for turn in range(4):
            agents[turn % 2].errors[REALIZE] = REFUSED
            await asyncio.sleep(0.05)
            agents[turn % 2].errors.clear()

    async def change(vlan: int) -> Any:
        try:
            return await change_vlan(fleet, network, vlan)
        except (Conflict, BackendFailed) as error:
            return error

    outcomes, late, _ = await asyncio.gather(
        asyncio.gather(*(change(vlan) for vlan in range(651, 657))), fleet.join(), disturb()
    )
    agents.append(late)
    assert outcomes
    await fleet.settles(network, *["realized"] * 3)
    now = (await told(fleet, network))[0]
    assert [vlans(agent, network)[-1] for agent in agents] == [now] * 3
    rows = await fleet.rows(network)
    assert {agent.uuid: agent.held.get(network.uuid) for agent in agents} == {
        uuid: row.generation for uuid, row in rows.items()
    }
    assert claims(fleet, network) == {"br_eth1_650", f"eth1.{now}", f"vlan/eth1/{now}"}
