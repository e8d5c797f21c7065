"""Attach and detach with agents that answer well, badly, late, twice, or never."""

import asyncio
import random
import time
from uuid import uuid4

import pytest
from integration.manager.conftest import Fleet, eventually
from integration.manager.scripted_agent import CHECK, REALIZE, REFUSED, RELEASE, SYNC

from viaduct_common.errors import (
    AlreadyExists,
    BackendFailed,
    Conflict,
    DeadlineExceeded,
    InUse,
    PreconditionFailed,
)


async def test_attach_realizes_on_every_host(fleet: Fleet) -> None:
    """First every host says that it can, then all do it; the operation has a step for each."""
    for _ in range(3):
        await fleet.join()
    network = await fleet.network()
    operation = await fleet.attach(network)

    assert (operation.state, operation.phase) == ("succeeded", "ended")
    assert sorted((step.host_uuid, step.phase, step.state) for step in operation.steps) == sorted(
        (agent.uuid, phase, "done") for agent in fleet.agents for phase in ("preflight", "realize")
    )
    for agent in fleet.agents:
        assert agent.types() == [CHECK, REALIZE]
        assert set(agent.held) == {network.uuid}
        assert agent.heard[1].correlation_id == str(operation.uuid)
    rows = await fleet.rows(network)
    assert {(row.state, row.desired, row.observed_generation == row.generation) for row in rows.values()} == {
        ("realized", "present", True)
    }
    assert await fleet.attached(network)


async def test_one_failing_host_rolls_all_back(fleet: Fleet) -> None:
    """Those that succeeded are released, the attachment is gone, and the error is the host's with every step."""
    good, bad = await fleet.join(), await fleet.join(errors={REALIZE: REFUSED})
    network = await fleet.network()
    with pytest.raises(BackendFailed) as refusal:
        await fleet.attach(network)

    details = refusal.value.details
    assert (details["device"], details["errno"], details["hostUuid"]) == ("eth1.10", 19, str(bad.uuid))
    steps = {(step["hostUuid"], step["phase"]): step["state"] for step in details["operation"]["steps"]}
    assert steps[str(good.uuid), "realize"] == "done"
    assert steps[str(bad.uuid), "realize"] == "failed"
    assert steps[str(good.uuid), "rollback"] == "done"
    assert details["operation"]["state"] == "failed"
    assert good.types() == [CHECK, REALIZE, RELEASE]
    assert good.held == {}
    assert not await fleet.attached(network)
    await fleet.settles(network, "gone", "gone")
    bad.errors.clear()
    assert (await fleet.attach(network)).state == "succeeded"


async def test_host_that_could_not_do_it_stops_it_before_anything_is_changed(fleet: Fleet) -> None:
    """The pre-flight asks all before any is told."""
    lacking = PreconditionFailed("there is no eth1", device="eth1")
    good, bad = await fleet.join(), await fleet.join(errors={CHECK: lacking})
    network = await fleet.network()
    with pytest.raises(PreconditionFailed) as refusal:
        await fleet.attach(network)

    assert refusal.value.details["hostUuid"] == str(bad.uuid)
    assert [*good.types(), *bad.types()] == [CHECK, CHECK]
    assert not await fleet.attached(network)
    assert await fleet.rows(network) == {}


async def test_keep_leaves_what_succeeded_and_tries_the_rest_again(fleet: Fleet) -> None:
    """A transient failure is retried until it is gone; meanwhile the network is attached, but not whole."""
    _, bad = await fleet.join(), await fleet.join(errors={REALIZE: REFUSED})
    network = await fleet.network()
    with pytest.raises(BackendFailed):
        await fleet.attach(network, on_failure="keep")

    assert await fleet.attached(network)
    assert await fleet.states(network) == ["realized", "failed"]
    row = (await fleet.rows(network))[bad.uuid]
    assert row.error is not None
    assert row.error.code == "BACKEND_FAILED"
    with pytest.raises(AlreadyExists, match="degraded"):
        await fleet.attach(network)
    bad.errors.clear()
    await fleet.settles(network, "realized", "realized")
    tries = [one.generations for one in bad.heard if one.type == REALIZE]
    assert tries == sorted(tries)
    assert len({generation for [generation] in tries}) == len(tries) >= 2
    with pytest.raises(AlreadyExists, match="attached"):
        await fleet.attach(network)


