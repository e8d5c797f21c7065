"""Leftovers and taken names: found, told, swept, and never what somebody commanded meanwhile."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unit.agent.test_dispatch import Host, delivery, realize, release, sync

from viaduct_agent.links.marks import SHARED
from viaduct_agent.links.model import Link
from viaduct_common.messages.agent import ListOrphansCommand, Orphan, RealizeL2Command
from viaduct_common.messages.l2 import L2NetworkInventory

Make = Callable[..., L2NetworkInventory]


@pytest.fixture
def host(nic: Link) -> Host:
    return Host(nic)


def seen(orphans: list[Orphan]) -> list[tuple[UUID, str, list[str], bool, str | None]]:
    return [(one.l2_network_uuid, one.reason, one.devices, one.swept, one.error and one.error.code) for one in orphans]


async def test_what_has_our_mark_and_is_not_listed_is_told_with_its_devices(host: Host, network: Make) -> None:
    """Asking changes nothing; what is listed is none."""
    kept, left = network(vlan=10), network(vlan=20)
    await host.do(realize(kept, 1))
    await host.do(realize(left, 2))
    applied = len(host.kernel.applied)
    done = await host.do(ListOrphansCommand(listed=[kept.uuid]))

    assert seen(done.orphans) == [(left.uuid, "unlisted", ["br_eth1_20", "eth1.20"], False, None)]
    assert done.orphans[0].detail == "of generation 2"
    assert (done.error, done.items, len(host.kernel.applied)) == (None, [], applied)


async def test_a_sweep_takes_away_what_it_can_and_says_why_not(host: Host, network: Make) -> None:
    """A VM's tap keeps its bridge, unless the sweep is forced; the listed network is not touched."""
    kept, left, used = network(vlan=10), network(vlan=20), network(vlan=30)
    for net in (kept, left, used):
        await host.do(realize(net, 1))
    host.kernel.links.put(Link("tap0", "tun", index=99, master="br_eth1_30"))
    done = await host.do(ListOrphansCommand(listed=[kept.uuid], sweep=True))

    assert sorted(seen(done.orphans)) == sorted(
        [
            (left.uuid, "unlisted", ["br_eth1_20", "eth1.20"], True, None),
            (used.uuid, "unlisted", ["br_eth1_30", "eth1.30"], False, "IN_USE"),
        ]
    )
    assert set(host.owned) == {"br_eth1_10", "eth1.10", "br_eth1_30", "eth1.30"}
    forced = await host.do(ListOrphansCommand(listed=[kept.uuid], sweep=True, force=True))
    assert seen(forced.orphans) == [(used.uuid, "unlisted", ["br_eth1_30", "eth1.30"], True, None)]
    assert set(host.owned) == {"br_eth1_10", "eth1.10"}
    assert {held.l2_network_uuid for held in host.holdings.held()} == {kept.uuid}


async def test_a_wanted_name_that_a_stranger_has_is_told_and_the_stranger_stays(host: Host, network: Make) -> None:
    """Whether it was taken before the network came, or after; what has its name back is told no more."""
    refused, robbed = network(vlan=10), network(vlan=20)
    stranger = Link("br_eth1_10", "bridge", index=77)
    host.kernel.links.put(stranger)
    await host.do(realize(refused, 1))
    await host.do(realize(robbed, 1))
    thief = Link("eth1.20", "dummy", index=78)
    host.kernel.links.put(thief)
    listed = [refused.uuid, robbed.uuid]
    done = await host.do(ListOrphansCommand(listed=listed, sweep=True, force=True))

    assert sorted(seen(done.orphans)) == sorted(
        [
            (refused.uuid, "taken", ["br_eth1_10"], False, None),
            (robbed.uuid, "taken", ["eth1.20"], False, None),
        ]
    )
    assert all("not ours" in orphan.detail for orphan in done.orphans)
    assert (host.kernel.links["br_eth1_10"], host.kernel.links["eth1.20"]) == (stranger, thief)
    for name in ("br_eth1_10", "eth1.20"):
        host.kernel.links.remove(name)
    for net in (refused, robbed):
        await host.do(realize(net, 2))
    assert (await host.do(ListOrphansCommand(listed=listed))).orphans == []


async def test_a_name_that_another_network_of_ours_has_is_taken(host: Host, network: Make) -> None:
    """The one that has it is told, too, when it should not be here."""
    first, second = network(vlan=10), network(vlan=10)
    await host.do(realize(first, 1))
    await host.do(realize(second, 2))
    done = await host.do(ListOrphansCommand(listed=[second.uuid]))

    assert [(one.l2_network_uuid, one.reason) for one in done.orphans] == [
        (first.uuid, "unlisted"),
        (second.uuid, "taken"),
    ]
    assert str(first.uuid) in done.orphans[1].detail


async def test_a_network_that_is_wanted_no_more_is_not_missed(host: Host, network: Make) -> None:
    """A name that was refused once is of no interest after the release, nor after a sync without it."""
    host.kernel.links.put(Link("br_eth1_10", "bridge", index=77))
    released, unlisted = network(vlan=10), network(vlan=10)
    await host.do(realize(released, 1))
    await host.do(realize(unlisted, 1))
    await host.do(release(released, 2))
    await host.do(sync())
    assert (await host.do(ListOrphansCommand())).orphans == []


