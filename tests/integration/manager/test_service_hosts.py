"""Hosts and their services: away and back, restarted, moved, removed; managers that die; messages that are lost."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest
from integration.manager.beacon_provider import BEACON
from integration.manager.beacons import Services, beacon
from integration.manager.control_plane import Place
from integration.manager.eventually import eventually
from integration.manager.scripted_agent import REFUSED, SYNC, ScriptedAgent
from integration.manager.scripted_services import APPLY, CHECK_SERVICES, REMOVE, SYNC_SERVICES
from integration.manager.vms import Vms

from local_stack.service import Service
from viaduct_common.errors import DeadlineExceeded, InUse, InvalidRequest, PreconditionFailed
from viaduct_common.messages.services.commands import ServiceDesired, ServiceDrift
from viaduct_manager.network_services.api import ServiceKey


@pytest.fixture(scope="module")
async def manager(place: Place, beacons: Path) -> AsyncIterator[Service]:
    async with place.running("manager", PYTHONPATH=str(beacons)) as service:
        yield service


@pytest.fixture
async def second(place: Place, manager: Service, beacons: Path) -> AsyncIterator[Service]:
    async with place.running("manager", PYTHONPATH=str(beacons)) as service:
        yield service


@pytest.fixture
async def services(vms: Vms) -> Services:
    return Services(vms)


async def configure(services: Services, l3: UUID, text: str) -> None:
    await services.client.l3.configure_service(l3_network_uuid=l3, service_type="Beacon", config={"text": text})


async def shows(agent: ScriptedAgent, l3: UUID, text: str | None) -> None:
    async def seen() -> Any:
        held = beacon(agent, l3)
        return None if held is None else held["text"]

    await eventually(seen, lambda now: now == text)


async def test_host_that_was_away_is_told_what_changed(services: Services) -> None:
    agent = await services.vms.fleet.join()
    l3 = await services.served_l3(text="old")
    await services.vms.prepare(uuid4(), agent, [l3])
    await services.vms.lose(agent)
    await configure(services, l3, "new")
    [row] = await services.settle(l3)  # not waited for
    assert (row.state, beacon(agent, l3)["text"]) == ("pending", "old")
    agent.beat_on()
    await shows(agent, l3, "new")
    assert await agent.hears(SYNC_SERVICES)


async def test_removal_from_a_host_that_is_away_is_remembered(services: Services) -> None:
    agent = await services.vms.fleet.join()
    l3, vm = await services.served_l3(), uuid4()
    await services.vms.prepare(vm, agent, [l3])
    await services.vms.lose(agent)
    await services.vms.release(vm)
    rows = await eventually(
        lambda: services.rows(subject_uuid=l3), lambda rows: [row.desired for row in rows] == ["absent"]
    )
    assert (rows[0].state, beacon(agent, l3) is None) == ("removing", False)
    agent.beat_on()
    await services.gone(l3)
    assert beacon(agent, l3) is None


async def test_agent_that_restarted_with_nothing_gets_all_back(services: Services) -> None:
    agent = await services.vms.fleet.join()
    l3 = await services.served_l3(text="kept")
    await services.vms.prepare(uuid4(), agent, [l3])
    agent.services.held.clear()
    await agent.hello()
    await shows(agent, l3, "kept")


async def test_digest_heals_what_was_lost_and_what_is_too_much(services: Services) -> None:
    agent = await services.vms.fleet.join()
    l3 = await services.served_l3(text="here")
    await services.vms.prepare(uuid4(), agent, [l3])
    stranger = uuid4()
    agent.services.held.clear()
    agent.services.held[stranger] = ServiceDesired(service_uuid=stranger, kind=BEACON, generation=1)
    await shows(agent, l3, "here")
    assert stranger not in agent.services.held


async def test_equal_digest_stands_for_a_lost_completion(services: Services) -> None:
    agent = await services.vms.fleet.join()
    l3 = await services.served_l3()
    await services.vms.prepare(uuid4(), agent, [l3])
    agent.mute = True
    await configure(services, l3, "unheard")
    [row] = await services.settle(l3)
    assert (row.state, beacon(agent, l3)["text"]) == ("applied", "unheard")


async def test_old_generation_never_wins(services: Services) -> None:
    """A completion that comes late, or twice, says nothing of what was ordered since."""
    agent = await services.vms.fleet.join(doubled={APPLY})
    l3 = await services.served_l3(text="one")
    await services.vms.prepare(uuid4(), agent, [l3])
    late = await agent.hears(APPLY)
    agent.silent = {APPLY, SYNC_SERVICES}
    await configure(services, l3, "two")
    order = await agent.hears(APPLY, lambda heard: heard.services[0].spec["text"] == "two")
    await agent.say(agent._answer(late))
    agent.errors = {APPLY: REFUSED}
    await agent.say(agent._answer(late))
    agent.errors = {}
    with pytest.raises(DeadlineExceeded):
        await services.settle(l3, timeout_seconds=1)
    [row] = await services.rows(subject_uuid=l3)
    assert (row.state, row.generation) == ("applying", order.services[0].generation)
    await agent.say(agent._answer(order))
    [row] = await services.settle(l3)
    assert row.state == "applied"


async def test_failure_that_may_pass_is_tried_again_and_another_is_not(services: Services) -> None:
    agent = await services.vms.fleet.join()
    l3 = await services.served_l3()
    await services.vms.prepare(uuid4(), agent, [l3])
    agent.errors = {APPLY: PreconditionFailed("the bridge is not there yet")}
    await configure(services, l3, "soon")
    [row] = await services.settle(l3)
    assert row.error is not None
    assert (row.state, row.error.code) == ("failed", "PRECONDITION_FAILED")
    agent.errors = {}
    await shows(agent, l3, "soon")

    agent.errors = {APPLY: InvalidRequest("never")}
    await configure(services, l3, "never")
    await services.settle(l3)
    tries = agent.types().count(APPLY)
    await asyncio.sleep(3)  # longer than the first pause
    assert agent.types().count(APPLY) == tries
    await configure(services, l3, "again")
    await agent.hears(APPLY, lambda heard: heard.services[0].spec["text"] == "again")


async def test_drift_that_could_not_be_repaired_is_a_failure_that_is_tried_again(services: Services) -> None:
    agent = await services.vms.fleet.join()
    l3 = await services.served_l3()
    await services.vms.prepare(uuid4(), agent, [l3])
    [row] = await services.rows(subject_uuid=l3)
    drift = ServiceDrift(
        host_uuid=agent.uuid,
        session_id=agent.session_id,
        service_uuid=row.service_uuid,
        generation=row.generation,
        differences=[],
        repaired=False,
        error=REFUSED.to_body(),
    )
    await agent.say(drift)
    await eventually(lambda: services.rows(subject_uuid=l3), lambda rows: rows[0].state == "failed")
    await eventually(lambda: services.rows(subject_uuid=l3), lambda rows: rows[0].state == "applied")


async def test_host_that_is_removed_gives_up_services_before_networks(services: Services) -> None:
    agent = await services.vms.fleet.join(silent={REMOVE})
    l3, vm = await services.served_l3(), uuid4()
    await services.vms.prepare(vm, agent, [l3])
    await services.vms.release(vm)
    await agent.hears(REMOVE)
    await services.client.host.delete(uuid=agent.uuid, timeout_seconds=15)
    told = [kind for kind in agent.types() if kind in {SYNC, SYNC_SERVICES}]
    assert told[-2:] == [SYNC_SERVICES, SYNC]
    assert (agent.services.held, agent.held) == ({}, {})
    await services.gone(l3)


async def test_maintenance_puts_off_what_a_host_is_told(services: Services) -> None:
    agent = await services.vms.fleet.join()
    l3 = await services.served_l3()
    await services.vms.prepare(uuid4(), agent, [l3])
    await services.client.host.set_maintenance(uuid=agent.uuid, maintenance=True)
    await configure(services, l3, "later")
    [row] = await services.settle(l3)
    assert row.state == "pending"
    await services.client.host.set_maintenance(uuid=agent.uuid, maintenance=False)
    await shows(agent, l3, "later")


async def test_network_is_not_detached_from_under_a_service(services: Services) -> None:
    agent = await services.vms.fleet.join(silent={REMOVE})
    l2 = await services.vms.attached_l2()
    l3, vm = await services.vms.l3(l2), uuid4()
    await services.attach(l3)
    await services.vms.prepare(vm, agent, [l3])
    await services.vms.release(vm)
    await agent.hears(REMOVE)
    with pytest.raises(InUse) as refusal:
        await services.vms.fleet.detach(l2)
    assert refusal.value.details["serviceUuids"] == [str(ServiceKey(BEACON, l3).uuid)]
    assert refusal.value.retryable  # they are on their way out
    await services.vms.fleet.detach(l2, force=True)


async def test_lighthouse_moves_when_its_host_is_lost(services: Services) -> None:
    agents = sorted([await services.vms.fleet.join(), await services.vms.fleet.join()], key=lambda one: one.uuid)
    l3 = await services.served_l3(lighthouse=True)
    for agent in agents:
        await services.vms.prepare(uuid4(), agent, [l3])
    filters = {"subject_uuid": l3, "kind": "lighthouse"}
    assert [row.host_uuid for row in await services.rows(**filters)] == [agents[0].uuid]
    before = next(iter(one.spec for one in agents[0].services.held.values() if "ip" in one.spec))
    await agents[0].fall_silent()
    await eventually(
        lambda: services.rows(**filters, state="applied"),
        lambda rows: [row.host_uuid for row in rows] == [agents[1].uuid],
    )
    after = next(iter(one.spec for one in agents[1].services.held.values() if "ip" in one.spec))
    assert after == before
    agents[0].beat_on()


async def test_check_compares_and_changes_nothing(services: Services) -> None:
    agent, away = await services.vms.fleet.join(), await services.vms.fleet.join()
    l3 = await services.served_l3()
    for one in (agent, away):
        await services.vms.prepare(uuid4(), one, [l3])
    await services.vms.lose(away)
    await services.settle(l3)

    async def statuses(**which: Any) -> dict[UUID, tuple[str, list[str]]]:
        checks = await services.client.service.check(**which, timeout_seconds=10)
        return {one.host_uuid: (one.status, one.steps) for one in checks}

    assert await statuses(subject_uuid=l3) == {agent.uuid: ("ok", []), away.uuid: ("unreachable", [])}
    [key] = agent.services.held
    held = agent.services.held.copy()
    agent.silent = {APPLY, SYNC_SERVICES}
    agent.services.held[key] = held[key].model_copy(update={"spec": {}})
    assert await statuses(service_uuid=key, host_uuid=agent.uuid) == {agent.uuid: ("drifted", ["apply beacon"])}
    agent.services.held.clear()
    assert await statuses(host_uuid=agent.uuid) == {agent.uuid: ("missing", ["apply beacon"])}
    assert agent.services.held == {}
    agent.errors = {CHECK_SERVICES: REFUSED}
    assert await statuses(host_uuid=agent.uuid) == {agent.uuid: ("failed", [])}
    assert await statuses(host_uuid=uuid4()) == {}
    with pytest.raises(InvalidRequest):
        await services.client.service.check()


async def test_await_is_answered_in_time_or_not_at_all(services: Services) -> None:
    agent = await services.vms.fleet.join()
    l3 = await services.served_l3()
    await services.vms.prepare(uuid4(), agent, [l3])
    agent.silent = {APPLY, SYNC_SERVICES}
    await configure(services, l3, "slow")
    with pytest.raises(DeadlineExceeded):
        await services.settle(l3, timeout_seconds=1)
    waiting = asyncio.create_task(services.settle(l3))
    order = await agent.hears(APPLY, lambda heard: heard.services[0].spec["text"] == "slow")
    await agent.say(agent._answer(order))
    assert [row.state for row in await waiting] == ["applied"]
    assert await services.settle(uuid4()) == []


async def test_two_managers_tell_hosts_the_same(services: Services, second: Service) -> None:
    """Of a crowd of changes at both at once every host has what was last, and no address is lost."""
    agents = [await services.vms.fleet.join() for _ in range(3)]
    l3s = [await services.served_l3(lighthouse=True) for _ in range(3)]

    async def churn(l3: UUID, agent: ScriptedAgent, rounds: int) -> None:
        for number in range(rounds):
            vm = uuid4()
            await services.vms.prepare(vm, agent, [l3], timeout_seconds=30)
            await configure_light(services, l3, f"{agent.uuid} {number}")
            if number % 2:
                await services.vms.release(vm, timeout_seconds=30)

    await asyncio.gather(*(churn(l3, agent, 4) for l3 in l3s for agent in agents))
    for l3 in l3s:
        await services.settle(l3)
        nics = await services.vms.nics(l3_network_uuid=l3)
        config = (await services.client.l3.get(uuid=l3)).services[0].config
        for agent in agents:
            expected = {str(nic.uuid) for nic in nics if nic.host_uuid == agent.uuid}
            assert set(beacon(agent, l3)["nics"]) == expected
            assert beacon(agent, l3)["text"] == config["text"]
        [light] = await services.rows(subject_uuid=l3, kind="lighthouse")
        owners = {str(nic.uuid) for nic in nics} | {str(light.service_uuid)}
        assert set((await services.vms.used(l3)).values()) == owners


async def configure_light(services: Services, l3: UUID, text: str) -> None:
    config = {"text": text, "lighthouse": True}
    await services.client.l3.configure_service(l3_network_uuid=l3, service_type="Beacon", config=config)


async def test_manager_that_is_killed_leaves_nothing_untold(services: Services, manager: Service) -> None:
    """Whatever it was at: what it had committed is made so by the next."""
    agent = await services.vms.fleet.join()
    l3 = await services.served_l3(lighthouse=True)
    vms = [uuid4() for _ in range(6)]
    preparing = [asyncio.create_task(services.vms.prepare(vm, agent, [l3], timeout_seconds=60)) for vm in vms]
    await agent.hears(APPLY)
    await asyncio.to_thread(manager.kill)
    await asyncio.to_thread(manager.start)
    given = [nic for nics in await asyncio.gather(*preparing) for nic in nics]
    await services.settle(l3)
    assert set(beacon(agent, l3)["nics"]) == {str(nic.uuid) for nic in given}
    [light] = await services.rows(subject_uuid=l3, kind="lighthouse")
    assert set((await services.vms.used(l3)).values()) == {str(nic.uuid) for nic in given} | {str(light.service_uuid)}


async def test_attaching_and_vms_that_come_and_go_at_once_miss_each_other_never(
    services: Services, second: Service
) -> None:
    """Whatever order they are committed in: hosts end up with what is attached, for the NICs that are there."""
    agents = [await services.vms.fleet.join() for _ in range(2)]
    l3 = await services.vms.l3(await services.vms.attached_l2())
    chance = Random(20)

    async def come_and_go(agent: ScriptedAgent, rounds: int) -> None:
        for number in range(rounds):
            vm = uuid4()
            await services.vms.prepare(vm, agent, [l3], timeout_seconds=30)
            if number % 3 == 1:
                await services.vms.migrate(vm, agents[agent is agents[0]], timeout_seconds=30)
            if number % 3:
                await services.vms.release(vm, timeout_seconds=30)

    async def attach_and_detach(rounds: int) -> None:
        for number in range(rounds):
            await asyncio.sleep(chance.random() * 0.1)
            await (services.detach(l3) if number % 2 else services.attach(l3, text=str(number)))

    await asyncio.gather(*(come_and_go(agent, 6) for agent in agents for _ in range(2)), attach_and_detach(21))
    await services.settle(l3)
    there = await services.vms.nics(l3_network_uuid=l3)
    for agent in agents:
        expected = {str(nic.uuid) for nic in there if nic.host_uuid == agent.uuid}
        has = beacon(agent, l3)
        assert (set(has["nics"]) if has else set()) == expected
    await services.detach(l3)
    await services.gone(l3)
    assert [agent.services.held for agent in agents] == [{}, {}]


async def test_provider_that_is_new_is_associated_with_the_networks_that_there_are(
    place: Place, manager: Service, services: Services
) -> None:
    """As if its plugin was not installed when they were made; and it is not asked again at the next start."""
    light = await services.vms.fleet.network()
    dark = await services.vms.fleet.network(name="dark")
    forget = "DELETE FROM l2_service_provider; DELETE FROM l3_service; DELETE FROM service_provider;"
    await asyncio.to_thread(manager.stop)
    await asyncio.to_thread(place.sql, forget)
    await asyncio.to_thread(manager.start)
    filters = {"name": "Beacons"}

    async def associated() -> set[UUID]:
        [one] = (await services.client.service_provider.query(filters=filters)).items
        return set(one.attached_l2_network_uuids)

    there = await associated()
    assert light.uuid in there
    assert dark.uuid not in there
    await asyncio.to_thread(place.sql, f"DELETE FROM l2_service_provider WHERE l2_uuid = '{light.uuid}'")
    await asyncio.to_thread(manager.stop)
    await asyncio.to_thread(manager.start)
    assert await associated() == there - {light.uuid}


async def test_removal_that_fails_keeps_nobody_waiting_and_is_tried_again(services: Services) -> None:
    stuck, other = await services.vms.fleet.join(), await services.vms.fleet.join()
    l3, vm = await services.served_l3(), uuid4()
    await services.vms.prepare(vm, stuck, [l3])
    stuck.errors = {REMOVE: REFUSED}
    await services.vms.release(vm)
    rows = await eventually(lambda: services.rows(subject_uuid=l3), lambda rows: rows[0].error is not None)
    assert [(row.desired, row.state) for row in rows] == [("absent", "removing")]
    [nic] = await services.vms.prepare(uuid4(), other, [l3])
    assert beacon(other, l3)["nics"] == [str(nic.uuid)]
    stuck.errors = {}
    await eventually(lambda: services.rows(subject_uuid=l3, host_uuid=stuck.uuid), lambda rows: rows == [])
    assert beacon(stuck, l3) is None


async def test_ipam_that_is_away_keeps_only_those_waiting_that_need_it(services: Services, ipam: Service) -> None:
    agent = await services.vms.fleet.join()
    plain = await services.served_l3()
    others = [await services.served_l3() for _ in range(8)]
    for l3 in (plain, *others):
        await services.vms.prepare(uuid4(), agent, [l3])
    await asyncio.to_thread(ipam.kill)
    try:
        for l3 in others:
            await configure_light(services, l3, "bright")
        await configure(services, plain, "as ever")
        await shows(agent, plain, "as ever")
        for l3 in others:  # of the two instances of each one needs no address
            await shows(agent, l3, "bright")
    finally:
        await asyncio.to_thread(ipam.start)
    filters = {"subject_uuid": others, "kind": "lighthouse"}
    await eventually(lambda: services.rows(**filters), lambda rows: len(rows) == len(others), seconds=30)
    assert {row.state for row in await services.rows(**filters)} <= {"applying", "applied"}


async def test_host_that_is_removed_while_it_is_away_keeps_no_address(services: Services) -> None:
    agent = await services.vms.fleet.join()
    l3, vm = await services.served_l3(lighthouse=True), uuid4()
    await services.vms.prepare(vm, agent, [l3])
    await services.vms.lose(agent)
    await services.vms.release(vm)
    await services.client.host.delete(uuid=agent.uuid, timeout_seconds=10)
    await services.gone(l3)
    await eventually(lambda: services.vms.used(l3), lambda used: used == {})