async def test_permanent_failure_is_shown_and_not_repeated(fleet: Fleet) -> None:
    """What only a human can mend is not tried again by itself, but when the host says hello anew."""
    bad = await fleet.join(errors={REALIZE: PreconditionFailed("eth1 is managed by NetworkManager")})
    network = await fleet.network()
    with pytest.raises(PreconditionFailed):
        await fleet.attach(network, on_failure="keep")
    await asyncio.sleep(3.5)

    assert bad.types().count(REALIZE) == 1
    assert await fleet.states(network) == ["failed"]
    bad.errors.clear()
    await bad.hello()
    await fleet.settles(network, "realized")


async def test_silent_host_ends_the_attach_at_its_deadline(fleet: Fleet) -> None:
    """`TIMEOUT`, and the others are released."""
    good, _ = await fleet.join(), await fleet.join(silent={REALIZE, RELEASE, SYNC})
    network = await fleet.network()
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded) as refusal:
        await fleet.attach(network, timeout_seconds=2)
    took = time.monotonic() - started

    assert 2 <= took < 8
    assert "operation" in refusal.value.details  # the manager's word, not the client's patience
    assert good.held == {}
    assert not await fleet.attached(network)


@pytest.mark.parametrize("silent_at", [CHECK, REALIZE])
async def test_host_that_is_lost_meanwhile_blocks_no_longer_than_it_takes_to_miss_it(
    fleet: Fleet, silent_at: str
) -> None:
    """It is skipped; it gets the network when it returns."""
    _, lost = await fleet.join(), await fleet.join(silent={silent_at})
    network = await fleet.network()
    attach = asyncio.create_task(fleet.attach(network, timeout_seconds=60))
    await lost.hears(silent_at)
    await lost.fall_silent()
    operation = await attach

    assert {step.state for step in operation.steps if step.host_uuid == lost.uuid} >= {"skipped"}
    assert operation.state == "succeeded"
    lost.silent.clear()
    await lost.hello()
    lost.beat_on()
    await lost.hears(SYNC, lambda one: network.uuid in one.networks)
    await fleet.settles(network, "realized", "realized")


async def test_disconnected_host_does_not_block_and_is_told_at_its_hello(fleet: Fleet) -> None:
    """So does one that has never come."""
    await fleet.join()
    absent = await fleet.enrol()
    network = await fleet.network()
    operation = await fleet.attach(network)

    assert operation.state == "succeeded"
    assert await fleet.states(network) == ["realized", "pending"]
    assert absent.heard == []
    await absent.hello()
    absent.beat_on()
    sync = await absent.hears(SYNC)
    assert sync.networks == {network.uuid}
    await fleet.settles(network, "realized", "realized")


async def test_host_in_maintenance_gets_no_work_and_catches_up_after(fleet: Fleet) -> None:
    """Neither what is attached nor what is detached meanwhile."""
    _, resting = await fleet.join(), await fleet.join()
    old, new = await fleet.network(), await fleet.network()
    await fleet.attach(old)
    await fleet.client.host.set_maintenance(uuid=resting.uuid, maintenance=True)
    before = len(resting.heard)
    await fleet.attach(new)
    await fleet.detach(old)

    assert len(resting.heard) == before
    assert await fleet.states(new) == ["realized", "pending"]
    assert await fleet.states(old) == ["gone", "releasing"]
    await fleet.client.host.set_maintenance(uuid=resting.uuid, maintenance=False)
    await fleet.settles(new, "realized", "realized")
    await fleet.settles(old, "gone", "gone")
    assert set(resting.held) == {new.uuid}


