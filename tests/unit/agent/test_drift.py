"""The guard: found, repaired, reported; not fought over."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from viaduct_agent import drift
from viaduct_agent.backends.api import L2OnHost, Registry
from viaduct_agent.backends.vlan import VlanBackend
from viaduct_agent.drift import DriftGuard
from viaduct_agent.driftreports import Drift, Policy
from viaduct_agent.fights import Fights
from viaduct_agent.holdings import Holdings
from viaduct_agent.lanes import Lanes
from viaduct_agent.links.host import HostLinks
from viaduct_agent.links.model import Link, with_values
from viaduct_agent.links.watch import Changed
from viaduct_agent.testing import FakeKernel
from viaduct_agent.watching import WatchIndex
from viaduct_common.digest import holdings_digest
from viaduct_common.messages.l2 import L2NetworkInventory


class Patient(Fights):
    """With `patient` unset it never puts a repair off."""

    patient = True

    def ready_at(self, uuid: UUID) -> float:
        return super().ready_at(uuid) if self.patient else 0.0


class Guarded:
    """A guard over one realized network, fed by hand."""

    def __init__(self, nic: Link, network: L2NetworkInventory, policy: Policy = "repair") -> None:
        self.kernel = FakeKernel([nic])
        self.links = HostLinks(self.kernel)
        self.want = L2OnHost(1, network, "eth1")
        self.holdings, self.lanes = Holdings(), Lanes()
        self.backends = Registry([VlanBackend], self.links)
        self.reports: asyncio.Queue[Drift] = asyncio.Queue()
        self.events: asyncio.Queue[Changed] = asyncio.Queue()
        self.fights = Patient()
        self.guard = DriftGuard(
            self.backends, self.holdings, self.lanes, self.reports.put_nowait, links=self.links, policy=policy,
            fights=self.fights, sweep_seconds=0.2,
        )  # fmt: skip

    async def changes(self) -> AsyncIterator[Changed]:
        while True:
            yield await self.events.get()

    async def realize(self) -> None:
        await self.backends.get("L2VlanNetwork").realize(self.want)
        self.holdings.realized(self.want)


@pytest.fixture
async def guarded(nic: Link, network: Callable[..., L2NetworkInventory]) -> AsyncIterator[Guarded]:
    one = Guarded(nic, network(vlan=10))
    await one.realize()
    task = asyncio.create_task(one.guard.run(one.changes()))
    yield one
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def reporting(nic: Link, network: Callable[..., L2NetworkInventory]) -> AsyncIterator[Guarded]:
    """It repairs nothing."""
    one = Guarded(nic, network(vlan=10), "report")
    await one.realize()
    task = asyncio.create_task(one.guard.run(one.changes()))
    yield one
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def next_report(guarded: Guarded) -> Drift:
    return await asyncio.wait_for(guarded.reports.get(), 5)


async def test_a_deleted_device_is_made_again_and_reported(guarded: Guarded) -> None:
    """At once, by the event that names it."""
    guarded.kernel.links.remove("eth1.10")
    guarded.events.put_nowait(Changed(names=frozenset({"eth1.10"})))
    drift = await next_report(guarded)
    assert (drift.uuid, drift.generation, drift.error) == (guarded.want.network.uuid, 1, None)
    assert (drift.repaired, drift.policy, drift.storm, drift.repairs) == (True, "repair", False, 1)
    assert [(one.device, one.attribute) for one in drift.differences] == [("eth1.10", "device")]
    assert "eth1.10" in guarded.kernel.links


@pytest.mark.parametrize("told", [Changed(overflow=True), None])
async def test_lost_events_and_silence_are_made_up_for_by_a_look_at_all(guarded: Guarded, told: Changed | None) -> None:
    """After an overflow at once, else by the sweep."""
    guarded.kernel.links.remove("eth1.10")
    if told is not None:
        guarded.events.put_nowait(told)
    await next_report(guarded)
    assert "eth1.10" in guarded.kernel.links


async def test_our_own_changes_are_no_drift(guarded: Guarded) -> None:
    """Echoes are told apart by comparing with the wanted state."""
    guarded.events.put_nowait(Changed(owners=frozenset({guarded.want.network.uuid})))
    await asyncio.sleep(0.5)  # two sweeps
    assert guarded.reports.empty()


async def test_a_network_that_somebody_works_at_is_left_to_him(guarded: Guarded) -> None:
    """A release in its lane is not undone by the guard."""
    uuid = guarded.want.network.uuid
    async with guarded.lanes.enter(uuid):
        guarded.kernel.links.remove("eth1.10")
        guarded.events.put_nowait(Changed(overflow=True))
        await asyncio.sleep(0.3)
        assert "eth1.10" not in guarded.kernel.links
        guarded.holdings.released(uuid)
    await asyncio.sleep(0.3)
    assert "eth1.10" not in guarded.kernel.links


async def test_the_second_repair_waits_so_that_two_hands_do_not_fight_for_ever(guarded: Guarded) -> None:
    """One second, then two, up to a minute."""
    changed = Changed(names=frozenset({"eth1.10"}))
    for _ in range(2):
        guarded.kernel.links.remove("eth1.10")
        guarded.events.put_nowait(changed)
        started = asyncio.get_running_loop().time()
        await next_report(guarded)
    assert asyncio.get_running_loop().time() - started > 0.8


async def test_what_cannot_be_repaired_is_reported_and_leaves_the_digest_until_it_is(guarded: Guarded) -> None:
    """Then the manager sees that this host lacks it."""
    uuid = guarded.want.network.uuid
    nic = guarded.kernel.links.remove("eth1")
    guarded.events.put_nowait(Changed(names=frozenset({"eth1"})))
    error = (await next_report(guarded)).error
    assert error is not None
    assert error.code == "PRECONDITION_FAILED"
    assert guarded.holdings.digest() == holdings_digest([])
    guarded.kernel.links.put(nic)
    async with asyncio.timeout(5):
        while guarded.holdings.digest() != holdings_digest([(uuid, 1)]):  # noqa: ASYNC110 - nothing signals it
            await asyncio.sleep(0.05)


async def test_a_device_of_ours_that_nothing_needs_is_found_by_the_sweep_and_goes(guarded: Guarded) -> None:
    """It is no port and has no wanted name: only its mark tells."""
    owner = guarded.want.network.uuid
    guarded.kernel.links.put(Link("stray", "vlan", owner, 1, index=99, parent="eth1"))
    drift = await next_report(guarded)
    assert drift.repaired
    assert [(one.device, one.desired) for one in drift.differences] == [("stray", "absent")]
    assert "stray" not in guarded.kernel.links


async def test_drift_that_is_only_reported_is_told_once_for_each_set_of_differences(reporting: Guarded) -> None:
    """Again when it is another, and when it is gone; the host is left alone, and the digest says that all is well."""
    kernel, uuid = reporting.kernel, reporting.want.network.uuid
    changed = Changed(names=frozenset({"br_eth1_10"}))
    told = []
    applied = len(kernel.applied)
    sound = kernel.links["br_eth1_10"]
    for link in (with_values(sound, mtu=1400), with_values(sound, mtu=1300, up=False), sound):
        kernel.links.put(link)
        reporting.events.put_nowait(changed)
        told.append(await next_report(reporting))
        await asyncio.sleep(0.3)  # a sweep
    assert [sorted(one.attribute for one in drift.differences) for drift in told] == [["mtu"], ["mtu", "up"], []]
    assert {(drift.policy, drift.repaired, drift.error, drift.storm) for drift in told} == {
        ("report", False, None, False)
    }
    assert reporting.reports.empty()
    assert len(kernel.applied) == applied
    assert reporting.holdings.digest() == holdings_digest([(uuid, 1)])


async def test_what_is_only_reported_is_repaired_by_a_command_and_told_as_gone(reporting: Guarded) -> None:
    """A sync realizes: the manager asked for it."""
    reporting.kernel.links.remove("eth1.10")
    reporting.events.put_nowait(Changed(overflow=True))
    assert (await next_report(reporting)).differences
    async with reporting.lanes.enter(reporting.want.network.uuid):
        await reporting.realize()
    reporting.events.put_nowait(Changed(names=frozenset({"eth1.10"})))
    assert (await next_report(reporting)).differences == ()


async def test_from_the_third_repair_on_it_is_a_storm(guarded: Guarded) -> None:
    """The report says so, with the count."""
    guarded.fights.patient = False
    told = []
    for _ in range(4):
        guarded.kernel.links.remove("eth1.10")
        guarded.events.put_nowait(Changed(names=frozenset({"eth1.10"})))
        told.append(await next_report(guarded))
    assert [(drift.repaired, drift.storm, drift.repairs) for drift in told] == [
        (True, False, 1),
        (True, False, 2),
        (True, True, 3),
        (True, True, 4),
    ]


async def test_the_end_of_a_storm_is_told(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the sweep, without differences."""
    monkeypatch.setattr(guarded.fights, "forget_old", list)
    over = await next_report(guarded)
    assert (over.differences, over.repaired, over.storm) == ((), True, False)


