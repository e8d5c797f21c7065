"""What to do so that a host has one L2 network, or has it no more: a pure function of wanted and actual links.

Realize, check, dry-run and drift repair are this one planner: "ok" is an empty plan.
"""

from dataclasses import replace
from typing import Any
from uuid import UUID

from viaduct_agent.links.model import BRIDGE, AddLink, DelLink, Desired, Link, Links, SetLink, Step
from viaduct_common.errors import Conflict, InUse, PreconditionFailed
from viaduct_common.messages.l2 import Difference

# A port of one of these hands its frames to it: a bridge or VLAN device on the port would see none.
_AGGREGATES = frozenset({"bond", "team", "openvswitch", "hsr"})
# Kinds that take the MAC of the link below.
_STACKED = frozenset({"vlan", "macvlan", "macvtap", "ipvlan"})
# What only a new device can change.
_FIXED = ("kind", "parent", "vlan_id")
_SETTABLE = ("mtu", "mac", "master", "up", "stp", "forward_delay", "generation")


def plan(desired: Desired, actual: Links) -> tuple[Step, ...]:
    """Return the steps that turn `actual` into `desired`; a link without our mark is never among them, but for the
    uplink, which is set up and becomes a port where the network's kind needs it.

    Args:
        desired: the network; its devices in the order of creation.
        actual: links by name. At least those of `desired.device_names`, their masters, and the ports of the bridges
            among them must be there if the host has them; more links do no harm.

    Raises:
        Conflict: a wanted name is taken by a link of another owner, or of none; `details.device` names it.
        PreconditionFailed: the uplink is missing, a bridge, a port of another bridge, carries the host's own
            addresses, or its MTU is too small; `details.device` names it.
        InUse: a device to be replaced carries links that are not ours; `details.ports` names them.
    """
    uplink = _checked_uplink(desired, actual)
    _refuse_taken_names(desired, actual)
    steps: list[Step] = []
    if not uplink.up:  # first: a VLAN device cannot be up while what it stands on is down
        steps.append(SetLink(uplink, replace(uplink, up=True)))
        uplink = replace(uplink, up=True)
    replaced: set[str] = set()
    for want in _resolved(desired, uplink):
        have = actual.get(want.name)
        if have is not None and _must_be_new(have, want, replaced):
            _refuse_users(desired, actual, frozenset({want.name}))
            replaced.add(want.name)
            steps.append(DelLink(have))
            have = None
        if have is None:
            steps.append(AddLink(want))
            replaced.add(want.name)
            continue
        if have.master in replaced:  # the kernel set it free when its master went
            have = replace(have, master=None)
        after = replace(have, **{name: getattr(want, name) for name in _SETTABLE})
        if after != have:
            steps.append(SetLink(have, after))
    if desired.uplink_master is not None:
        before = replace(uplink, master=None) if uplink.master in replaced else uplink
        if before.master != desired.uplink_master:
            steps.append(SetLink(before, replace(before, master=desired.uplink_master)))
    stale = _stale(desired, actual)
    if stale:  # last: what replaces it is in place
        _refuse_users(desired, actual, frozenset(link.name for link in stale))
        steps += [DelLink(link) for link in stale]
    return tuple(steps)


def plan_release(owner: UUID, actual: Links, uplink: str | None = None, *, force: bool = False) -> tuple[Step, ...]:
    """Return the steps that take every device of `owner` away; `actual` is a dump of all links.

    The host's own NIC is given back first (`nomaster`): the network is isolated at once, and the slow deletion of
    the bridge follows. Without `uplink` (a leftover of which only the mark is known) the NIC is told by its MAC, which
    the bridge shares.

    Raises:
        InUse: ports that we did not make (VM taps), or links on top, are there and `force` is not set.
    """
    owned = [link for link in actual.values() if link.owner == owner]
    names = frozenset(link.name for link in owned)
    bridges = {link.name: link for link in owned if link.kind == BRIDGE}
    freed = [
        link for link in actual.values()
        if link.owner is None and link.master in bridges and _is_uplink(link, bridges[link.master], uplink)
    ]  # fmt: skip
    spared = frozenset(link.name for link in freed)
    users = _users(owner, actual, names, spared)
    if users and not force:
        raise _in_use(users, names)
    steps: list[Step] = [SetLink(link, replace(link, master=None)) for link in freed]
    steps += [DelLink(link) for link in owned if link.kind != BRIDGE]
    steps += [DelLink(link) for link in bridges.values()]
    return tuple(steps)


def differences(desired: Desired, actual: Links) -> list[Difference]:
    """Return every attribute of every device that is not as `desired` says; nothing is refused here."""
    found: list[Difference] = []
    uplink = actual.get(desired.uplink)
    if uplink is None:
        found.append(Difference(device=desired.uplink, attribute="device", desired="present"))
    elif not uplink.up:
        found.append(Difference(device=uplink.name, attribute="up", desired=True, actual=False))
    if uplink is not None and desired.uplink_master not in {None, uplink.master}:
        master = desired.uplink_master
        found.append(Difference(device=uplink.name, attribute="master", desired=master, actual=uplink.master))
    for want in _resolved(desired, uplink):
        have = actual.get(want.name)
        if have is None:
            found.append(Difference(device=want.name, attribute="device", desired=want.kind))
            continue
        for name in ("owner", *_FIXED, *_SETTABLE):
            wanted, is_now = getattr(want, name), getattr(have, name)
            if wanted != is_now and not (name == "mac" and wanted is None):
                difference = Difference(device=want.name, attribute=name, desired=_wire(wanted), actual=_wire(is_now))
                found.append(difference)
    stale = _stale(desired, actual)
    found += [Difference(device=link.name, attribute="device", desired="absent", actual=link.kind) for link in stale]
    return found


