"""Managers that die, and managers that are two: nothing is in memory only."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from uuid import uuid4

import pytest
from integration.manager.conftest import Fleet, eventually
from integration.manager.control_plane import Place
from integration.manager.scripted_agent import CHECK, REALIZE, REFUSED, SYNC

from local_stack.service import Service
from viaduct_common.client import ViaductClient
from viaduct_common.errors import BackendFailed, DeadlineExceeded, L2Conflict


@pytest.fixture
async def second(place: Place, manager: Service) -> AsyncIterator[Service]:
    """Another manager on the same broker and database."""
    async with place.running("manager") as service:
        yield service


async def crash(service: Service) -> None:
    await asyncio.to_thread(service.kill)


async def start(service: Service) -> None:
    await asyncio.to_thread(service.start)


@pytest.mark.parametrize("silent_at", [CHECK, REALIZE])
async def test_attach_goes_on_after_the_manager_was_killed(fleet: Fleet, manager: Service, silent_at: str) -> None:
    """Whoever waits gets the answer from the manager that comes after."""
    agent, _ = await fleet.join(silent={silent_at}), await fleet.join()
    network = await fleet.network()
    attach = asyncio.create_task(fleet.attach(network, timeout_seconds=40))
    command = await agent.hears(silent_at)
    await crash(manager)
    await agent.say(agent.do(command))
    await start(manager)

    assert (await attach).state == "succeeded"
    assert await fleet.states(network) == ["realized"] * 2


async def test_answer_is_kept_for_whoever_asks_again_after_a_crash(fleet: Fleet, manager: Service) -> None:
    """The caller died as well; its repetition by the same message id gets the end of the same operation."""
    agent = await fleet.join(silent={REALIZE, SYNC})
    network, message_id = await fleet.network(), uuid4()
    async with fleet.place.client() as caller:
        request = {"l2_network_uuid": network.uuid, "cluster_uuid": fleet.cluster_uuid, "timeout_seconds": 30}
        attach = asyncio.create_task(caller.l2.attach(**request, message_id=message_id))
        command = await agent.hears(REALIZE)
        await crash(manager)
        attach.cancel()
        await asyncio.gather(attach, return_exceptions=True)
    await start(manager)
    again = asyncio.create_task(fleet.client.l2.attach(**request, message_id=message_id))
    await asyncio.sleep(0.5)
    assert not again.done()
    await agent.say(agent.do(command))
    operation = await again

    assert (operation.state, str(operation.uuid)) == ("succeeded", command.correlation_id)
    assert await fleet.client.l2.attach(**request, message_id=message_id) == operation
    # The outbox may say it twice (killed between the confirm and its own commit), but it is one command.
    assert len({one.command_id for one in agent.heard if one.type == REALIZE}) == 1


async def test_deadline_that_passes_while_no_manager_runs_is_kept_by_the_next(fleet: Fleet, manager: Service) -> None:
    """The operation ends; it does not hang for ever."""
    agent, _ = await fleet.join(silent={CHECK, SYNC}), await fleet.join()
    network = await fleet.network()
    attach = asyncio.create_task(fleet.attach(network, timeout_seconds=2))
    await agent.hears(CHECK)
    await crash(manager)
    await asyncio.sleep(2)
    await start(manager)
    with pytest.raises(DeadlineExceeded) as refusal:
        await attach

    assert "operation" in refusal.value.details
    assert not await fleet.attached(network)


async def test_outbox_survives(fleet: Fleet, manager: Service) -> None:
    """What was committed and not yet published is published after the crash."""
    agent = await fleet.join()
    network = await fleet.network()
    await crash(manager)
    body = '{"items": []}'
    fleet.place.sql(
        "INSERT INTO outbox (exchange, routing_key, type, message_id, body, mandatory) VALUES "
        f"('viaduct.commands', '{agent.uuid}', 'host.sync', '{uuid4()}', '{body}', true)"
    )
    before = len(agent.heard)
    await start(manager)
    await eventually(lambda: asyncio.sleep(0, len(agent.heard)), lambda count: count > before)

    assert agent.heard[before].items == []
    await eventually(lambda: asyncio.to_thread(fleet.place.sql, "SELECT count(*) FROM outbox"), lambda n: n == "0")
    await fleet.attach(network)


async def test_command_to_a_queue_that_was_lost_makes_the_queue_anew(fleet: Fleet) -> None:
    """A broker that lost a host's queue gets it again, and the host its command."""
    agent = await fleet.join()
    network = await fleet.network()
    await agent.channel.close()
    await fleet.place.api("DELETE", f"/queues/{{vhost}}/viaduct.agent.{agent.uuid}")
    attach = asyncio.create_task(fleet.attach(network))

    async def queue_exists() -> bool:
        queues = await fleet.place.api("GET", "/queues/{vhost}")
        return f"viaduct.agent.{agent.uuid}" in {queue["name"] for queue in queues}

    await eventually(queue_exists, bool)
    await agent.__aexit__(None, None, None)
    await agent.__aenter__()
    await agent.hello()
    agent.beat_on()
    assert (await attach).state == "succeeded"


