"""Taking the host's own addresses and routes from its NIC to the bridge that the NIC becomes a port of, and back.

Make before break: all of it is on the new device before any of it leaves the old one. The bridge has the NIC's MAC, so
neighbours need not be told.
"""

from collections.abc import Iterable
from uuid import UUID

from viaduct_agent.links.addresses import NOTHING, Address, Route, Thing, from_router, in_order, renewed
from viaduct_agent.links.kernel import Look
from viaduct_agent.links.kinds import BRIDGE
from viaduct_agent.links.model import (
    AddEntry,
    AddLink,
    DelEntry,
    DelLink,
    Desired,
    Link,
    SetLink,
    Step,
    inverse,
    is_bridge,
    with_values,
)
from viaduct_agent.links.table import LinkTable
from viaduct_common.errors import PreconditionFailed

# `IFLA_GROUP` of a bridge whose move nobody confirmed yet ("VDCT"): remembered where the move is, in the kernel, so
# that an agent that starts after a crash knows.
UNCONFIRMED = 0x5644_4354
# Kinds that take the MAC of the link below.
STACKED = frozenset({"vlan", "macvlan", "macvtap", "ipvlan"})


def carriers(desired: Desired, uplink: Link | None, table: LinkTable) -> list[Link]:
    """The devices whose addresses and routes the wanted bridge takes over: the NIC, and a bridge of ours that it is to
    leave. From a NIC that is a port already only what can be moved: what cannot, has no effect there."""
    if uplink is None or desired.uplink_master is None:
        return []
    links = [uplink]
    master = table.get(uplink.master or "")
    if master is not None and master.name != desired.uplink_master and master.owner == desired.owner:
        links.append(master)
    found = [link for link in links if own(link)]
    return [link for link in found if uplink.master != desired.uplink_master or not reasons(desired, link)]


def own(link: Link) -> tuple[Thing, ...]:
    return () if link.inet is None else link.inet.own


def reasons(desired: Desired | None, link: Link) -> list[str]:
    """Why what the host has on `link` cannot be moved safely; with `desired` to the bridge wanted there."""
    inet = link.inet or NOTHING
    found = list(inet.obstacles)
    if link.kind != BRIDGE and any(from_router(thing) for thing in inet.own):
        found.append(f"routers configure it, and a port does not hear them (net.ipv6.conf.{link.name}.accept_ra)")
    found += [
        f"a DHCP client renews {thing.text} there"
        for thing in inet.own if isinstance(thing, Address) and renewed(thing)
    ]  # fmt: skip
    for bridge in () if desired is None else desired.links:
        if bridge.name == desired_master(desired) and filters_untagged(bridge):
            found.append(f"{bridge.name} lets no frames without a VLAN tag through")
    return found


def desired_master(desired: Desired | None) -> str | None:
    return None if desired is None else desired.uplink_master


def filters_untagged(bridge: Link) -> bool:
    return bool(bridge.option("vlan_filtering")) and bridge.option("default_pvid") == 0


def refuse(link: Link, why: list[str]) -> PreconditionFailed:
    texts = [described(thing) for thing in own(link)]
    text = f"{link.name} carries the host's own {', '.join(texts)}, which cannot be moved: {'; '.join(why)}"
    addresses = [] if link.inet is None else list(link.inet.texts)
    return PreconditionFailed(text, device=link.name, addresses=addresses, reasons=why)


def described(thing: Thing) -> str:
    return thing.text if isinstance(thing, Address) else f"route to {thing.to}"


def moves(sources: Iterable[Link], onto: Link) -> tuple[list[Step], list[Step]]:
    """(what `onto` gets, what the sources lose). With anything of IPv6 it gets the link-local address, too: its own
    would be silent at first, and routers are asked from it."""
    sources = list(sources)
    there = (onto.inet or NOTHING).things
    coming: list[Thing] = []
    for source in sources:
        leaving = _leaving(source)
        if any(thing.version == 6 for thing in leaving):
            leaving = (*(source.inet or NOTHING).link_local, *leaving)
        coming += [thing for thing in leaving if thing not in there and thing not in coming]
    adding: list[Step] = [AddEntry(onto.name, thing, is_bridge(onto)) for thing in in_order(coming)]
    taking: list[Step] = [
        DelEntry(source.name, thing, is_bridge(source))
        for source in sources
        for thing in reversed(in_order(_leaving(source)))
    ]
    return adding, taking


