"""Commands about services in order, fenced by generations, whatever the broker does with them."""

import asyncio
import time
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from unit.agent.services.memory import Host, apply, desired, remove, sync
from unit.agent.test_dispatch import delivery

from viaduct_agent.links.netlink import Netlink
from viaduct_agent.services.tools import ServiceTools
from viaduct_common.bus import GiveBack
from viaduct_common.digest import holdings_digest
from viaduct_common.errors import UnsupportedType
from viaduct_common.messages.base import Command
from viaduct_common.messages.services.commands import CheckServicesCommand

UUIDS = [UUID(int=number) for number in range(1, 4)]


@st.composite
def histories(draw: st.DrawFn) -> tuple[dict[UUID, bool], list[Command]]:
    """Whether each instance is there in its newest generation, 4; and all commands about them, some of them twice, in
    any order, several items in some."""
    fates = st.lists(st.booleans(), min_size=4, max_size=4)
    history = {uuid: draw(fates) for uuid in UUIDS}
    orders = [
        (present, desired(uuid, generation, size=generation))
        for uuid, fate in history.items()
        for generation, present in enumerate(fate, start=1)
    ]
    orders = draw(st.permutations(orders + draw(st.lists(st.sampled_from(orders), max_size=8))))
    commands: list[Command] = []
    while orders:
        count = draw(st.integers(1, 3))
        now, orders = orders[:count], orders[count:]
        commands += [apply(*(item for present, item in now if present)), remove(*(i for p, i in now if not p))]
    return {uuid: fate[-1] for uuid, fate in history.items()}, commands


@given(histories(), st.booleans())
async def test_any_order_and_any_repetition_ends_in_the_newest_generation(
    tmp_path_factory: pytest.TempPathFactory, history: tuple[dict[UUID, bool], list[Command]], at_once: bool
) -> None:
    """One after the other or all at once; holdings, digest and host agree."""
    newest, commands = history
    host = Host(ServiceTools(Netlink(), tmp_path_factory.getbasetemp()))
    if at_once:
        await asyncio.gather(*(host.dispatcher.handle(delivery(command)) for command in commands))
    else:
        for command in commands:
            await host.do(command)
    wanted = {uuid: 4 for uuid, present in newest.items() if present}
    assert host.there == wanted
    assert host.holdings.generations() == wanted
    assert host.holdings.digest() == holdings_digest(wanted.items())
    assert {dict(spec)["size"] for _, spec in host.backend.there.values()} <= {4}
    assert len(host.lanes) == 0
    assert len(host.completions) == len(commands)


async def test_a_command_delivered_again_changes_nothing_and_is_answered_again(host: Host) -> None:
    """With the command's id."""
    command, command_id = apply(desired(uuid4(), 1)), uuid4()
    first = await host.do(command, message_id=command_id)
    again = await host.do(command, message_id=command_id)
    assert (first.command, first.command_id, len(first.items[0].changes)) == ("service.apply", command_id, 1)
    assert (again.command_id, again.items[0].outcome, again.items[0].changes) == (command_id, "done", [])


async def test_an_item_that_takes_long_delays_nothing_but_its_own_instance(host: Host) -> None:
    """Not even other items of commands that came later; its own instance's commands keep their order."""
    slow, quick = uuid4(), uuid4()
    host.backend.stuck[slow] = asyncio.Event()
    first = asyncio.create_task(host.dispatcher.handle(delivery(apply(desired(slow, 1)))))
    await asyncio.sleep(0)
    second = asyncio.create_task(host.dispatcher.handle(delivery(remove(desired(slow, 2)))))
    await host.do(apply(desired(quick, 1)))
    await host.do(sync(desired(quick, 1), listed=(slow,)))
    assert not first.done()
    assert not second.done()
    host.backend.stuck[slow].set()
    await asyncio.gather(first, second)
    assert host.there == {quick: 1}
    assert [call for call in host.backend.calls if call[1] == slow] == [("apply", slow), ("remove", slow)]


async def test_a_command_past_its_deadline_is_not_started(host: Host) -> None:
    """TIMEOUT, and nothing was changed."""
    done = await host.do(apply(desired(uuid4(), 1)), deadline=time.monotonic() - 1)
    assert done.items[0].error is not None
    assert (done.items[0].outcome, done.items[0].error.code) == ("failed", "TIMEOUT")
    assert host.backend.calls == []


async def test_each_item_fails_alone(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad spec, an unknown kind, a host that refuses, a bug whose text stays in the log."""
    bad, odd, refused, bug, good = (uuid4() for _ in range(5))
    host.backend.broken.add(refused)
    host.backend.stuck[bug] = None  # type: ignore[assignment]  # the bug
    items = [desired(bad, 1, bad=1), desired(odd, 1, kind="odd"), *(desired(one, 1) for one in (refused, bug, good))]
    done = await host.do(apply(*items))
    codes = [one.error and one.error.code for one in done.items]
    assert codes == ["INVALID_REQUEST", "UNSUPPORTED_TYPE", "BACKEND_FAILED", "INTERNAL", None]
    assert "NoneType" not in done.items[3].to_json().decode()
    assert host.holdings.generations() == {good: 1}
    host.backend.broken.clear()
    assert (await host.do(apply(desired(refused, 0)))).items[0].outcome == "superseded"
    assert (await host.do(apply(desired(refused, 1)))).items[0].outcome == "done"


async def test_a_removal_that_fails_is_told_by_the_digest(host: Host) -> None:
    """It is still held, in the generation that the manager no longer wants."""
    one = uuid4()
    await host.do(apply(desired(one, 1)))
    host.backend.broken.add(one)
    assert (await host.do(remove(desired(one, 2)))).items[0].outcome == "failed"
    assert host.holdings.digest() != holdings_digest([])


async def test_check_answers_status_differences_and_steps_and_changes_nothing(host: Host) -> None:
    """missing, ok, drifted."""
    one = uuid4()
    check = CheckServicesCommand(items=[desired(one, 1, size=1)])
    missing = (await host.do(check)).items[0]
    assert (missing.status, missing.steps) == ("missing", ["put"])
    await host.do(apply(desired(one, 1, size=1)))
    assert (await host.do(check)).items[0].status == "ok"
    host.backend.there[one] = (1, {"size": 2})
    drifted = (await host.do(check)).items[0]
    assert (drifted.status, [found.attribute for found in drifted.differences]) == ("drifted", ["spec"])
    assert host.backend.there == {one: (1, {"size": 2})}


async def test_a_command_whose_completion_is_not_taken_goes_back(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Acked only after the completion was confirmed."""
    monkeypatch.setattr("viaduct_agent.items.GIVE_BACK_PAUSE_SECONDS", 0)
    host.broken_bus = True
    with pytest.raises(GiveBack):
        await host.dispatcher.handle(delivery(apply(desired(uuid4(), 1))))
    assert len(host.lanes) == 0


async def test_what_is_no_command_is_refused_to_the_dead_letters(host: Host) -> None:
    """Nobody is answered; nothing is left in a lane."""
    with pytest.raises(UnsupportedType):
        await host.dispatcher.handle(delivery(apply(), type="service.explode"))
    with pytest.raises(ValidationError):
        await host.dispatcher.handle(delivery(apply(), body=b"{"))
    assert host.completions == []
    assert len(host.lanes) == 0