def _resolved(desired: Desired, uplink: Link | None) -> list[Link]:
    """The wanted links with what is known only on the host: the MAC, pinned to the uplink's, lest the bridge's follow
    its ports as they come and go."""
    mac = None if uplink is None else uplink.mac
    own = {"owner": desired.owner, "generation": desired.generation, "mac": mac}
    return [replace(link, **own) for link in desired.links]  # type: ignore[arg-type] # mixed value types by name


def _must_be_new(have: Link, want: Link, replaced: set[str]) -> bool:
    if have.parent in replaced:
        return True
    return any(getattr(have, name) != getattr(want, name) for name in _FIXED)


def _checked_uplink(desired: Desired, actual: Links) -> Link:
    uplink = actual.get(desired.uplink)
    if uplink is None:
        text = f"the physical interface {desired.uplink} does not exist on this host"
        raise PreconditionFailed(text, device=desired.uplink, field="physicalInterface")
    if uplink.owner is not None:
        text = f"{uplink.name} is a device of the L2 network {uplink.owner}, not a physical interface"
        raise PreconditionFailed(text, device=uplink.name, field="physicalInterface", owner=str(uplink.owner))
    if uplink.kind == BRIDGE:
        raise PreconditionFailed(f"{uplink.name} is itself a bridge", device=uplink.name, field="physicalInterface")
    if uplink.mac is None:
        text = f"{uplink.name} is no Ethernet device"
        raise PreconditionFailed(text, device=uplink.name, field="physicalInterface")
    _refuse_wrong_master(desired, uplink, actual)
    if desired.uplink_master is not None and uplink.addresses and uplink.master != desired.uplink_master:
        text = f"{uplink.name} carries the host's own addresses {', '.join(uplink.addresses)}, which a port cannot use"
        raise PreconditionFailed(text, device=uplink.name, addresses=list(uplink.addresses))
    largest = max(link.mtu for link in desired.links)
    if largest > uplink.mtu:  # the NIC's MTU is the host owner's: never ours to change
        text = f"MTU {largest} does not fit {uplink.name}, whose MTU is {uplink.mtu}"
        raise PreconditionFailed(text, device=uplink.name, mtu=uplink.mtu, wanted=largest)
    return uplink


def _refuse_wrong_master(desired: Desired, uplink: Link, actual: Links) -> None:
    if uplink.master is None or uplink.master == desired.uplink_master:
        return
    master = actual.get(uplink.master)
    kind = None if master is None else master.kind
    if master is not None and master.owner == desired.owner:
        return  # our own bridge under another name: stale, see below
    if desired.uplink_master is None and kind not in _AGGREGATES:
        return  # a VLAN device works beside a bridge: tagged frames reach it first (net/core/dev.c, vlan_do_receive)
    text = f"{uplink.name} is a port of {kind or 'device'} {uplink.master}"
    raise PreconditionFailed(text, device=uplink.name, bridge=uplink.master)


def _refuse_taken_names(desired: Desired, actual: Links) -> None:
    for want in desired.links:
        have = actual.get(want.name)
        if have is not None and have.owner != desired.owner:
            whose = "a device that is not ours" if have.owner is None else f"the L2 network {have.owner}"
            details = {"device": have.name, "owner": None if have.owner is None else str(have.owner)}
            raise Conflict(f"the name {have.name} is taken by {whose}", **details)


def _stale(desired: Desired, actual: Links) -> list[Link]:
    """Devices with this network's mark that it does not want (the VLAN changed), ports before bridges."""
    wanted = {link.name for link in desired.links}
    stale = [link for link in actual.values() if link.owner == desired.owner and link.name not in wanted]
    return sorted(stale, key=lambda link: (link.kind == BRIDGE, link.name))


def _refuse_users(desired: Desired, actual: Links, names: frozenset[str]) -> None:
    spared = frozenset() if desired.uplink_master is None else frozenset({desired.uplink})
    users = _users(desired.owner, actual, names, spared)
    if users:
        raise _in_use(users, names)


def _users(owner: UUID, actual: Links, names: frozenset[str], spared: frozenset[str]) -> list[str]:
    """Links of others that would be unplugged, or deleted with their parent, if `names` went."""
    return sorted(
        link.name for link in actual.values()
        if link.owner != owner and link.name not in spared and (link.master in names or link.parent in names)
    )  # fmt: skip


def _in_use(users: list[str], names: frozenset[str]) -> InUse:
    return InUse(f"in use by {', '.join(users)}: {', '.join(sorted(names))}", ports=users, devices=sorted(names))


def _is_uplink(link: Link, bridge: Link, uplink: str | None) -> bool:
    if uplink is not None:
        return link.name == uplink
    # A stranger's VLAN device on the NIC has the same MAC; it is a user of the bridge like any other.
    return link.mac is not None and link.mac == bridge.mac and link.kind not in _STACKED


def _wire(value: Any) -> Any:
    return str(value) if isinstance(value, UUID) else value