async def test_maintenance_in_the_middle_of_an_attach_ends_the_wait(fleet: Fleet) -> None:
    """Who is put into maintenance blocks nobody."""
    _, slow = await fleet.join(), await fleet.join(silent={REALIZE})
    network = await fleet.network()
    attach = asyncio.create_task(fleet.attach(network, timeout_seconds=60))
    await slow.hears(REALIZE)
    await fleet.client.host.set_maintenance(uuid=slow.uuid, maintenance=True)

    assert (await attach).state == "succeeded"


async def test_host_that_joins_during_an_attach_is_not_missed(fleet: Fleet) -> None:
    """The intent is committed before any host is touched."""
    first, _ = await fleet.join(silent={CHECK}), await fleet.join()
    network = await fleet.network()
    attach = asyncio.create_task(fleet.attach(network))
    check = await first.hears(CHECK)
    late = await fleet.join()
    await late.hears(SYNC, lambda one: network.uuid in one.networks)
    await first.say(first.do(check))
    await attach

    await fleet.settles(network, *["realized"] * 3)
    assert set(late.held) == {network.uuid}


async def test_host_that_joined_during_an_attach_that_failed_is_cleaned(fleet: Fleet) -> None:
    """What nobody wants any more is released there too."""
    first, _ = await fleet.join(silent={CHECK}), await fleet.join()
    network = await fleet.network()
    attach = asyncio.create_task(fleet.attach(network))
    check = await first.hears(CHECK)
    late = await fleet.join()
    await late.hears(SYNC, lambda one: network.uuid in one.networks)
    first.errors[CHECK] = PreconditionFailed("no eth1")
    await first.say(first.do(check))
    with pytest.raises(PreconditionFailed):
        await attach

    await fleet.settles(network, *["gone"] * 3)
    assert late.held == {}


async def test_many_hosts_joining_during_many_attaches_miss_nothing(fleet: Fleet) -> None:
    """Whatever the order, every host ends with every network."""
    networks = [await fleet.network() for _ in range(6)]
    agents = [await fleet.enrol() for _ in range(4)]
    work = [*(fleet.attach(network) for network in networks), *(agent.hello() for agent in agents)]
    random.Random(1).shuffle(work)
    await asyncio.gather(*work)
    for agent in agents:
        agent.beat_on()

    for network in networks:
        await fleet.settles(network, *["realized"] * 4)
    assert all(set(agent.held) == {network.uuid for network in networks} for agent in agents)


async def test_slow_host_delays_no_other_hosts_commands(fleet: Fleet) -> None:
    """Two clusters' attaches go on side by side; a stuck host holds up its own only."""
    stuck = await fleet.join(silent={REALIZE})
    first, second = await fleet.network(), await fleet.network()
    held_up = asyncio.create_task(fleet.attach(first, timeout_seconds=60))
    await stuck.hears(REALIZE)
    other = await fleet.client.cluster.create(zone_uuid=fleet.zone_uuid, name="other")
    async with asyncio.timeout(3):
        await fleet.client.l2.attach(l2_network_uuid=second.uuid, cluster_uuid=other.uuid)
        await fleet.client.zone.create(name="quick")
    assert not held_up.done()
    await stuck.say(stuck.do(await stuck.hears(REALIZE)))
    assert (await held_up).state == "succeeded"


# ---- completions that come late, twice, or out of order ----------------------------------------------------------


async def test_doubled_completions_change_nothing(fleet: Fleet) -> None:
    """Every completion twice: each counts once."""
    for _ in range(2):
        await fleet.join(doubled={CHECK, REALIZE, RELEASE})
    network = await fleet.network()
    attached = await fleet.attach(network)
    detached = await fleet.detach(network)

    assert len(attached.steps) == len(detached.steps) == 4
    assert (attached.state, detached.state) == ("succeeded", "succeeded")
    await fleet.settles(network, "gone", "gone")
    assert (await fleet.attach(network)).state == "succeeded"
    assert await fleet.states(network) == ["realized", "realized"]


