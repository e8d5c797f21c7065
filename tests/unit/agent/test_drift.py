"""The guard: found, repaired, reported; not fought over."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from viaduct_agent.backends.api import L2OnHost, Registry
from viaduct_agent.backends.vlan import VlanBackend
from viaduct_agent.drift import DriftGuard
from viaduct_agent.driftreports import Drift
from viaduct_agent.holdings import Holdings
from viaduct_agent.lanes import Lanes
from viaduct_agent.links.host import HostLinks
from viaduct_agent.links.model import Link
from viaduct_agent.links.watch import Changed
from viaduct_agent.testing import FakeKernel
from viaduct_common.digest import holdings_digest
from viaduct_common.messages.l2 import L2NetworkInventory


class Guarded:
    """A guard over one realized network, fed by hand."""

    def __init__(self, nic: Link, network: L2NetworkInventory) -> None:
        self.kernel = FakeKernel([nic])
        self.links = HostLinks(self.kernel)
        self.want = L2OnHost(1, network, "eth1")
        self.holdings, self.lanes = Holdings(), Lanes()
        self.backends = Registry([VlanBackend], self.links)
        self.reports: asyncio.Queue[Drift] = asyncio.Queue()
        self.events: asyncio.Queue[Changed] = asyncio.Queue()
        self.guard = DriftGuard(
            self.backends, self.holdings, self.lanes, self.reports.put_nowait, links=self.links, sweep_seconds=0.2
        )

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