async def test_what_was_commanded_after_the_question_is_no_orphan(
    host: Host, network: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list is older than the command; a sweep leaves it alone though the look finds it."""
    later, realized, observe = network(vlan=20), asyncio.Event(), host.kernel.observe

    async def observe_late(names: Any = None, **more: Any) -> Any:
        if names is None:
            await realized.wait()
        return await observe(names, **more)

    monkeypatch.setattr(host.kernel, "observe", observe_late)
    running = asyncio.create_task(host.dispatcher.handle(delivery(ListOrphansCommand(sweep=True, force=True))))
    await asyncio.sleep(0)
    await host.do(realize(later, 1))
    realized.set()
    await running
    assert host.completions[-1].orphans == []
    assert "br_eth1_20" in host.owned


async def test_a_sweep_that_is_delivered_again_sweeps_nothing_more(host: Host, network: Make, nic: Link) -> None:
    """Neither by the process that did it, nor by one that does not remember it."""
    left, later = network(vlan=10), network(vlan=20)
    await host.do(realize(left, 1))
    command, command_id = ListOrphansCommand(sweep=True), uuid4()
    first = await host.do(command, message_id=command_id)
    await host.do(realize(later, 1))
    again = await host.do(command, message_id=command_id, redelivered=True)
    assert again == first
    unknown = await host.do(command, redelivered=True)

    assert unknown.error is not None
    assert (unknown.error.code, unknown.error.retryable, unknown.orphans) == ("HOST_UNREACHABLE", True, [])
    assert set(host.owned) == {"br_eth1_20", "eth1.20"}


async def test_a_sync_tells_what_it_could_not_release(host: Host, network: Make) -> None:
    """In use by a VM: the manager has the reason at once."""
    used, free = network(vlan=10), network(vlan=20)
    await host.do(realize(used, 1))
    await host.do(realize(free, 1))
    host.kernel.links.put(Link("tap0", "tun", index=99, master="br_eth1_10"))
    done = await host.do(sync())

    assert done.released == [free.uuid]
    assert seen(done.orphans) == [(used.uuid, "unlisted", ["br_eth1_10", "eth1.10"], False, "IN_USE")]


async def test_a_sync_leaves_alone_what_it_lists_without_an_item(host: Host, network: Make) -> None:
    """The rest of a set that is too large for one message comes by other commands."""
    listed, other = network(vlan=10), network(vlan=20)
    await host.do(realize(listed, 1))
    await host.do(realize(other, 1))
    done = await host.do(sync().model_copy(update={"listed": [listed.uuid]}))
    assert done.released == [other.uuid]
    assert set(host.owned) == {"br_eth1_10", "eth1.10"}


async def test_items_of_one_command_begin_in_its_order(host: Host, network: Make) -> None:
    """What others stand on comes first, a hundred at once."""
    base = network()
    vlans = [network(vlan=vlan) for vlan in range(10, 110)]
    command = sync((base, 1), *((net, 2) for net in vlans))
    await host.do(RealizeL2Command(items=command.items))

    made = [step.link.name for step in host.kernel.applied if hasattr(step, "link") and step.link.kind == "bridge"]
    assert made == ["br_eth1", *(net.bridge_name for net in vlans)]
    assert host.kernel.links["eth1"].master == "br_eth1"


async def test_a_device_that_networks_share_is_nobodys_orphan(host: Host) -> None:
    """It goes with the last of its users, or with the sweep that finds it without any."""
    host.kernel.links.put(Link("brv_eth1", "bridge", owner=SHARED, generation=0, index=55))
    assert (await host.do(ListOrphansCommand())).orphans == []
    assert "brv_eth1" in host.kernel.links
    assert (await host.do(ListOrphansCommand(sweep=True))).orphans == []
    assert "brv_eth1" not in host.kernel.links


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(had=st.sets(st.integers(0, 5)), listed=st.sets(st.integers(0, 5)), used=st.sets(st.integers(0, 5)))
def test_after_a_sweep_there_is_what_is_listed_or_in_use(
    nic: Link, network: Make, had: set[int], listed: set[int], used: set[int]
) -> None:
    """From any set to any other; the answer names exactly the rest."""
    networks = {number: network(vlan=10 + number) for number in range(6)}

    async def run() -> None:
        host = Host(nic)
        for number in sorted(had):
            await host.do(realize(networks[number], 1))
        for number in used & had:
            tap = Link(f"tap{number}", "tun", index=100 + number, master=networks[number].bridge_name)
            host.kernel.links.put(tap)
        wanted = [networks[number].uuid for number in listed]
        listing = (await host.do(ListOrphansCommand(listed=wanted))).orphans
        swept = (await host.do(ListOrphansCommand(listed=wanted, sweep=True))).orphans

        assert [one.l2_network_uuid for one in listing] == [one.l2_network_uuid for one in swept]
        assert {one.l2_network_uuid: one.swept for one in swept} == {
            networks[number].uuid: number not in used for number in had - listed
        }
        owners = {link.owner for link in host.kernel.links.values() if link.owner is not None}
        assert owners == {networks[number].uuid for number in had & (listed | used)}

    asyncio.run(run())