async def test_late_completion_of_an_older_generation_overwrites_nothing(fleet: Fleet) -> None:
    """Neither a late success nor a late failure, of what was ordered before."""
    agent = await fleet.join()
    network = await fleet.network()
    await fleet.attach(network)
    first = agent.do(await agent.hears(REALIZE))
    await fleet.detach(network)
    await fleet.attach(network)
    before = await fleet.rows(network)
    failed = first.items[0].model_copy(update={"outcome": "failed", "error": REFUSED.to_body()})
    agent.held[network.uuid] = before[agent.uuid].generation
    await agent.say(first)
    await agent.say(first.model_copy(update={"items": [failed]}))
    await agent.beat()
    await asyncio.sleep(0.5)

    assert await fleet.rows(network) == before


async def test_late_release_does_not_forget_what_was_attached_anew(fleet: Fleet) -> None:
    """The completion of a detach comes after the next attach."""
    agent = await fleet.join()
    network = await fleet.network()
    await fleet.attach(network)
    await fleet.detach(network)
    release = await agent.hears(RELEASE)
    await fleet.attach(network)
    held = dict(agent.held)
    late = agent.do(release)
    agent.held = held
    await agent.say(late)
    await asyncio.sleep(0.5)

    assert await fleet.states(network) == ["realized"]


async def test_completion_after_the_deadline_is_cleaned_up_after(fleet: Fleet) -> None:
    """The host did it too late: the network is released there, and the answer stays what it was."""
    late = await fleet.join(silent={REALIZE, SYNC})
    network = await fleet.network()
    with pytest.raises(DeadlineExceeded):
        await fleet.attach(network, timeout_seconds=1)
    late.silent = {REALIZE}
    await late.say(late.do(await late.hears(REALIZE)))

    await fleet.settles(network, "gone")
    await eventually(lambda: asyncio.sleep(0, late.held), lambda held: held == {})


async def test_lost_completions_are_settled_by_the_digest(fleet: Fleet) -> None:
    """The host did it, its answer got lost: its heartbeat proves it."""
    agent = await fleet.join()
    network = await fleet.network()
    agent.silent.add(REALIZE)
    attach = asyncio.create_task(fleet.attach(network, timeout_seconds=30))
    agent.do(await agent.hears(REALIZE))

    assert (await attach).state == "succeeded"
    assert await fleet.states(network) == ["realized"]
    agent.silent = {RELEASE}
    detach = asyncio.create_task(fleet.detach(network, timeout_seconds=30))
    agent.do(await agent.hears(RELEASE))
    assert (await detach).state == "succeeded"


async def test_heartbeat_that_differs_is_answered_with_a_sync(fleet: Fleet) -> None:
    """The host forgot what it had, or holds what nobody wants."""
    agent = await fleet.join()
    network = await fleet.network()
    await fleet.attach(network)
    await asyncio.sleep(1.2)
    agent.held = {uuid4(): 7}

    sync = await agent.hears(SYNC, lambda one: network.uuid in one.networks)
    assert len(sync.items) == 1
    await eventually(lambda: asyncio.sleep(0, set(agent.held)), lambda held: held == {network.uuid})
    seen = len(agent.heard)
    await asyncio.sleep(2.5)
    assert len(agent.heard) == seen  # content: told no more


# ---- detach ------------------------------------------------------------------------------------------------------


async def test_detach_releases_on_every_host(fleet: Fleet) -> None:
    """The mirror image of an attach."""
    for _ in range(2):
        await fleet.join()
    network = await fleet.network()
    await fleet.attach(network)
    operation = await fleet.detach(network)

    assert operation.state == "succeeded"
    assert [agent.types() for agent in fleet.agents] == [[CHECK, REALIZE, CHECK, RELEASE]] * 2
    assert [item.action for item in fleet.agents[0].heard[2].items] == ["release"]  # type: ignore[union-attr]
    assert not await fleet.attached(network)
    assert await fleet.rows(network) == {}
    await fleet.client.l2.delete(uuid=network.uuid)


