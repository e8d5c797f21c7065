"""Why a network cannot be built here, or not safely: asked before anything is changed."""

from viaduct_agent.links import kinds
from viaduct_agent.links.carrying import carriers, reasons, refuse
from viaduct_agent.links.kinds import BRIDGE
from viaduct_agent.links.model import Desired, Link
from viaduct_agent.links.table import LinkTable
from viaduct_common.errors import Conflict, InUse, PreconditionFailed

# A port of one of these hands its frames to it: a bridge or VLAN device on the port would see none.
_AGGREGATES = frozenset({"bond", "team", "openvswitch", "hsr"})


def check(desired: Desired, table: LinkTable) -> Link | None:
    """Return the uplink, None for a network without one.

    Raises:
        Conflict, PreconditionFailed: see `plan.plan`.
    """
    uplink = None if desired.uplink is None else _checked_uplink(desired, desired.uplink, table)
    if desired.tunnel_ip is not None:
        _check_tunnel(desired, desired.tunnel_ip, table)
    for want in desired.links:
        have = table.get(want.name)
        if have is not None and have.owner != want.owner:
            whose = "a device that is not ours" if have.owner is None else f"the L2 network {have.owner}"
            details = {"device": have.name, "owner": None if have.owner is None else str(have.owner)}
            raise Conflict(f"the name {have.name} is taken by {whose}", **details)
    return uplink


def refuse_users(desired: Desired, table: LinkTable, names: frozenset[str]) -> None:
    """Raises:
    InUse: `names` cannot go without links of others; `details.ports` names these.
    """
    spared = frozenset() if desired.uplink_master is None else frozenset({desired.uplink})
    users = sorted(
        link.name
        for name in names
        for link in (*table.ports_of(name), *table.standing_on(name))
        if link.owner != desired.owner and link.name not in spared
    )
    if users:
        raise in_use(users, names)


def in_use(users: list[str], names: frozenset[str]) -> InUse:
    return InUse(f"in use by {', '.join(users)}: {', '.join(sorted(names))}", ports=users, devices=sorted(names))


def _checked_uplink(desired: Desired, name: str, table: LinkTable) -> Link:
    uplink = table.get(name)
    if uplink is None:
        text = f"the physical interface {name} does not exist on this host"
        raise PreconditionFailed(text, device=name, field="physicalInterface")
    if uplink.owner is not None:
        text = f"{uplink.name} is a device of the L2 network {uplink.owner}, not a physical interface"
        raise PreconditionFailed(text, device=uplink.name, field="physicalInterface", owner=str(uplink.owner))
    if uplink.kind == BRIDGE:
        raise PreconditionFailed(f"{uplink.name} is itself a bridge", device=uplink.name, field="physicalInterface")
    if uplink.mac is None:
        text = f"{uplink.name} is no Ethernet device"
        raise PreconditionFailed(text, device=uplink.name, field="physicalInterface")
    _refuse_wrong_master(desired, uplink, table)
    if uplink.master != desired.uplink_master:
        for carrier in carriers(desired, uplink, table):
            why = reasons(desired, carrier)
            if why:
                raise refuse(carrier, why)
    largest = max([link.mtu for link in desired.links])
    if largest > uplink.mtu:  # the NIC's MTU is the host owner's: never ours to change
        text = f"MTU {largest} does not fit {uplink.name}, whose MTU is {uplink.mtu}"
        raise PreconditionFailed(text, device=uplink.name, mtu=uplink.mtu, wanted=largest)
    return uplink


def _refuse_wrong_master(desired: Desired, uplink: Link, table: LinkTable) -> None:
    if uplink.master is None or uplink.master == desired.uplink_master:
        return
    master = table.get(uplink.master)
    kind = None if master is None else master.kind
    if master is not None and master.owner == desired.owner:
        return  # our own bridge under another name: stale, it goes
    if desired.uplink_master is None and kind not in _AGGREGATES and not _taken_over(desired):
        return  # a VLAN device works beside a bridge: tagged frames reach it first (net/core/dev.c, vlan_do_receive)
    text = f"{uplink.name} is a port of {kind or 'device'} {uplink.master}"
    raise PreconditionFailed(text, device=uplink.name, bridge=uplink.master)


def _taken_over(desired: Desired) -> bool:
    on_uplink = [kinds.find(link.kind) for link in desired.links if link.parent == desired.uplink]
    return any(kind is not None and kind.takes_over for kind in on_uplink)


def _check_tunnel(desired: Desired, address: str, table: LinkTable) -> None:
    carrier = table.carrier_of(address)
    if carrier is None:
        text = f"no device of this host has the tunnels' address {address}"
        raise PreconditionFailed(text, field="tunnelIp", address=address)
    largest = max([link.mtu for link in desired.links])
    fits = carrier.mtu - desired.overhead
    if largest > fits:
        text = f"MTU {largest} does not fit into tunnels over {carrier.name}, whose MTU is {carrier.mtu}: {fits} does"
        raise PreconditionFailed(text, device=carrier.name, field="mtu", mtu=carrier.mtu, wanted=largest, largest=fits)
