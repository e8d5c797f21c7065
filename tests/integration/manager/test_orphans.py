"""What hosts have and should not have, asked for and swept; drift that is only told, and storms of it."""

import asyncio
from uuid import uuid4

import httpx
import pytest
from integration.manager.conftest import Fleet, eventually
from integration.manager.scripted_agent import ORPHANS, REALIZE, RELEASE, SYNC

from local_stack.service import Service
from viaduct_common.errors import BackendFailed, DeadlineExceeded, HostUnreachable, NotFound
from viaduct_common.messages.agent import HostDrift, ListOrphansCommand, Orphan
from viaduct_common.messages.l2 import Difference


def orphan(**fields: object) -> Orphan:
    return Orphan.model_validate({"l2_network_uuid": uuid4(), "reason": "unlisted", "devices": ["br_eth1_9"], **fields})


async def test_orphans_are_what_the_host_says(fleet: Fleet) -> None:
    """All networks that the manager knows there are listed, also those on their way to it or off it."""
    agent = await fleet.join(silent={RELEASE})
    agent.orphans = [orphan(), orphan(reason="taken", detail="a device that is not ours")]
    kept, coming, going = await fleet.network(), await fleet.network(), await fleet.network()
    for network in (kept, going):
        await fleet.attach(network)
    await fleet.detach(going, wait=False)
    await agent.hears(RELEASE)
    agent.silent = {REALIZE, RELEASE}
    await fleet.attach(coming, wait=False)
    await agent.hears(REALIZE, lambda one: coming.uuid in one.networks)

    assert await fleet.client.host.orphans(uuid=agent.uuid) == agent.orphans
    asked = (await agent.hears(ORPHANS)).command
    assert isinstance(asked, ListOrphansCommand)
    assert (set(asked.listed), asked.sweep, asked.force) == ({kept.uuid, coming.uuid, going.uuid}, False, False)


async def test_sweep_says_what_went_and_what_could_not(fleet: Fleet) -> None:
    """It is an operation with the host's step, done once however often it is asked."""
    agent = await fleet.join()
    agent.orphans = [orphan(swept=True), orphan(error=HostUnreachable("in use").to_body())]
    message_id = uuid4()
    for _ in range(2):
        swept = await fleet.client.host.sweep_orphans(uuid=agent.uuid, force=True, message_id=message_id)
        assert swept == agent.orphans
    [asked] = [one.command for one in agent.heard if one.type == ORPHANS]
    assert isinstance(asked, ListOrphansCommand)
    assert (asked.sweep, asked.force) == (True, True)
    page = await fleet.client.operation.query(filters={"type": "host.sweepOrphans"})
    done = next(one for one in page.items if one.host_uuid == agent.uuid)
    assert (done.state, done.phase) == ("succeeded", "ended")


async def test_sweep_settles_what_it_proves_gone(fleet: Fleet) -> None:
    """A release whose completion was lost is known to be done by the sweep that took it away."""
    agent = await fleet.join(silent={RELEASE})
    network = await fleet.network()
    await fleet.attach(network)
    detach = asyncio.create_task(fleet.detach(network))
    await agent.hears(RELEASE)
    agent.orphans = [orphan(l2_network_uuid=network.uuid, swept=True)]
    agent.held.clear()
    await fleet.client.host.sweep_orphans(uuid=agent.uuid)

    assert (await detach).state == "succeeded"
    assert await fleet.states(network) == ["gone"]


async def test_host_that_does_not_answer_is_an_error_not_an_empty_list(fleet: Fleet) -> None:
    """Never there, silent, lost meanwhile, or failing: whoever asks hears of it."""
    absent = await fleet.enrol()
    with pytest.raises(HostUnreachable):
        await fleet.client.host.orphans(uuid=absent.uuid)
    with pytest.raises(NotFound):
        await fleet.client.host.orphans(uuid=uuid4())
    agent = await fleet.join(silent={ORPHANS})
    with pytest.raises(DeadlineExceeded) as refusal:
        await fleet.client.host.orphans(uuid=agent.uuid, timeout_seconds=1)
    assert "operation" in refusal.value.details
    sweep = asyncio.create_task(fleet.client.host.sweep_orphans(uuid=agent.uuid))
    await agent.hears(ORPHANS, lambda one: getattr(one.command, "sweep", False))
    await fleet.lose(agent)
    with pytest.raises(HostUnreachable):
        await sweep
    await agent.hello()
    agent.beat_on()
    await fleet.state_of(agent, "connected")
    agent.silent.clear()
    agent.errors[ORPHANS] = BackendFailed("the dump failed", errno=5)
    with pytest.raises(BackendFailed) as failure:
        await fleet.client.host.sweep_orphans(uuid=agent.uuid)
    assert (failure.value.details["errno"], failure.value.details["hostUuid"]) == (5, str(agent.uuid))


