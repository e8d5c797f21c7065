"""Steps as rtnetlink messages: which attributes, in which order, in how few messages.

Numbers are those of the kernel's `linux/if_link.h`, `linux/neighbour.h`, `linux/if_bridge.h`.
"""

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator, Mapping

from viaduct_agent.links import encode, inet, kinds
from viaduct_agent.links.addresses import Address, Route
from viaduct_agent.links.entries import EVERYBODY, Entry, Forwarding, Member, Neighbour
from viaduct_agent.links.model import AddEntry, AddLink, DelEntry, DelLink, Link, SetLink, Step, is_bridge
from viaduct_common.errors import BackendFailed

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK, _RTM_GETADDR = 16, 17, 18, 22
_RTM_NEWNEIGH, _RTM_DELNEIGH, _RTM_GETNEIGH = 28, 29, 30
_RTM_NEWVLAN, _RTM_DELVLAN, _RTM_GETVLAN = 112, 113, 114
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_REPLACE, _EXCL, _CREATE, _APPEND = 0x100, 0x200, 0x400, 0x800
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER = 1, 3, 4, 5, 10
_IFLA_LINKINFO, _IFLA_IFALIAS, _IFLA_GROUP, _IFLA_EXT_MASK = 18, 20, 27, 29
_INFO_KIND, _INFO_DATA, _INFO_SLAVE_KIND, _INFO_SLAVE_DATA = 1, 2, 4, 5
_NDA_DST, _NDA_LLADDR, _NDA_IFINDEX = 1, 2, 8
_NTF_USE, _NTF_SELF, _NTF_MASTER = 0x01, 0x02, 0x04
_NUD_PROBE, _NUD_NOARP, _NUD_PERMANENT = 0x10, 0x40, 0x80
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_BRIDGE_VLANDB_ENTRY, _BRIDGE_VLANDB_ENTRY_INFO = 1, 1
_SKIP_STATS = 8  # RTEXT_FILTER_SKIP_STATS: half of each answer otherwise
_EXT_MASK = encode.number(_IFLA_EXT_MASK, _SKIP_STATS)