def is_link_local(step: Step) -> bool:
    return isinstance(step, AddEntry) and isinstance(step.entry, Address) and step.entry.is_link_local


def _leaving(source: Link) -> tuple[Thing, ...]:
    """What routers told a bridge stays: it goes with the bridge, and they tell the NIC what it needs."""
    return tuple(thing for thing in own(source) if not from_router(thing))


def give_back(bridge: Link, nic: Link) -> list[Step]:
    """The NIC gets all that the bridge has, leaves it, and only then the bridge loses it. Routes come after it left:
    while it is a port it does not hear what neighbours answer, and would ask again only a second later."""
    adding, taking = moves([bridge] if own(bridge) else [], nic)
    routes = [step for step in adding if isinstance(step, AddEntry) and isinstance(step.entry, Route)]
    leaving: list[Step] = [] if nic.master is None else [SetLink(nic, with_values(nic, master=None, port=()))]
    return [*(step for step in adding if step not in routes), *leaving, *routes, *taking]


def home_of(bridge: Link, table: LinkTable, uplink: str | None = None) -> Link | None:
    """The host's NIC that the bridge stands for: the port that is one, or, if another hand unplugged it, the device
    that is named `uplink` or has the bridge's MAC. None for a bridge that stands for no NIC: its own port is a VLAN
    device or a tunnel."""
    ports = table.ports_of(bridge.name)
    found = next((port for port in ports if port.owner is None and stands_for(bridge, port, uplink)), None)
    if found is not None or any(port.owner is not None for port in ports) or filters_untagged(bridge):
        return found
    return next(
        (
            link for link in table.values()
            if link.owner is None and link.master is None and link.kind != BRIDGE and stands_for(bridge, link, uplink)
        ),
        None,
    )  # fmt: skip


def stands_for(bridge: Link, link: Link, uplink: str | None) -> bool:
    if uplink is not None:
        return link.name == uplink
    # A stranger's VLAN device on the NIC has the same MAC; it is a user of the bridge like any other.
    return link.mac is not None and link.mac == bridge.mac and link.kind not in STACKED


def unconfirmed(table: LinkTable) -> list[Link]:
    """Bridges of ours whose move nobody confirmed."""
    return [link for link in table.values() if link.group == UNCONFIRMED and link.owner is not None]


def look_at_moved(table: LinkTable) -> Look:
    """At what is on these bridges and on their NICs."""
    pairs = [(bridge, home_of(bridge, table)) for bridge in unconfirmed(table)]
    return Look(inet_of=frozenset(link.name for bridge, nic in pairs if nic is not None for link in (bridge, nic)))


def confirming(bridge: Link) -> Step:
    return SetLink(bridge, with_values(bridge, group=0))


def plan_undo(table: LinkTable) -> tuple[tuple[Step, ...], frozenset[UUID]]:
    """Steps that undo every unconfirmed move, and the networks that it was for. A bridge that others use stays, without
    the NIC."""
    steps: list[Step] = []
    owners: set[UUID] = set()
    for bridge in unconfirmed(table):
        nic = home_of(bridge, table)
        steps += [] if nic is None else give_back(bridge, nic)
        others = [port for port in table.ports_of(bridge.name) if nic is None or port.name != nic.name]
        lone = not others and not table.standing_on(bridge.name)
        steps.append(DelLink(bridge) if lone else confirming(bridge))
        owners |= {bridge.owner} if bridge.owner is not None else set()
    return tuple(steps), frozenset(owners)


def undoing(steps: Iterable[Step], now: LinkTable) -> list[Step]:
    """Undo steps that were done a while ago, on what the host has become: a new device that others use now stays."""
    back: list[Step] = []
    for step in reversed(list(steps)):
        if not isinstance(step, AddLink):
            back += inverse(step)
            continue
        link = now.get(step.link.name)
        if link is not None and link.owner == step.link.owner:
            others = {
                user.name
                for user in (*now.ports_of(link.name), *now.standing_on(link.name))
                if user.owner != link.owner
            }
            gone = {one.device for one in back if isinstance(one, DelLink | SetLink)}
            back.append(confirming(link) if others - gone else DelLink(link))
    return back
