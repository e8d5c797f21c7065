"""The way back: which steps take an L2 network off a host."""

from collections.abc import Mapping
from uuid import UUID

from viaduct_agent.links.entries import Member
from viaduct_agent.links.kinds import VLAN
from viaduct_agent.links.marks import SHARED
from viaduct_agent.links.model import DelLink, Link, SetLink, Step, is_bridge, with_values
from viaduct_agent.links.plan import leave_vlans
from viaduct_agent.links.preconditions import in_use
from viaduct_agent.links.table import LinkTable

# Kinds that take the MAC of the link below.
_STACKED = frozenset({"vlan", "macvlan", "macvtap", "ipvlan"})


def plan_release(
    owner: UUID, actual: Mapping[str, Link], uplink: str | None = None, *, force: bool = False
) -> tuple[Step, ...]:
    """Return the steps that take every device of `owner` away; `actual` is a dump of all links.

    The host's own NIC is given back first (`nomaster`): the network is isolated at once, and the slow deletion of
    the bridge follows. Without `uplink` (a leftover of which only the mark is known) the NIC is told by its MAC, which
    the bridge shares. A shared bridge goes with the last network on it.

    Raises:
        InUse: ports that we did not make (VM taps), or links on top, are there and `force` is not set.
    """
    table = LinkTable.of(actual)
    owned = table.owned_by(owner)
    steps: list[Step] = []
    idle = [bridge for bridge in _shared_below(owned, table) if not _other_networks(bridge, owner, table)]
    bridges = [link for link in owned if is_bridge(link)] + idle
    freed = [
        port for bridge in bridges for port in table.ports_of(bridge.name)
        if port.owner is None and _is_uplink(port, bridge, uplink)
    ]  # fmt: skip
    if not force:
        names = frozenset(link.name for link in (*owned, *idle))
        users = _users(owner, owned, bridges, uplink, table)
        if users:
            raise in_use(users, names)
    steps += [SetLink(link, with_values(link, master=None, port=())) for link in freed]
    steps += [step for step in leave_vlans(owned, table) if not _gone(step.device, freed, idle)]
    steps += [DelLink(link) for link in owned if not is_bridge(link)]
    steps += [DelLink(link) for link in bridges]
    return tuple(steps)


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
        if port.owner != owner and not (port.owner is None and _is_uplink(port, bridge, uplink))
    }  # fmt: skip
    for link in owned:  # ports of a shared bridge that carry this network's VLAN
        bridge = table.get(link.parent or "")
        if link.kind == VLAN and bridge is not None and bridge.owner == SHARED:
            vlan = Member(link.option("vlan_id"))
            users |= {
                port.name for port in table.ports_of(bridge.name)
                if vlan in (port.entries or ()) and not _is_uplink(port, bridge, uplink)
            }  # fmt: skip
    return sorted(users)


def _is_uplink(link: Link, bridge: Link, uplink: str | None) -> bool:
    if uplink is not None:
        return link.name == uplink
    # A stranger's VLAN device on the NIC has the same MAC; it is a user of the bridge like any other.
    return link.mac is not None and link.mac == bridge.mac and link.kind not in _STACKED


def _gone(device: str, freed: list[Link], idle: list[Link]) -> bool:
    return any(link.name == device for link in (*freed, *idle))


def plan_unused(actual: Mapping[str, Link]) -> tuple[Step, ...]:
    """The steps that take away shared bridges on which no network stands and of which no stranger is a port."""
    table = LinkTable.of(actual)
    steps: list[Step] = []
    for bridge in table.owned_by(SHARED):
        ports = table.ports_of(bridge.name)
        if table.standing_on(bridge.name) or not all(_is_uplink(port, bridge, None) for port in ports):
            continue
        steps += [SetLink(port, with_values(port, master=None, port=())) for port in ports]
        steps.append(DelLink(bridge))
    return tuple(steps)
