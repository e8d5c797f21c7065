"""A sync leaves exactly what it lists, and takes nothing that came after it."""

import asyncio
from uuid import uuid4

from unit.agent.services.memory import Host, apply, desired, remove, sync
from unit.agent.test_dispatch import delivery

from viaduct_agent.services.tools import ServiceTools
from viaduct_common.digest import holdings_digest


async def test_sync_applies_repairs_and_removes(host: Host) -> None:
    """Also those of equal generation; what failed to be applied goes, and so does what nobody here knew of."""
    kept, held, refused, stranger, new = (uuid4() for _ in range(5))
    await host.do(apply(desired(kept, 1, size=1), desired(held, 1), desired(refused, 1, bad=1)))
    host.backend.there[kept] = (1, {"size": 2})
    host.backend.there[stranger] = (7, {})
    done = await host.do(sync(desired(kept, 1, size=1), desired(new, 2)))
    assert set(done.removed) == {held, refused, stranger}
    assert [(one.service_uuid, one.outcome, len(one.changes)) for one in done.items] == [
        (kept, "done", 1),
        (new, "done", 1),
    ]
    assert host.backend.there == {kept: (1, {"size": 1}), new: (2, {})}
    assert host.holdings.digest() == holdings_digest([(kept, 1), (new, 2)])


async def test_what_is_listed_stays_without_being_an_item(host: Host) -> None:
    """A large set comes as a sync and commands to apply."""
    one = uuid4()
    await host.do(apply(desired(one, 1)))
    assert (await host.do(sync(listed=(one,)))).removed == []
    assert host.there == {one: 1}


async def test_a_sync_delivered_again_removes_nothing_that_came_after_it(host: Host) -> None:
    """Its list is as old as its first delivery."""
    first, later = uuid4(), uuid4()
    command, command_id = sync(desired(first, 1)), uuid4()
    await host.do(command, message_id=command_id)
    await host.do(apply(desired(later, 1)))
    assert (await host.do(command, message_id=command_id)).removed == []
    assert host.there == {first: 1, later: 1}


async def test_what_was_commanded_while_a_sync_runs_stays(host: Host) -> None:
    """The apply came after the sync, which found it there already."""
    gone, later = uuid4(), uuid4()
    await host.do(apply(desired(gone, 1)))
    host.backend.stuck[gone] = asyncio.Event()
    running = asyncio.create_task(host.dispatcher.handle(delivery(sync())))
    await asyncio.sleep(0)
    await host.do(apply(desired(later, 1)))
    host.backend.stuck[gone].set()
    await running
    assert host.completions[-1].removed == [gone]
    assert host.there == {later: 1}


async def test_after_a_restart_what_is_found_is_held_but_differs_until_a_sync(host: Host, tools: ServiceTools) -> None:
    """The fence is where it was; leftovers go."""
    kept, leftover = uuid4(), uuid4()
    await host.do(apply(desired(kept, 4), desired(leftover, 2)))
    reborn = Host(tools, like=host)
    reborn.holdings.adopt((await reborn.backends.found()).generations)

    pairs = {(one.service_uuid, one.generation) for one in reborn.holdings.held()}
    assert pairs == {(kept, 4), (leftover, 2)}
    assert reborn.holdings.digest() != holdings_digest(pairs)
    assert (await reborn.do(remove(desired(kept, 3)))).items[0].outcome == "superseded"
    assert (await reborn.do(sync(desired(kept, 4)))).removed == [leftover]
    assert reborn.there == {kept: 4}
    assert reborn.holdings.digest() == holdings_digest([(kept, 4)])


async def test_what_was_adopted_and_is_gone_by_now_is_forgotten_only_when_that_is_sure(
    host: Host, tools: ServiceTools
) -> None:
    """A backend that cannot look does not say that nothing is there."""
    one = uuid4()
    await host.do(apply(desired(one, 1)))
    reborn = Host(tools, like=host)
    reborn.holdings.adopt((await reborn.backends.found()).generations)
    reborn.backend.blind = True
    await reborn.do(sync())
    assert reborn.holdings.digest() != holdings_digest([])
    reborn.backend.blind = False
    reborn.backend.there.clear()
    await reborn.do(sync())
    assert reborn.holdings.digest() == holdings_digest([])


async def test_a_leftover_that_cannot_be_removed_is_told_by_the_digest(host: Host) -> None:
    """Though nobody here was told to have it; the others go."""
    stuck, loose = uuid4(), uuid4()
    host.backend.there = {stuck: (3, {}), loose: (3, {})}
    host.backend.broken.add(stuck)
    assert (await host.do(sync())).removed == [loose]
    assert host.holdings.digest() != holdings_digest([])
    host.backend.broken.clear()
    assert (await host.do(sync())).removed == [stuck]
    assert host.holdings.digest() == holdings_digest([])
