"""What to do so that a host has one L2 network: a pure function of wanted and actual links.

Realize, check, dry-run and drift repair are this one planner: "ok" is an empty plan. `release` has the way back.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from viaduct_agent.links import carrying, kinds, preconditions
from viaduct_agent.links.entries import Entry, Member
from viaduct_agent.links.marks import SHARED
from viaduct_agent.links.model import (
    DRAWN,
    UPLINKS,
    AddEntry,
    AddLink,
    DelEntry,
    DelLink,
    Desired,
    Link,
    SetLink,
    Step,
    is_bridge,
    with_values,
)
from viaduct_agent.links.table import LinkTable, unplugged

# What only a new device can change, beside the fixed options of its kind.
FIXED = ("kind", "parent")
SETTABLE = ("mtu", "mac", "master", "up", "generation")


def plan(desired: Desired, actual: Mapping[str, Link]) -> tuple[Step, ...]:
    """Return the steps that turn `actual` into `desired`; a link without our mark is never among them, but for the
    uplink, which is set up and becomes a port where the network's kind needs it. What the host has of its own there,
    addresses and routes, goes to the bridge, which is marked until the move is confirmed.

    Args:
        desired: the network; its devices in the order of creation.
        actual: links by name. At least those of `desired.device_names`, their masters, and the ports of the bridges
            among them must be there if the host has them; more links do no harm.

    Raises:
        Conflict: a wanted name is taken by a link of another owner, or of none; `details.device` names it.
        PreconditionFailed: the uplink is missing, a bridge, a port of another bridge, carries addresses or routes of
            the host that cannot be moved, or its MTU is too small; no device has the tunnel's address;
            `details.device` names it.
        InUse: a device to be replaced carries links that are not ours; `details.ports` names them.
    """
    table = LinkTable.of(actual)
    uplink = preconditions.check(desired, table)
    steps: list[Step] = []
    if uplink is not None and not uplink.up:  # first: a VLAN device cannot be up while what it stands on is down
        steps.append(SetLink(uplink, with_values(uplink, up=True)))
        uplink = with_values(uplink, up=True)
    stale = stale_links(desired, table)
    if stale:
        preconditions.refuse_users(desired, table, frozenset(link.name for link in stale))
        renamed = [link for link in stale if _in_the_way(link, desired, table)]
        steps += leave_vlans(renamed, table, keep=desired.members)
        steps += [DelLink(link) for link in renamed]
        stale = [link for link in stale if link not in renamed]
        # First: a bridge with the device of the former VLAN and that of the new one would join the two.
        steps += [
            SetLink(link, unplugged(with_values(link, port=()), None)) for link in stale if link.master is not None
        ]
    replaced: set[str] = set()
    carriers = carrying.carriers(desired, uplink, table)
    for want in desired.links:
        if carriers and want.name == desired.uplink_master:
            marked = with_values(want, group=carrying.UNCONFIRMED)
            steps += _one_link(desired, resolved(marked, uplink), table, replaced)
        elif replaced or not _as_wanted(table.get(want.name), want, uplink):
            steps += _one_link(desired, resolved(want, uplink), table, replaced)
    if uplink is not None and desired.uplink_master is not None:
        adding, taking = carrying.moves(carriers, _bridge_now(desired.uplink_master, table, replaced))
        # Before the bridge has a port: as soon as it has one it makes that address by itself, and is silent at first.
        early = [step for step in adding if carrying.is_link_local(step)]
        steps += [*early, *_plug_in(desired.uplink_master, uplink, replaced)]
        steps += [*(step for step in adding if step not in early), *taking]
    if desired.members:
        steps += _join(desired, table, replaced)
    if stale:  # last: what replaces them is in place
        steps += leave_vlans(stale, table, keep=desired.members)
        steps += [DelLink(link) for link in stale]
    return tuple(steps)


def resolved(want: Link, uplink: Link | None) -> Link:
    """The wanted link with what is known only on the host: the MAC, pinned to the uplink's, lest the bridge's follow
    its ports as they come and go; and the uplink's MTU if it wants that. A MAC of None is any."""
    mac = None if want.mac == DRAWN else want.mac or (None if uplink is None else uplink.mac)
    mtu = uplink.mtu if uplink is not None and want.mtu == UPLINKS else want.mtu
    return want if mac == want.mac and mtu == want.mtu else with_values(want, mac=mac, mtu=mtu)


def unlike(have: Link, want: Link) -> Iterator[tuple[str, Any, Any]]:
    """(attribute, wanted, actual) of every attribute that is not as wanted; entries are not among them."""
    for name in ("owner", *FIXED, *SETTABLE):
        wanted, is_now = getattr(want, name), getattr(have, name)
        if wanted != is_now and not (name == "mac" and wanted is None):
            yield name, wanted, is_now
    for wanted_options, options in ((want.options, have.options), (want.port, have.port)):
        if wanted_options != options:
            values = dict(options)
            yield from ((name, value, values.get(name)) for name, value in wanted_options if values.get(name) != value)


def missing_entries(want: Link, have: Link | None) -> tuple[list[Entry], list[Entry]]:
    """(to be added, to be taken away). VLANs of a port may be others' as well: they are `Desired.members`."""
    if want.entries is None or (have is not None and have.entries == want.entries):
        return [], []
    present = frozenset() if have is None or have.entries is None else have.entries
    present = frozenset(entry for entry in present if not isinstance(entry, Member))
    return sorted(want.entries - present, key=repr), sorted(present - want.entries, key=repr)