async def test_service_queue_that_was_deleted_is_served_again(place: Place, client: ViaductClient) -> None:
    """Its consumer is cancelled by the broker; the manager declares it and consumes on."""
    for queue in ("viaduct.manager", "viaduct.manager.agents"):
        await place.api("DELETE", f"/queues/{{vhost}}/{queue}")
    assert (await client.zone.create(name="after")).name == "after"


async def test_two_managers_share_the_work(fleet: Fleet, second: Service) -> None:
    """Requests and completions come to either; each thing is done once."""
    agents = [await fleet.join() for _ in range(3)]
    networks = [await fleet.network() for _ in range(12)]
    operations = await asyncio.gather(*(fleet.attach(network, timeout_seconds=40) for network in networks))

    assert {operation.state for operation in operations} == {"succeeded"}
    for agent in agents:
        assert set(agent.held) == {network.uuid for network in networks}
    bad = agents[0]
    bad.errors[REALIZE] = REFUSED
    more = [await fleet.network() for _ in range(6)]
    attaches = [fleet.attach(network, timeout_seconds=40) for network in more]
    detaches = [fleet.detach(network, timeout_seconds=40) for network in networks]
    results = await asyncio.gather(*attaches, *detaches, return_exceptions=True)
    assert {type(result) for result in results[:6]} == {BackendFailed}
    assert {getattr(result, "state", result) for result in results[6:]} == {"succeeded"}
    await eventually(lambda: asyncio.sleep(0, [agent.held for agent in agents]), lambda held: held == [{}, {}, {}])
    for network in (*networks, *more):
        await fleet.settles(network, "gone", "gone", "gone")


async def test_of_conflicting_attaches_to_two_managers_one_wins(fleet: Fleet, second: Service) -> None:
    """The database decides."""
    await fleet.join()
    rivals = [await fleet.network(vlan=77) for _ in range(12)]
    results = await asyncio.gather(*(fleet.attach(network) for network in rivals), return_exceptions=True)

    assert sorted(type(result).__name__ for result in results) == ["L2Conflict"] * 11 + ["OperationInventory"]
    [winner] = [l2 for l2, result in zip(rivals, results, strict=True) if not isinstance(result, BaseException)]
    losers = {result.details["l2NetworkUuid"] for result in results if isinstance(result, L2Conflict)}
    assert losers == {str(winner.uuid)}


async def test_one_of_two_managers_may_die_at_any_time(fleet: Fleet, manager: Service, second: Service) -> None:
    """The other takes over what it had begun."""
    async with AsyncExitStack() as stack:
        stack.push_async_callback(start, manager)
        for _ in range(2):
            await fleet.join(slow_seconds=0.05)
        networks = [await fleet.network() for _ in range(16)]
        attaches = [asyncio.create_task(fleet.attach(network, timeout_seconds=40)) for network in networks]
        await asyncio.sleep(0.15)
        await crash(manager)
        operations = await asyncio.gather(*attaches)

    assert {operation.state for operation in operations} == {"succeeded"}
    for network in networks:
        await fleet.settles(network, "realized", "realized")
