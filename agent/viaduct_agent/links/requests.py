"""Steps as rtnetlink requests: which attributes, in which order, in how few messages; not yet bytes.

Attribute names are those of the kernel's `linux/if_link.h`.
"""

import errno
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from viaduct_agent.links.model import BRIDGE, VLAN, Link, SetLink

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK, _RTM_GETADDR = 16, 17, 18, 22
_REQUEST, _ACK, _DUMP, _CREATE_EXCL = 0x1, 0x4, 0x300, 0x600
_SKIP_STATS = 8  # RTEXT_FILTER_SKIP_STATS: half of each answer otherwise

Attributes = tuple[tuple[str, Any], ...]


class KernelError(OSError):
    """The kernel's refusal: errno, and its own words (NETLINK_EXT_ACK) when it has some.

    `position` is that of the refused request among those sent together.
    """

    def __init__(self, code: int, text: str, position: int = 0) -> None:
        super().__init__(code, text)
        self.position = position


@dataclass(frozen=True, slots=True)
class LinkRequest:
    """One message about one link; `up` is None when the flag is not to be touched."""

    kind: int
    flags: int
    index: int = 0
    up: bool | None = None
    attributes: Attributes = ()


def get(name: str | None, index: int) -> LinkRequest:
    """`ip link show dev NAME`, or by index."""
    attributes: list[tuple[str, Any]] = [("IFLA_EXT_MASK", _SKIP_STATS)]
    if name is not None:
        attributes.append(("IFLA_IFNAME", name))
    return LinkRequest(_RTM_GETLINK, _REQUEST, index, attributes=tuple(attributes))


def dump(master: int = 0) -> LinkRequest:
    """`ip link show`, or the ports of one master."""
    attributes: list[tuple[str, Any]] = [("IFLA_EXT_MASK", _SKIP_STATS)]
    if master:
        attributes.append(("IFLA_MASTER", master))
    return LinkRequest(_RTM_GETLINK, _REQUEST | _DUMP, attributes=tuple(attributes))


def dump_addresses(index: int) -> bytearray:
    """`ip address show dev ...`; encoded already, it is but a header (netlink(7), rtnetlink(7))."""
    return bytearray(struct.pack("=IHHIIBBBBi", 24, _RTM_GETADDR, _REQUEST | _DUMP, 0, 0, 0, 0, 0, 0, index))


def deletion(index: int) -> LinkRequest:
    return LinkRequest(_RTM_DELLINK, _REQUEST | _ACK, index)


def creation(link: Link, indexes: Mapping[str, int]) -> Iterator[LinkRequest]:
    """Two messages in one send: the creation, and the mark, which the kernel ignores at creation.

    Both name the index that we chose. If the name is taken the creation fails (EEXIST) and so does the mark (ENODEV);
    by name it would have marked the stranger.
    """
    mtu = link.mtu
    data: Attributes = ()
    if link.kind == BRIDGE:
        # A bridge follows the MTU of its ports until its own was *changed* once (net/bridge/br_device.c,
        # br_change_mtu; the creation does not count, nor does setting what it is): create it with another.
        mtu += -1 if mtu > 1000 else 1
        data = (("IFLA_BR_FORWARD_DELAY", link.forward_delay or 0), ("IFLA_BR_STP_STATE", int(bool(link.stp))))
    elif link.kind == VLAN:
        data = (("IFLA_VLAN_ID", link.vlan_id),)
    attributes: list[tuple[str, Any]] = [("IFLA_IFNAME", link.name), ("IFLA_MTU", mtu)]
    if link.mac:
        attributes.append(("IFLA_ADDRESS", link.mac))
    if link.parent:
        attributes.append(("IFLA_LINK", _index(link.parent, indexes)))
    if link.master:
        attributes.append(("IFLA_MASTER", _index(link.master, indexes)))
    attributes.append(_info(link.kind, data))
    flags = _REQUEST | _ACK | _CREATE_EXCL
    yield LinkRequest(_RTM_NEWLINK, flags, link.index, link.up or None, tuple(attributes))
    mark: list[tuple[str, Any]] = [("IFLA_IFALIAS", link.alias or "")]
    if mtu != link.mtu:
        mark.append(("IFLA_MTU", link.mtu))
    yield _set(link.index, *mark)


def change(step: SetLink, indexes: Mapping[str, int]) -> Iterator[LinkRequest]:
    """One message for all but the bridge options."""
    link, changed, index = step.after, step.changed, step.before.index
    if "stp" in changed:  # alone and first: while STP is on, the kernel takes no forward delay of 0
        yield _set(index, _info(link.kind, (("IFLA_BR_STP_STATE", int(bool(link.stp))),)))
    if "forward_delay" in changed:
        yield _set(index, _info(link.kind, (("IFLA_BR_FORWARD_DELAY", link.forward_delay or 0),)))
    attributes: list[tuple[str, Any]] = []
    if "mac" in changed:
        attributes.append(("IFLA_ADDRESS", link.mac))
    if "mtu" in changed:
        attributes.append(("IFLA_MTU", link.mtu))
    if "alias" in changed:
        attributes.append(("IFLA_IFALIAS", link.alias or ""))
    if "master" in changed:
        attributes.append(("IFLA_MASTER", _index(link.master, indexes) if link.master else 0))
    up = link.up if "up" in changed else None
    if attributes or up is not None:
        yield _set(index, *attributes, up=up)


def _set(index: int, *attributes: tuple[str, Any], up: bool | None = None) -> LinkRequest:
    return LinkRequest(_RTM_NEWLINK, _REQUEST | _ACK, index, up, attributes)


def _info(kind: str | None, data: Attributes) -> tuple[str, Any]:
    return "IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", kind), ("IFLA_INFO_DATA", {"attrs": list(data)})]}


def _index(name: str, indexes: Mapping[str, int]) -> int:
    index = indexes.get(name, 0)
    if not index:
        raise KernelError(errno.ENODEV, f"{name} is not there")
    return index