async def test_detach_is_refused_while_a_host_uses_it_unless_forced(fleet: Fleet) -> None:
    """One host with a VM on it refuses in the pre-flight: nothing was changed anywhere."""
    taps = InUse("vnet0 is plugged into br_eth1_11", ports=["vnet0"])
    _, busy = await fleet.join(), await fleet.join()
    network = await fleet.network()
    await fleet.attach(network)
    before = await fleet.rows(network)
    busy.errors[CHECK] = taps
    with pytest.raises(InUse) as refusal:
        await fleet.detach(network)

    assert refusal.value.details["ports"] == ["vnet0"]
    assert await fleet.rows(network) == before
    assert await fleet.attached(network)
    assert not any(RELEASE in agent.types() for agent in fleet.agents)
    operation = await fleet.detach(network, force=True)
    assert operation.state == "succeeded"
    assert (await busy.hears(RELEASE)).items[0].force
    await fleet.settles(network, "gone", "gone")


async def test_release_that_fails_puts_the_others_back(fleet: Fleet) -> None:
    """A detach is all or nothing, like an attach."""
    good, bad = await fleet.join(), await fleet.join()
    network = await fleet.network()
    await fleet.attach(network)
    bad.errors[RELEASE] = REFUSED
    with pytest.raises(BackendFailed):
        await fleet.detach(network)

    assert await fleet.attached(network)
    await fleet.settles(network, "realized", "realized")
    assert set(good.held) == set(bad.held) == {network.uuid}


async def test_host_that_was_away_at_the_detach_releases_when_it_returns(fleet: Fleet) -> None:
    """It is remembered until it has."""
    agent = await fleet.join()
    network = await fleet.network()
    await fleet.attach(network)
    await agent.fall_silent()
    await fleet.state_of(agent, "disconnected")
    assert (await fleet.detach(network)).state == "succeeded"

    assert await fleet.states(network) == ["releasing"]
    await fleet.client.l2.delete(uuid=network.uuid)
    await agent.hello()
    agent.beat_on()
    await agent.hears(SYNC, lambda one: one.items == [])
    await fleet.settles(network, "gone")
    assert agent.held == {}


async def test_second_request_during_the_first_is_refused(fleet: Fleet) -> None:
    """An attach meets an attach, a detach meets an attach."""
    agent = await fleet.join(silent={REALIZE})
    network = await fleet.network()
    attach = asyncio.create_task(fleet.attach(network))
    realize = await agent.hears(REALIZE)

    with pytest.raises(AlreadyExists, match="attaching"):
        await fleet.attach(network)
    with pytest.raises(Conflict) as refusal:
        await fleet.detach(network)
    assert refusal.value.details["state"] == "attaching"
    await agent.say(agent.do(realize))
    await attach


async def test_operation_without_wait_is_answered_at_once_and_can_be_followed(fleet: Fleet) -> None:
    """Its state is told by `operation.get`."""
    agent, _ = await fleet.join(silent={REALIZE}), await fleet.join()
    network = await fleet.network()
    operation = await fleet.attach(network, wait=False)
    assert (operation.state, operation.phase) == ("running", "preflight")
    realize = await agent.hears(REALIZE)
    now = await fleet.client.operation.get(uuid=operation.uuid)
    assert (now.state, now.phase) == ("running", "realize")

    await agent.say(agent.do(realize))
    done = await eventually(lambda: fleet.client.operation.get(uuid=operation.uuid), lambda one: one.state != "running")
    assert (done.state, done.finished_at is not None) == ("succeeded", True)


async def test_one_host_is_not_asked_first(fleet: Fleet) -> None:
    """One that refuses does not touch anything, and there is no other that would be changed in vain."""
    agent = await fleet.join()
    network = await fleet.network()
    operation = await fleet.attach(network)
    assert [(step.phase, step.state) for step in operation.steps] == [("realize", "done")]
    assert agent.types() == [REALIZE]
    await fleet.detach(network)

    agent.errors[REALIZE] = PreconditionFailed("no eth1", device="eth1")
    with pytest.raises(PreconditionFailed) as refusal:
        await fleet.attach(network)
    assert refusal.value.details["device"] == "eth1"
    assert not await fleet.attached(network)
    await fleet.settles(network, "gone")