async def test_a_thousand_networks_at_once_are_repaired_together(
    nic: Link, network: Callable[..., L2NetworkInventory]
) -> None:
    """With few looks at the kernel, however many networks; each is told once."""
    one = Guarded(nic, network(vlan=1))
    wants = [L2OnHost(1, network(vlan=vlan), "eth1") for vlan in range(2, 1002)]
    await asyncio.gather(*(one.backends.of(want).realize(want) for want in wants))
    for want in wants:
        one.holdings.realized(want)
    names = frozenset(f"eth1.{want.network.own_fields()['vlan']}" for want in wants)
    for name in names:
        one.kernel.links.remove(name)
    looks = 0
    observe = one.kernel.observe

    async def counted(*look: Any) -> Any:
        nonlocal looks
        looks += 1
        return await observe(*look)

    one.kernel.observe = counted  # type: ignore[method-assign]
    task = asyncio.create_task(one.guard.run(one.changes()))
    one.events.put_nowait(Changed(names=names))
    async with asyncio.timeout(30):
        told = [await one.reports.get() for _ in wants]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert {drift.uuid for drift in told} == {want.network.uuid for want in wants}
    assert all(drift.repaired for drift in told)
    assert names <= set(one.kernel.links)
    assert looks < 100


async def test_a_network_that_changes_without_end_does_not_starve_another(
    guarded: Guarded, network: Callable[..., L2NetworkInventory]
) -> None:
    """Each is looked at in its turn."""
    other = L2OnHost(1, network(vlan=11), "eth1")
    await guarded.backends.of(other).realize(other)
    guarded.holdings.realized(other)
    guarded.kernel.links.remove("eth1.11")
    for number in range(2000):
        guarded.events.put_nowait(Changed(names=frozenset({"eth1.10" if number != 1000 else "eth1.11"})))
    assert (await next_report(guarded)).uuid == other.network.uuid


