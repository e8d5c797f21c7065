"""What is not as it should be, told attribute by attribute; nothing is refused here."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from viaduct_agent.links.carrying import carriers, described, own
from viaduct_agent.links.entries import Entry, Forwarding, Member, Neighbour
from viaduct_agent.links.model import Desired, Link
from viaduct_agent.links.plan import missing_entries, resolved, stale_links, unlike
from viaduct_agent.links.table import LinkTable
from viaduct_common.messages.l2 import Difference


def differences(desired: Desired, actual: Mapping[str, Link]) -> list[Difference]:
    """Return every attribute of every device that is not as `desired` says."""
    table = LinkTable.of(actual)
    uplink = None if desired.uplink is None else table.get(desired.uplink)
    found = [] if desired.uplink is None else _of_uplink(desired, desired.uplink, uplink)
    if uplink is not None and uplink.master == desired.uplink_master:
        found += [
            Difference(
                device=link.name, attribute="addresses", desired=[], actual=[described(one) for one in own(link)]
            )
            for link in carriers(desired, uplink, table)
        ]
    if desired.tunnel_ip is not None and table.carrier_of(desired.tunnel_ip) is None:
        found.append(Difference(device="", attribute="tunnelIp", desired=desired.tunnel_ip))
    for want in (resolved(link, uplink) for link in desired.links):
        have = table.get(want.name)
        if have is None:
            found.append(Difference(device=want.name, attribute="device", desired=want.kind))
            continue
        found += [
            Difference(device=want.name, attribute=name, desired=_wire(wanted), actual=_wire(is_now))
            for name, wanted, is_now in unlike(have, want)
        ]
        to_add, to_delete = missing_entries(want, have)
        found += [Difference(device=want.name, attribute=_kind(one), desired=_text(one)) for one in to_add]
        found += [Difference(device=want.name, attribute=_kind(one), actual=_text(one)) for one in to_delete]
    for device, vlan in sorted(desired.members):
        link = table.get(device)
        if link is not None and Member(vlan) not in (link.entries or ()):
            found.append(Difference(device=device, attribute="vlan", desired=vlan))
    found += [
        Difference(device=link.name, attribute="device", desired="absent", actual=link.kind)
        for link in stale_links(desired, table)
    ]
    return found


def _of_uplink(desired: Desired, name: str, uplink: Link | None) -> list[Difference]:
    if uplink is None:
        return [Difference(device=name, attribute="device", desired="present")]
    found = []
    if not uplink.up:
        found.append(Difference(device=name, attribute="up", desired=True, actual=False))
    if desired.uplink_master not in {None, uplink.master}:
        master = desired.uplink_master
        found.append(Difference(device=name, attribute="master", desired=master, actual=uplink.master))
    return found


def _kind(entry: Entry) -> str:
    return {Forwarding: "forwarding", Neighbour: "neighbour", Member: "vlan"}[type(entry)]


def _text(entry: Entry) -> str:
    match entry:
        case Forwarding(mac, via):
            return mac if via is None else f"{mac} via {via}"
        case Neighbour(ip, mac):
            return f"{ip} is {mac}"
        case Member(vlan):
            return str(vlan)


def _wire(value: Any) -> Any:
    return str(value) if isinstance(value, UUID) else value