def leave_vlans(going: list[Link], table: LinkTable, keep: frozenset[tuple[str, int]] = frozenset()) -> list[Step]:
    """What VLAN devices that go leave behind on the shared bridge below them: their VLAN on it and on its ports."""
    steps: list[Step] = []
    for link in going:
        bridge = None if link.parent is None else table.get(link.parent)
        if bridge is None or bridge.owner != SHARED:
            continue
        vlan = Member(link.option("vlan_id"))
        steps += [
            DelEntry(device.name, vlan, is_bridge(device))
            for device in (bridge, *table.ports_of(bridge.name))
            if vlan in (device.entries or ()) and (device.name, vlan.vlan) not in keep
        ]
    return steps


def _one_link(desired: Desired, want: Link, table: LinkTable, replaced: set[str]) -> Iterator[Step]:
    have = table.get(want.name)
    if have is not None and _must_be_new(have, want, replaced):
        preconditions.refuse_users(desired, table, frozenset({want.name}))
        replaced.add(want.name)
        yield from leave_vlans([have], table, keep=desired.members)
        yield DelLink(have)
        have = None
    if have is None:
        replaced.add(want.name)
        have = with_values(want, entries=None if want.entries is None else frozenset())
        yield AddLink(have)
    else:
        if have.master in replaced:  # the kernel set it free when its master went
            have = unplugged(with_values(have, port=()), None)
        after = _changed(have, want)
        if after != have:
            yield SetLink(have, after)
            have = after if after.master == have.master else unplugged(after, after.master)
    to_add, to_delete = missing_entries(want, have)
    for entry in to_delete:
        yield DelEntry(want.name, entry, is_bridge(want))
    for entry in to_add:
        yield AddEntry(want.name, entry, is_bridge(want))


def _as_wanted(have: Link | None, want: Link, uplink: Link | None) -> bool:
    """Whether nothing is to be done about it, told without making anything: what a check mostly finds."""
    return (
        have is not None
        and have.kind == want.kind
        and have.generation == want.generation
        and have.master == want.master
        and have.parent == want.parent
        and have.up == want.up
        and have.mtu == (uplink.mtu if uplink is not None and want.mtu == UPLINKS else want.mtu)
        and have.mac == (want.mac or (have.mac if uplink is None or want.mac == DRAWN else uplink.mac))
        and (have.options == want.options or not set(want.options).difference(have.options))
        and (have.port == want.port or not set(want.port).difference(have.port))
        and (want.entries is None or want.entries == have.entries or missing_entries(want, have) == ([], []))
    )


def _changed(have: Link, want: Link) -> Link:
    """`have` with all that `want` says; options that it leaves open stay."""
    values = {name: getattr(want, name) for name in SETTABLE}
    if want.mac is None:
        values["mac"] = have.mac
    if want.group:
        values["group"] = want.group
    port = have.port if want.master == have.master else ()
    return with_values(
        have,
        options=_merged(have.options, want.options),
        port=_merged(port, want.port) if want.master else port,
        **values,
    )


def _merged(present: kinds.Options, wanted: kinds.Options) -> kinds.Options:
    return present if not wanted or wanted == present else tuple(sorted({**dict(present), **dict(wanted)}.items()))


def _must_be_new(have: Link, want: Link, replaced: set[str]) -> bool:
    if have.parent in replaced or any(getattr(have, name) != getattr(want, name) for name in FIXED):
        return True
    if have.options == want.options:
        return False
    values = dict(have.options)
    return any(values.get(name) != value and not kinds.settable(want.kind, name) for name, value in want.options)


def _bridge_now(name: str, table: LinkTable, replaced: set[str]) -> Link:
    have = None if name in replaced else table.get(name)
    return Link(name, kinds.BRIDGE) if have is None else have


def _plug_in(bridge: str, uplink: Link, replaced: set[str]) -> Iterator[Step]:
    before = unplugged(with_values(uplink, port=()), None) if uplink.master in replaced else uplink
    if before.master != bridge:
        yield SetLink(before, unplugged(with_values(before, port=()), bridge))


def _join(desired: Desired, table: LinkTable, replaced: set[str]) -> Iterator[Step]:
    for device, vlan in sorted(desired.members):
        have = table.get(device)
        fresh = device in replaced or (device == desired.uplink and desired.uplink_master in replaced)
        moved = have is not None and device == desired.uplink and have.master != desired.uplink_master
        if have is None or fresh or moved or Member(vlan) not in (have.entries or ()):
            yield AddEntry(device, Member(vlan), on_bridge=device != desired.uplink)


def _in_the_way(stale: Link, desired: Desired, table: LinkTable) -> bool:
    """It was renamed: the kernel has no two of one VLAN on one device, or of one VNI on one port."""
    return not is_bridge(stale) and any(
        (want.kind, want.parent) == (stale.kind, stale.parent)
        and want.name not in table
        and set(want.options) <= set(stale.options)
        for want in desired.links
    )


def stale_links(desired: Desired, table: LinkTable) -> list[Link]:
    """Devices with this network's mark that it does not want (the VLAN changed), ports before bridges."""
    stale = [table[name] for name in stale_names(desired, table.names_owned_by(desired.owner))]
    return sorted(stale, key=lambda link: (is_bridge(link), link.name)) if stale else stale


def stale_names(desired: Desired, marked: Iterable[str]) -> list[str]:
    """Of the devices with this network's mark those that it does not want."""
    wanted = [link.name for link in desired.links]
    return [name for name in marked if name not in wanted]