async def test_a_nic_that_many_networks_share_and_that_changes_often_costs_few_looks(
    guarded: Guarded, network: Callable[..., L2NetworkInventory], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change that concerns one network alone is looked at at once all the same."""
    monkeypatch.setattr(drift, "_MANY_PAUSE_SECONDS", 3600.0)
    wants = [L2OnHost(1, network(vlan=vlan), "eth1") for vlan in range(11, 80)]
    await asyncio.gather(*(guarded.backends.of(want).realize(want) for want in wants))
    for want in wants:
        guarded.holdings.realized(want)
    looks: list[int] = []
    backend = guarded.backends.of(guarded.want)
    check = backend.check

    async def counted(want: L2OnHost, *action: Any) -> Any:
        looks.append(want.generation)
        return await check(want, *action)

    monkeypatch.setattr(backend, "check", counted)
    monkeypatch.setattr(guarded.guard, "_sweep_seconds", 3600.0)
    await asyncio.sleep(0.3)  # the sweep that was begun
    looks.clear()
    for _ in range(50):
        guarded.events.put_nowait(Changed(names=frozenset({"eth1"})))
        await asyncio.sleep(0.005)
    assert len(looks) == 70
    guarded.kernel.links.remove("eth1.11")
    guarded.events.put_nowait(Changed(names=frozenset({"eth1.11"})))
    assert (await next_report(guarded)).uuid == wants[0].network.uuid


async def test_changes_come_from_several_sources_and_a_plugins_may_fail(
    nic: Link, network: Callable[..., L2NetworkInventory]
) -> None:
    """One that crashes and one that ends are done without; the others go on."""
    one = Guarded(nic, network(vlan=10))
    await one.realize()
    more: asyncio.Queue[Changed] = asyncio.Queue()

    async def crashing() -> AsyncIterator[Changed]:
        yield Changed()
        raise OSError("no database")

    async def ending() -> AsyncIterator[Changed]:
        yield Changed()

    async def telling() -> AsyncIterator[Changed]:
        while True:
            yield await more.get()

    task = asyncio.create_task(one.guard.run(one.changes(), crashing(), ending(), telling()))
    for source in (more, one.events):
        one.fights.patient = False
        one.kernel.links.remove("eth1.10")
        source.put_nowait(Changed(names=frozenset({"eth1.10"})))
        assert (await next_report(one)).repaired
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_network_of_another_shape_is_watched_by_its_new_devices(
    guarded: Guarded, network: Callable[..., L2NetworkInventory]
) -> None:
    """And one that was released by none."""
    index = WatchIndex(guarded.backends, guarded.holdings)
    uuid = guarded.want.network.uuid
    assert index.concerned_by(Changed(names=frozenset({"eth1.10"}))) == {uuid}
    guarded.holdings.realized(replace(guarded.want, network=network(uuid, vlan=11)))
    assert index.concerned_by(Changed(names=frozenset({"eth1.10"}))) == set()
    assert index.concerned_by(Changed(names=frozenset({"eth1.11"}))) == {uuid}
    assert index.concerned_by(Changed(owners=frozenset({uuid}))) == {uuid}
    guarded.holdings.released(uuid)
    assert index.concerned_by(Changed(frozenset({"eth1"}), frozenset({uuid}), overflow=True)) == set()


async def test_a_device_that_lost_its_mark_while_we_looked_is_ours_still(guarded: Guarded) -> None:
    """By its index; one of the same name that another made is not."""
    links = guarded.kernel.links
    await guarded.links.observe()
    links.put(with_values(links["br_eth1_10"], owner=None, generation=None))
    guarded.events.put_nowait(Changed(names=frozenset({"br_eth1_10"})))
    assert (await next_report(guarded)).repaired
    assert links["br_eth1_10"].owner == guarded.want.network.uuid
    guarded.fights.patient = False
    links.put(with_values(links["br_eth1_10"], owner=None, generation=None, index=4000))
    guarded.events.put_nowait(Changed(names=frozenset({"br_eth1_10"})))
    error = (await next_report(guarded)).error
    assert error is not None
    assert error.code == "CONFLICT"