async def test_check_and_plan_ask_every_host(fleet: Fleet) -> None:
    """A host that does not answer is a line of the answer, not its end."""
    one, two = await fleet.join(), await fleet.join()
    away = await fleet.enrol()
    network = await fleet.network()
    await fleet.attach(network)
    two.held.clear()
    two.silent = {SYNC}
    checks = {check.host_uuid: check for check in await fleet.client.l2.check(l2_network_uuid=network.uuid)}

    assert (checks[one.uuid].status, checks[two.uuid].status) == ("ok", "missing")
    assert checks[away.uuid].status == "unreachable"
    one.silent = {CHECK}
    body = {"l2_network_uuid": network.uuid, "cluster_uuid": fleet.cluster_uuid, "timeout_seconds": 1}
    plan = await fleet.client.l2.plan(action="detach", **body)
    errors = {host.host_uuid: host.error.code if host.error else None for host in plan.hosts}
    assert errors == {one.uuid: "TIMEOUT", two.uuid: None, away.uuid: "HOST_UNREACHABLE"}


# ---- removal of hosts --------------------------------------------------------------------------------------------


async def queue_and_user(fleet: Fleet, uuid: object) -> tuple[bool, bool]:
    queues = {queue["name"] for queue in await fleet.place.api("GET", "/queues/{vhost}")}
    users = {user["name"] for user in await fleet.place.api("GET", "/users")}
    return f"viaduct.agent.{uuid}" in queues, str(uuid) in users


async def test_host_that_is_removed_releases_first(fleet: Fleet) -> None:
    """Then its queue and its broker user are gone, and nothing of it is left."""
    agent = await fleet.join()
    network = await fleet.network()
    await fleet.attach(network)
    deleted = await fleet.client.host.delete(uuid=agent.uuid)

    assert deleted is not None
    assert deleted.uuid == agent.uuid
    assert agent.held == {}
    assert await fleet.rows(network) == {}
    await eventually(lambda: queue_and_user(fleet, agent.uuid), lambda seen: seen == (False, False))
    await eventually(lambda: asyncio.sleep(0, agent.channel.is_closed), lambda closed: closed)


async def test_host_is_removed_once_however_often_it_is_asked(fleet: Fleet) -> None:
    """Two requests at the same moment both end; neither keeps anything else from ending."""
    agent = await fleet.join(silent={SYNC})
    removals = [
        asyncio.create_task(fleet.client.host.delete(uuid=agent.uuid, timeout_seconds=2, message_id=uuid4()))
        for _ in range(2)
    ]
    network = await fleet.network()
    other = await fleet.join(silent={REALIZE, SYNC})
    with pytest.raises(DeadlineExceeded) as refusal:
        await fleet.attach(network, timeout_seconds=3)

    assert "operation" in refusal.value.details
    assert other.types()[0] == REALIZE
    answers = await asyncio.gather(*removals)
    assert [answer.uuid for answer in answers if answer is not None][:1] == [agent.uuid]


async def test_host_that_is_removed_blocks_no_attach(fleet: Fleet) -> None:
    """Who waits for it waits no longer."""
    agent = await fleet.join(silent={REALIZE, SYNC})
    network = await fleet.network()
    attach = asyncio.create_task(fleet.attach(network, timeout_seconds=60))
    await agent.hears(REALIZE)
    await fleet.client.host.delete(uuid=agent.uuid, timeout_seconds=1)

    assert (await attach).state == "succeeded"


async def test_uuid_of_a_removed_host_may_be_taken_again(fleet: Fleet) -> None:
    """The removal of the former host's user does not meet the new one."""
    uuid = uuid4()
    for _ in range(3):
        await fleet.client.host.create(cluster_uuid=fleet.cluster_uuid, name="h", uuid=uuid)
        await fleet.client.host.delete(uuid=uuid)
    await fleet.client.host.create(cluster_uuid=fleet.cluster_uuid, name="h", uuid=uuid)
    await asyncio.sleep(1)

    assert await queue_and_user(fleet, uuid) == (True, True)
