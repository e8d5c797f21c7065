"""Drift on the running kernel: told by events, repaired, reported."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable

import pytest

from viaduct_agent.backends.api import L2OnHost, Registry
from viaduct_agent.backends.novlan import NoVlanBackend
from viaduct_agent.drift import DriftGuard
from viaduct_agent.driftreports import Drift
from viaduct_agent.holdings import Holdings
from viaduct_agent.lanes import Lanes
from viaduct_agent.links.host import HostLinks
from viaduct_agent.links.netlink import Netlink
from viaduct_agent.links.watch import link_changes
from viaduct_common.messages.l2 import L2NetworkInventory

from .conftest import Namespace

pytestmark = pytest.mark.lab


class Watched:
    def __init__(self, netlink: Netlink, network: L2NetworkInventory) -> None:
        self.netlink = netlink
        self.want = L2OnHost(1, network, "eth1")
        links = HostLinks(netlink)
        self.backends = Registry([NoVlanBackend], links)
        self.holdings = Holdings()
        self.reports: asyncio.Queue[Drift] = asyncio.Queue()
        self.guard = DriftGuard(self.backends, self.holdings, Lanes(), self.reports.put_nowait, links=links)


@pytest.fixture
async def watched(netlink: Netlink, network: Callable[..., L2NetworkInventory]) -> AsyncIterator[Watched]:
    one = Watched(netlink, network())
    task = asyncio.create_task(one.guard.run(link_changes(netlink)))
    await asyncio.sleep(0.05)  # the event socket is bound in the worker thread
    await one.backends.get("L2NoVlanNetwork").realize(one.want)
    one.holdings.realized(one.want)
    yield one
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    "command",
    ["link set br_eth1 down", "link del br_eth1", "link set eth1 nomaster", "link set br_eth1 name other"],
)
async def test_what_another_hand_does_is_repaired_and_reported(
    watched: Watched, namespace: Namespace, command: str
) -> None:
    """Within a moment, by the event alone: the sweep comes only after a minute."""
    namespace.ip(command)
    drift = await asyncio.wait_for(watched.reports.get(), 5)
    assert (drift.generation, drift.error, drift.repaired) == (1, None, True)
    assert drift.differences
    assert namespace.link("eth1")["master"] == "br_eth1"
    assert "UP" in namespace.link("br_eth1")["flags"]
    assert "other" not in namespace.names()


async def test_our_own_changes_and_a_vms_tap_are_no_drift(watched: Watched, namespace: Namespace) -> None:
    """Neither the realize, whose events came, nor what plugs into the bridge."""
    namespace.ip("link add vnet0 type veth peer name guest0")
    namespace.ip("link set vnet0 master br_eth1 up")
    await asyncio.sleep(0.5)
    assert watched.reports.empty()


async def test_lost_events_are_noticed(namespace: Namespace) -> None:
    """ENOBUFS is told as an overflow, and the events go on."""

    class Deaf(Netlink):
        async def event_socket(self, groups: int) -> socket.socket:
            sock = await super().event_socket(groups)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the kernel makes it its minimum
            return sock

    async with Deaf(namespace.name) as netlink:
        changes = link_changes(netlink)
        first = asyncio.create_task(anext(changes))
        await asyncio.sleep(0.05)
        for number in range(10):
            namespace.ip(f"link add t{number} type bridge")
        seen = [await first]
        async with asyncio.timeout(5):
            while not seen[-1].overflow:
                seen.append(await anext(changes))
        namespace.ip("link set t1 up")
        async with asyncio.timeout(5):
            while "t1" not in seen[-1].names:
                seen.append(await anext(changes))
        await changes.aclose()  # type: ignore[attr-defined]