class KernelError(OSError):
    """The kernel's refusal: errno, and its own words (NETLINK_EXT_ACK) when it has some."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)


def as_failure(exc: OSError, step: str, device: str) -> BackendFailed:
    """The error of ours that tells of a refusal."""
    name = errno.errorcode.get(exc.errno or 0, str(exc.errno))
    text = f"{step}: {exc.strerror or os.strerror(exc.errno or 0)} ({name})"
    return BackendFailed(text, step=step, device=device, errno=exc.errno, error=name)


# ---- questions ---------------------------------------------------------------------------------------------------


def get(name: str | None, index: int) -> bytearray:
    """`ip link show dev NAME`, or by index."""
    parts = (_EXT_MASK,) if name is None else (_EXT_MASK, encode.text(_IFLA_IFNAME, name))
    return encode.link_message(_RTM_GETLINK, _REQUEST, index, *parts)


def dump(master: int = 0) -> bytearray:
    """`ip link show`, or the ports of one master."""
    parts = (_EXT_MASK, encode.number(_IFLA_MASTER, master)) if master else (_EXT_MASK,)
    return encode.link_message(_RTM_GETLINK, _REQUEST | _DUMP, 0, *parts)


def dump_addresses(index: int, family: int = 0) -> bytearray:
    """`ip address show dev ...`; of all devices with index 0, of both families with family 0."""
    return encode.address_message(_RTM_GETADDR, _REQUEST | _DUMP, index, family=family)


def dump_forwarding(index: int = 0) -> bytearray:
    """`bridge fdb show brport ...`, or all of them."""
    return encode.neighbour_message(_RTM_GETNEIGH, _REQUEST | _DUMP, index, family=socket.AF_BRIDGE)


def dump_neighbours(index: int = 0) -> bytearray:
    """`ip neighbour show dev ...`, or all of them."""
    parts = (encode.number(_NDA_IFINDEX, index),) if index else ()
    return encode.neighbour_message(_RTM_GETNEIGH, _REQUEST | _DUMP, 0, *parts, family=socket.AF_UNSPEC)


def get_neighbour(index: int, address: str) -> bytearray:
    """`ip neighbour get ADDRESS dev ...`"""
    ip = ipaddress.ip_address(address)
    part = encode.attribute(_NDA_DST, ip.packed)
    return encode.neighbour_message(_RTM_GETNEIGH, _REQUEST, index, part, family=_FAMILIES[ip.version])


def dump_vlans(index: int = 0) -> bytearray:
    """`bridge vlan show dev ...`, or all of them."""
    return encode.vlan_message(_RTM_GETVLAN, _REQUEST | _DUMP, index, family=socket.AF_BRIDGE)


# ---- changes -----------------------------------------------------------------------------------------------------


def of_step(step: Step, indexes: Mapping[str, int]) -> Iterator[bytearray]:
    """The messages of one step, to be sent in one go.

    Raises:
        KernelError: ENODEV for a device that `indexes` (by name) does not have.
    """
    match step:
        case AddLink(link):
            yield from _creation(link, indexes)
        case SetLink():
            yield from _change(step, indexes)
        case DelLink(link):
            yield deletion(link.index)
        case AddEntry(device, Address() | Route() as thing):
            yield inet.addition(_index(device, indexes), thing)
        case DelEntry(device, Address() | Route() as thing):
            yield inet.removal(_index(device, indexes), thing)
        case AddEntry(device, Forwarding() | Neighbour() | Member() as entry):
            yield _entry(_index(device, indexes), entry, add=True)
        case DelEntry(device, Forwarding() | Neighbour() | Member() as entry):
            yield _entry(_index(device, indexes), entry, add=False)


def tolerated(step: Step, code: int) -> bool:
    """What is so already, is so: an entry that is there, or gone."""
    match step:
        case AddEntry():
            return code == errno.EEXIST
        case DelEntry():
            return code in {errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL}
        case _:
            return False


def ask_neighbour(index: int, address: str, *, known: bool) -> bytearray:
    """Make the kernel ask who has the address, now: `ip neighbour replace ADDRESS dev ... use`; of one that it knows,
    whether it is still there: `... nud probe`."""
    ip = ipaddress.ip_address(address)
    return encode.neighbour_message(
        _RTM_NEWNEIGH,
        _REQUEST | _ACK | _CREATE | (_REPLACE if known else 0),
        index,
        encode.attribute(_NDA_DST, ip.packed),
        family=_FAMILIES[ip.version],
        state=_NUD_PROBE if known else 0,
        ntf=0 if known else _NTF_USE,
    )


def deletion(index: int) -> bytearray:
    return encode.link_message(_RTM_DELLINK, _REQUEST | _ACK, index)


def _creation(link: Link, indexes: Mapping[str, int]) -> Iterator[bytearray]:
    """The creation and, in the same send, the mark, which the kernel ignores at creation.

    Both name the index that we chose. If the name is taken the creation fails (EEXIST) and so does the mark (ENODEV);
    by name it would have marked the stranger.
    """
    mtu = link.mtu
    if is_bridge(link):
        # A bridge follows the MTU of its ports until its own was *changed* once (net/bridge/br_device.c,
        # br_change_mtu; the creation does not count, nor does setting what it is): create it with another.
        mtu += -1 if mtu > 1000 else 1
    parts = [encode.text(_IFLA_IFNAME, link.name), encode.number(_IFLA_MTU, mtu)]
    if link.mac:
        parts.append(encode.mac(_IFLA_ADDRESS, link.mac))
    if link.parent:
        parts.append(encode.number(_IFLA_LINK, _index(link.parent, indexes)))
    if link.master:
        parts.append(encode.number(_IFLA_MASTER, _index(link.master, indexes)))
    if link.group:
        parts.append(encode.number(_IFLA_GROUP, link.group))
    parts.append(_info(link.kind, link.options))
    flags = _REQUEST | _ACK | _CREATE | _EXCL
    yield encode.link_message(_RTM_NEWLINK, flags, link.index, *parts, up=link.up or None)
    mark = [encode.text(_IFLA_IFALIAS, link.alias or "")]
    if mtu != link.mtu:
        mark.append(encode.number(_IFLA_MTU, link.mtu))
    if link.port:
        mark.append(_port(link.port))
    yield _set(link.index, *mark)


def _change(step: SetLink, indexes: Mapping[str, int]) -> Iterator[bytearray]:
    """One message for all but the options."""
    link, changed, index = step.after, step.changed, step.before.index
    # Each alone, STP first: while it is on, the kernel takes no forward delay of 0.
    for pair in sorted(step.new_options, key=lambda pair: pair[0] != "stp"):
        yield _set(index, _info(link.kind, (pair,)))
    parts = []
    if "mac" in changed and link.mac:
        parts.append(encode.mac(_IFLA_ADDRESS, link.mac))
    if "mtu" in changed:
        parts.append(encode.number(_IFLA_MTU, link.mtu))
    if "alias" in changed:
        parts.append(encode.text(_IFLA_IFALIAS, link.alias or ""))
    if "group" in changed:
        parts.append(encode.number(_IFLA_GROUP, link.group))
    if "master" in changed:
        parts.append(encode.number(_IFLA_MASTER, _index(link.master, indexes) if link.master else 0))
    up = link.up if "up" in changed else None
    if parts or up is not None:
        yield _set(index, *parts, up=up)
    if step.new_port and link.master:
        yield _set(index, _port(step.new_port))


def _entry(index: int, entry: Entry, *, add: bool) -> bytearray:
    match entry:
        case Forwarding(mac, via):
            parts = [encode.mac(_NDA_LLADDR, mac)]
            if via is not None:
                parts.append(encode.attribute(_NDA_DST, ipaddress.ip_address(via).packed))
            flags = _APPEND if mac == EVERYBODY else _REPLACE
            return encode.neighbour_message(
                _RTM_NEWNEIGH if add else _RTM_DELNEIGH,
                _REQUEST | _ACK | (_CREATE | flags if add else 0),
                index,
                *parts,
                family=socket.AF_BRIDGE,
                # A bridge's "permanent" entry would be an address of the port itself.
                state=_NUD_NOARP | (_NUD_PERMANENT if via is not None else 0),
                ntf=_NTF_SELF if via is not None else _NTF_MASTER,
            )
        case Neighbour(ip, mac):
            address = ipaddress.ip_address(ip)
            parts = [encode.attribute(_NDA_DST, address.packed)]
            if add:
                parts.append(encode.mac(_NDA_LLADDR, mac))
            return encode.neighbour_message(
                _RTM_NEWNEIGH if add else _RTM_DELNEIGH,
                _REQUEST | _ACK | (_CREATE | _REPLACE if add else 0),
                index,
                *parts,
                family=_FAMILIES[address.version],
                state=_NUD_PERMANENT if add else 0,
            )
        case Member(vlan):
            info = encode.attribute(_BRIDGE_VLANDB_ENTRY_INFO, struct.pack("=HH", 0, vlan))  # flags 0: tagged
            item = encode.nested(_BRIDGE_VLANDB_ENTRY, info)
            kind = _RTM_NEWVLAN if add else _RTM_DELVLAN
            return encode.vlan_message(kind, _REQUEST | _ACK, index, item, family=socket.AF_BRIDGE)


def _set(index: int, *parts: bytes, up: bool | None = None) -> bytearray:
    return encode.link_message(_RTM_NEWLINK, _REQUEST | _ACK, index, *parts, up=up)


def _info(kind: str | None, options: kinds.Options) -> bytes:
    known = kinds.find(kind)
    if kind is None or known is None:
        raise KernelError(errno.EOPNOTSUPP, f"no kind of link named {kind} is known here")
    data = [_pack(known, name, value) for name, value in options]
    return encode.nested(_IFLA_LINKINFO, encode.text(_INFO_KIND, kind), encode.nested(_INFO_DATA, *data))


def _port(options: kinds.Options) -> bytes:
    data = [_pack(kinds.PORT, name, value) for name, value in options]
    kind = encode.text(_INFO_SLAVE_KIND, kinds.BRIDGE)
    return encode.nested(_IFLA_LINKINFO, kind, encode.nested(_INFO_SLAVE_DATA, *data))


def _pack(kind: kinds.LinkKind, name: str, value: object) -> bytes:
    option = kind.option(name)
    return encode.attribute(option.number, option.form.pack(value))


def _index(name: str, indexes: Mapping[str, int]) -> int:
    index = indexes.get(name, 0)
    if not index:
        raise KernelError(errno.ENODEV, f"{name} is not there")
    return index
