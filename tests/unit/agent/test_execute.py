"""Doing a plan: all of it, or nothing."""

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import replace
from uuid import uuid4

import pytest

from viaduct_agent.links.host import HostLinks
from viaduct_agent.links.kernel import EVERYTHING, Look
from viaduct_agent.links.model import DelLink, Desired, Link
from viaduct_agent.links.table import LinkTable
from viaduct_agent.testing import FakeKernel
from viaduct_common.errors import BackendFailed, InUse

from .test_plan import NIC, OTHER, OURS, bridge, novlan_network, vlan_network  # isort: skip


def plain(links: Mapping[str, Link]) -> dict[str, Link]:
    """Without indexes: a link made again has another."""
    return {name: replace(link, index=0) for name, link in links.items()}


DOWN = replace(NIC, up=False)
CASES = [(vlan_network(), 3), (novlan_network(), 3)]


@pytest.mark.parametrize(("desired", "steps"), CASES)
async def test_realize_check_release_leave_the_host_as_it_was(desired: Desired, steps: int) -> None:
    """Twice realized is once realized, and after the release only the NIC stays up."""
    kernel = FakeKernel([DOWN])
    host = HostLinks(kernel)

    assert not (await host.check(desired)).present
    assert len(await host.realize(desired)) == steps
    assert await host.realize(desired) == ()
    checked = await host.check(desired)
    assert (checked.present, checked.differences, checked.steps) == (True, (), ())
    await host.release(OURS, "eth1")
    assert await host.release(OURS, "eth1") == ()
    assert plain(kernel.links) == plain({"eth1": replace(DOWN, up=True)})


@pytest.mark.parametrize(("desired", "fail_at"), [(d, n) for d, steps in CASES for n in range(steps)])
async def test_whichever_step_fails_the_host_is_as_it_was(desired: Desired, fail_at: int) -> None:
    """Undone last first."""
    kernel = FakeKernel([DOWN])
    before = dict(kernel.links)
    kernel.fail_at = fail_at

    with pytest.raises(BackendFailed) as caught:
        await HostLinks(kernel).realize(desired)
    assert caught.value.details["errno"] == 5
    assert kernel.fail_at is None  # the fault was really hit
    assert kernel.links == before


@pytest.mark.parametrize("fail_at", [0, 1])
async def test_a_release_that_fails_halfway_is_undone(fail_at: int) -> None:
    """The NIC is a port again."""
    kernel = FakeKernel([NIC])
    host = HostLinks(kernel)
    await host.realize(novlan_network())
    before = plain(kernel.links)
    kernel.fail_at = fail_at

    with pytest.raises(BackendFailed):
        await host.release(OURS, "eth1")
    assert plain(kernel.links) == before


async def test_an_undo_tolerates_what_is_gone_already() -> None:
    """A device that another hand deleted meanwhile stops no undo."""

    class Meddled(FakeKernel):
        def _do(self, step, indexes):  # type: ignore[no-untyped-def]
            if len(self.applied) == 2 and "br_eth1_10" in self.links:
                self.links.apply(DelLink(self.links["br_eth1_10"]))
            return super()._do(step, indexes)

    kernel = Meddled([DOWN])
    with pytest.raises(BackendFailed):
        await HostLinks(kernel).realize(vlan_network())
    assert plain(kernel.links) == plain({"eth1": DOWN})


async def test_a_kernel_that_says_yes_and_does_no_is_found_out() -> None:
    """After all steps the plan must be empty; what is left is in the error."""

    class Liar(FakeKernel):
        async def observe(self, look: Look = EVERYTHING) -> LinkTable:
            found = (await super().observe(look)).values()
            return LinkTable(replace(link, mtu=1499) if link.kind == "bridge" else link for link in found)

    with pytest.raises(BackendFailed) as caught:
        await HostLinks(Liar([NIC])).realize(vlan_network())
    assert caught.value.details["step"] == "verify"
    assert caught.value.details["differences"][0]["attribute"] == "mtu"


async def test_check_is_strictly_read_only() -> None:
    """Nothing is applied, whatever is wrong."""
    kernel = FakeKernel([DOWN, bridge("br_eth1", owner=OTHER)])
    host = HostLinks(kernel)
    checked = await host.check(novlan_network())
    assert checked.refusal is not None
    await host.check(vlan_network())
    await host.check_release(OTHER)
    assert kernel.applied == []


async def test_a_realize_waits_for_a_few_releases_at_most() -> None:
    """Two hundred releases take ten seconds; a new network must not wait for them."""
    host, order = HostLinks(FakeKernel([NIC])), []

    async def noted(name: str, work: Awaitable[object]) -> None:
        await work
        order.append(name)

    releases = [noted("release", host.release(uuid4())) for _ in range(10)]
    await asyncio.gather(*releases, noted("realize", host.realize(vlan_network())))
    assert order.index("realize") <= 4


async def test_release_in_use_changes_nothing() -> None:
    """The tap stays, so does the bridge."""
    kernel = FakeKernel([NIC])
    host = HostLinks(kernel)
    await host.realize(novlan_network())
    kernel.links.put(Link("vnet0", "tun", index=99, master="br_eth1"))
    before = dict(kernel.links)
    with pytest.raises(InUse):
        await host.release(OURS, "eth1")
    assert kernel.links == before
