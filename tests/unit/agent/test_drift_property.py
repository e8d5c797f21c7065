"""Whatever is changed of our links: after the events that tell it, nothing is left to do."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from viaduct_agent.backends.api import L2OnHost, Registry
from viaduct_agent.backends.linkbackend import LinkBackend, bridge_link
from viaduct_agent.drift import DriftGuard
from viaduct_agent.driftreports import Drift
from viaduct_agent.holdings import Holdings
from viaduct_agent.lanes import Lanes
from viaduct_agent.links.entries import EVERYBODY, Entry, Forwarding, Neighbour
from viaduct_agent.links.host import HostLinks
from viaduct_agent.links.kinds import VXLAN, options
from viaduct_agent.links.model import AddEntry, DelEntry, DelLink, Desired, Link, with_values
from viaduct_agent.links.watch import Changed
from viaduct_agent.testing import FakeKernel
from viaduct_common.messages.l2 import L2NetworkInventory

GUEST, PEER, STRANGER = "02:00:00:00:00:aa", "192.0.2.7", "02:00:00:00:00:99"
NETWORK = L2NetworkInventory(
    uuid=UUID(int=7), name="net", zone_uuid=UUID(int=8), physical_interface="eth1", type="L2NoVlanNetwork", mtu=1400,
    bridge_name="br", device_names=["br"], created_at=datetime(2026, 1, 1, tzinfo=UTC),
    updated_at=datetime(2026, 1, 1, tzinfo=UTC),
)  # fmt: skip
OURS = ("br", "vx")
Change = Callable[[FakeKernel], Changed]


class TunnelBackend(LinkBackend):
    """A bridge with a VXLAN device."""

    l2_type = "L2NoVlanNetwork"

    def desired_links(self, want: L2OnHost) -> Desired:
        neighbours: frozenset[Entry] = frozenset({Neighbour("10.0.0.5", GUEST)})
        bridge = with_values(bridge_link(want), mac="02:00:00:00:00:02", entries=neighbours)
        tunnel = Link(
            "vx", VXLAN, want.network.uuid, want.generation, mtu=1400, mac="02:00:00:00:00:01", master="br", up=True,
            options=options(vni=5, learning=False), port=options(isolated=True, neigh_suppress=True),
            entries=frozenset({Forwarding(EVERYBODY, PEER), Forwarding(GUEST, PEER), Forwarding(GUEST)}),
        )  # fmt: skip
        return Desired(want.network.uuid, want.generation, None, (bridge, tunnel))


def deletion(name: str) -> Change:
    def change(kernel: FakeKernel) -> Changed:
        kernel.links.apply(DelLink(kernel.links[name]))
        return Changed(names=frozenset({name}))

    return change


def setting(name: str, **values: object) -> Change:
    def change(kernel: FakeKernel) -> Changed:
        kernel.links.put(with_values(kernel.links[name], **values))
        return Changed(names=frozenset({name}))

    return change


def renaming(name: str) -> Change:
    def change(kernel: FakeKernel) -> Changed:
        link = kernel.links.remove(name)
        kernel.links.put(with_values(link, name="renamed"))
        for port in kernel.links.ports_of(name):
            kernel.links.put(with_values(port, master="renamed"))
        marked = frozenset({(NETWORK.uuid, "renamed")})
        return Changed(frozenset({name, "renamed"}), frozenset({NETWORK.uuid}), marked=marked)

    return change


def entry(name: str, number: int, added: Entry) -> Change:
    """One of those that are there goes, or, beyond them, another comes."""

    def change(kernel: FakeKernel) -> Changed:
        present = sorted(kernel.links[name].entries or (), key=repr)
        gone = number < len(present)
        kernel.links.apply(DelEntry(name, present[number]) if gone else AddEntry(name, added))
        return Changed(names=frozenset({name}))

    return change


STRAYS: list[Entry] = [Forwarding(STRANGER, PEER), Forwarding(EVERYBODY, "192.0.2.9"), Forwarding(STRANGER)]
NAMES = st.sampled_from(OURS)
CHANGES = st.one_of(
    st.builds(deletion, NAMES),
    st.builds(renaming, NAMES),
    st.builds(lambda name, mtu: setting(name, mtu=mtu), NAMES, st.integers(68, 1399)),
    st.builds(lambda name: setting(name, mac=STRANGER), NAMES),
    st.builds(lambda name: setting(name, up=False), NAMES),
    st.builds(lambda name: setting(name, owner=None, generation=None), NAMES),
    st.builds(lambda name, generation: setting(name, generation=generation), NAMES, st.integers(2, 9)),
    st.sampled_from([None, "other"]).map(lambda master: setting("vx", master=master, port=())),
    st.booleans().map(lambda on: setting("vx", port=options(isolated=on, neigh_suppress=not on))),
    st.integers(1, 9).map(lambda vni: setting("vx", options=options(vni=vni + 5, learning=False))),
    st.just(setting("br", options=options(stp=True, forward_delay=0))),
    st.just(setting("br", options=options(stp=False, forward_delay=1500))),
    st.builds(lambda number, added: entry("vx", number, added), st.integers(0, 3), st.sampled_from(STRAYS)),
    st.builds(lambda number: entry("br", number, Neighbour("10.0.0.6", GUEST)), st.integers(0, 1)),
)


@settings(max_examples=80, deadline=None)
@given(CHANGES)
def test_after_any_one_change_and_its_event_the_plan_is_empty_again(change: Change) -> None:
    """The other bridge, which is not ours, is as it was."""
    asyncio.run(_repaired(change))


async def _repaired(change: Change) -> None:
    kernel = FakeKernel([Link("other", "bridge")])
    links = HostLinks(kernel)
    holdings = Holdings()
    backends = Registry([TunnelBackend], links)
    want = L2OnHost(3, NETWORK, "eth1")
    backend = backends.of(want)
    events: asyncio.Queue[Changed] = asyncio.Queue()
    reports: asyncio.Queue[Drift] = asyncio.Queue()
    guard = DriftGuard(backends, holdings, Lanes(), reports.put_nowait, links=links)

    async def changes() -> AsyncIterator[Changed]:
        while True:
            yield await events.get()

    await backend.realize(want)
    holdings.realized(want)
    others = kernel.links["other"]
    task = asyncio.create_task(guard.run(changes()))
    try:
        events.put_nowait(change(kernel))
        drift = await asyncio.wait_for(reports.get(), 5) if (await backend.check(want)).steps else None
        assert drift is None or drift.repaired, drift
        checked = await backend.check(want)
        assert (checked.steps, checked.differences, checked.refusal) == ((), (), None)
        assert set(kernel.links) == {*OURS, "other"}
        assert kernel.links["other"] == others
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
