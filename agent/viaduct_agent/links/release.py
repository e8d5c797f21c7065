"""The way back: which steps take an L2 network off a host."""

from collections.abc import Mapping
from uuid import UUID

from viaduct_agent.links.carrying import give_back, home_of, own, reasons, refuse, stands_for
from viaduct_agent.links.entries import Member
from viaduct_agent.links.kinds import VLAN
from viaduct_agent.links.marks import SHARED
from viaduct_agent.links.model import DelLink, Link, SetLink, Step, is_bridge, with_values
from viaduct_agent.links.plan import leave_vlans
from viaduct_agent.links.preconditions import in_use
from viaduct_agent.links.table import LinkTable


def plan_release(
    owner: UUID, actual: Mapping[str, Link], uplink: str | None = None, *, force: bool = False
) -> tuple[Step, ...]:
    """Return the steps that take every device of `owner` away; `actual` is a dump of all links.

    The host's own NIC is given back first (`nomaster`): the network is isolated at once, and the slow deletion of
    the bridge follows. All addresses and routes of the bridge go to the NIC, those that were put on it meanwhile
    included. Without `uplink` (a leftover of which only the mark is known) the NIC is told by its MAC, which the bridge
    shares. A shared bridge goes with the last network on it.

    Raises:
        InUse: ports that we did not make (VM taps), or links on top, are there and `force` is not set.
        PreconditionFailed: the bridge has addresses or routes that cannot be moved, and `force` is not set: with it
            addresses are moved all the same, and routes with several next hops are lost.
    """
    table = LinkTable.of(actual)
    owned = table.owned_by(owner)
    steps: list[Step] = []
    bridges, idle = _going_bridges(owner, owned, table)
    freed = [
        port for bridge in bridges for port in table.ports_of(bridge.name)
        if port.owner is None and stands_for(bridge, port, uplink)
    ]  # fmt: skip
    if not force:
        names = frozenset(link.name for link in (*owned, *idle))
        users = _users(owner, owned, bridges, uplink, table)
        if users:
            raise in_use(users, names)
        for bridge in bridges:
            why = reasons(None, bridge)
            if own(bridge) and why and home_of(bridge, table, uplink) is not None:
                raise refuse(bridge, why)
    steps += _freeing(bridges, freed, table, uplink)
    steps += [step for step in leave_vlans(owned, table) if not _gone(step.device, freed, idle)]
    steps += [DelLink(link) for link in owned if not is_bridge(link)]
    steps += [DelLink(link) for link in bridges]
    return tuple(steps)


def carried_by(owner: UUID, table: LinkTable, uplink: str | None = None) -> frozenset[str]:
    """The bridges that a release would take away, and the NICs that they stand for: what is on them must be known."""
    bridges, _ = _going_bridges(owner, table.owned_by(owner), table)
    homes = [(bridge, home_of(bridge, table, uplink)) for bridge in bridges]
    return frozenset(link.name for bridge, home in homes if home is not None for link in (bridge, home))


def _going_bridges(owner: UUID, owned: list[Link], table: LinkTable) -> tuple[list[Link], list[Link]]:
    """(all that go, those of them that networks shared)."""
    idle = [bridge for bridge in _shared_below(owned, table) if not _other_networks(bridge, owner, table)]
    return [link for link in owned if is_bridge(link)] + idle, idle


def _freeing(bridges: list[Link], freed: list[Link], table: LinkTable, uplink: str | None) -> list[Step]:
    steps: list[Step] = []
    homes: set[str] = set()
    for bridge in bridges:
        home = home_of(bridge, table, uplink)
        if home is not None:
            steps += give_back(bridge, home)
            homes.add(home.name)
    return steps + [SetLink(link, with_values(link, master=None, port=())) for link in freed if link.name not in homes]


def _shared_below(owned: list[Link], table: LinkTable) -> list[Link]:
    below = {link.parent for link in owned if link.parent is not None}
    return [table[name] for name in sorted(below) if name in table and table[name].owner == SHARED]


def _other_networks(bridge: Link, owner: UUID, table: LinkTable) -> bool:
    return any(link.owner not in {owner, None} for link in table.standing_on(bridge.name))


def _users(owner: UUID, owned: list[Link], bridges: list[Link], uplink: str | None, table: LinkTable) -> list[str]:
    """Links of others that would be unplugged, or deleted with their parent."""
    going = {link.name for link in (*owned, *bridges)}
    users = {
        link.name for name in going for link in table.standing_on(name)
        if link.owner != owner and link.name not in going
    } | {
        port.name for bridge in bridges for port in table.ports_of(bridge.name)
        if port.owner != owner and not (port.owner is None and stands_for(bridge, port, uplink))
    }  # fmt: skip
    for link in owned:  # ports of a shared bridge that carry this network's VLAN
        bridge = table.get(link.parent or "")
        if link.kind == VLAN and bridge is not None and bridge.owner == SHARED:
            vlan = Member(link.option("vlan_id"))
            users |= {
                port.name for port in table.ports_of(bridge.name)
                if vlan in (port.entries or ()) and not stands_for(bridge, port, uplink)
            }  # fmt: skip
    return sorted(users)


def _gone(device: str, freed: list[Link], idle: list[Link]) -> bool:
    return any(link.name == device for link in (*freed, *idle))


def plan_unused(actual: Mapping[str, Link]) -> tuple[Step, ...]:
    """The steps that take away shared bridges on which no network stands and of which no stranger is a port."""
    table = LinkTable.of(actual)
    steps: list[Step] = []
    for bridge in table.owned_by(SHARED):
        ports = table.ports_of(bridge.name)
        if table.standing_on(bridge.name) or not all(stands_for(bridge, port, None) for port in ports):
            continue
        for port in ports:
            steps += give_back(bridge, port)
        steps.append(DelLink(bridge))
    return tuple(steps)