async def test_leftovers_are_released_at_the_hosts_start(fleet: Fleet) -> None:
    """Its hello tells what its marks say; the sync that follows does not list what it should not have."""
    agent = await fleet.enrol()
    network = await fleet.network()
    await fleet.attach(network)
    leftover = uuid4()
    agent.held[leftover] = 3
    await agent.hello()
    sync = await agent.hears(SYNC)

    assert sync.networks == {network.uuid}
    await fleet.settles(network, "realized")
    assert set(agent.held) == {network.uuid}


# ---- drift -------------------------------------------------------------------------------------------------------


def drift(agent: object, network: object, **fields: object) -> HostDrift:
    values = {
        "host_uuid": agent.uuid,  # type: ignore[attr-defined]
        "session_id": agent.session_id,  # type: ignore[attr-defined]
        "l2_network_uuid": network.uuid,  # type: ignore[attr-defined]
        "generation": agent.held[network.uuid],  # type: ignore[attr-defined]
        "differences": [Difference(device="eth1.10", attribute="mtu", desired=1500, actual=1400)],
        "repaired": True,
        **fields,
    }
    return HostDrift.model_validate(values)


async def test_drift_is_told_to_the_world_and_counted(fleet: Fleet, manager: Service) -> None:
    """A storm by an event of its own beside."""
    agent = await fleet.join()
    network = await fleet.network()
    await fleet.attach(network)
    await fleet.place.api("PUT", "/queues/{vhost}/drift", {})
    binding = {"routing_key": "host.#"}
    await fleet.place.api("POST", "/bindings/{vhost}/e/viaduct.events/q/drift", binding)

    async def metric(repaired: str) -> float:
        async with httpx.AsyncClient() as http:
            text = (await http.get(f"{manager.base_url}/metrics")).text
        lines = [line for line in text.splitlines() if f'manager_drift_total{{repaired="{repaired}"}}' in line]
        return float(lines[0].split()[-1]) if lines else 0.0

    before = await metric("true"), await metric("false")
    await agent.say(drift(agent, network))
    await agent.say(drift(agent, network, storm=True, repairs=5))
    await agent.say(drift(agent, network, repaired=False, error=BackendFailed("no").to_body()))

    async def events() -> list[str]:
        asked = {"count": 10, "ackmode": "ack_requeue_true", "encoding": "auto"}
        got = await fleet.place.api("POST", "/queues/{vhost}/drift/get", asked)
        return sorted(one["routing_key"] for one in got)

    await eventually(events, lambda seen: seen == ["host.drift"] * 3 + ["host.driftStorm"])
    assert (await metric("true"), await metric("false")) == (before[0] + 2, before[1] + 1)


async def test_storm_of_drift_is_shown_until_the_host_says_hello_or_is_calm(fleet: Fleet) -> None:
    """One entry per network; ten minutes without are enough."""
    agent = await fleet.join()
    one, two = await fleet.network(), await fleet.network()
    for network in (one, two):
        await fleet.attach(network)

    async def storms() -> set[tuple[str, str]]:
        health = (await fleet.client.host.get(uuid=agent.uuid)).health
        return {(fact["l2NetworkUuid"], fact["detail"]) for fact in health if fact["name"] == "drift_storm"}

    for network, repairs in ((one, 5), (two, 6), (one, 7)):
        await agent.say(drift(agent, network, storm=True, repairs=repairs))
    told = {
        (str(one.uuid), "7 repairs in the last five minutes"),
        (str(two.uuid), "6 repairs in the last five minutes"),
    }
    await eventually(storms, lambda seen: seen == told)
    fleet.place.sql(f"UPDATE host SET storm_at = now() - interval '11 minutes' WHERE uuid = '{agent.uuid}'")
    await eventually(storms, lambda seen: seen == set())
    await agent.say(drift(agent, one, storm=True, repairs=8))
    await eventually(storms, lambda seen: len(seen) == 1)
    await agent.hello()
    await eventually(storms, lambda seen: seen == set())


async def test_drift_that_is_only_told_is_shown_and_not_tried_again(fleet: Fleet) -> None:
    """The row stays realized, with what differs as its error, until it is realized anew."""
    agent = await fleet.join()
    network = await fleet.network()
    await fleet.attach(network)
    await agent.say(drift(agent, network, repaired=False, policy="report"))

    async def error() -> object:
        row = (await fleet.rows(network))[agent.uuid]
        return row.state, row.error and (row.error.code, row.error.details["differences"][0]["attribute"])

    await eventually(error, lambda seen: seen == ("realized", ("CONFLICT", "mtu")))
    orders = [one.type for one in agent.heard].count(REALIZE)
    await fleet.client.l2.change_mtu(l2_network_uuid=network.uuid, mtu=1400)
    assert await error() == ("realized", None)
    assert [one.type for one in agent.heard].count(REALIZE) == orders + 1
