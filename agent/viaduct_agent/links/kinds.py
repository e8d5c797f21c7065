"""The kinds of devices that a plan can make: their options as data, which is all that planning, encoding, decoding and
the equivalent `ip` commands go by.

Names and numbers are those of the kernel's `linux/if_link.h`. A plugin that needs another kind registers it.
"""

import ipaddress
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from viaduct_common.plugins import PluginError

BRIDGE = "bridge"
VLAN = "vlan"
VXLAN = "vxlan"
GRETAP = "gretap"

Options: TypeAlias = tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Form:
    """How the value of an option stands in a message."""

    pack: Callable[[Any], bytes]
    unpack: Callable[[bytes], Any]
    word: Callable[[Any], str] = str


def _number(layout: str) -> Form:
    packer = struct.Struct(layout)
    return Form(packer.pack, lambda raw: packer.unpack_from(raw)[0])


def _switch(layout: str = "=B") -> Form:
    packer = struct.Struct(layout)
    return Form(
        lambda on: packer.pack(int(on)), lambda raw: bool(packer.unpack_from(raw)[0]), lambda on: "on" if on else "off"
    )


U8, U16, U32 = _number("=B"), _number("=H"), _number("=I")
BE16, BE32 = _number(">H"), _number(">I")
SWITCH = _switch()
# The same, where ip-link(8) wants 0 or 1.
BIT, BIT32 = (Form(form.pack, form.unpack, lambda on: str(int(on))) for form in (SWITCH, _switch("=I")))
ADDRESS = Form(
    lambda text: ipaddress.ip_address(text).packed,
    lambda raw: str(ipaddress.ip_address(raw)) if any(raw) else None,
)


@dataclass(frozen=True, slots=True)
class Option:
    """One attribute in `IFLA_INFO_DATA`. `fixed`: only a new device can have another value. `word` is ip-link(8)'s."""

    name: str
    number: int
    form: Form
    word: str
    fixed: bool = True


@dataclass(frozen=True, slots=True)
class LinkKind:
    """A kind of device: `IFLA_INFO_KIND`, and those of its options that matter to us. `steady`: the kernel tells all
    of a device's options always, whatever their values. `takes_over`: it takes what arrives at its parent before a
    bridge gets it, so that a device cannot have one on it and be a port as well (`netdev_rx_handler_register`)."""

    name: str
    options: tuple[Option, ...] = ()
    steady: bool = False
    takes_over: bool = False

    def option(self, name: str) -> Option:
        """Raises `KeyError`."""
        for option in self.options:
            if option.name == name:
                return option
        raise KeyError(f"a {self.name} has no option {name!r}")


_KINDS: dict[str, LinkKind] = {}


def register(kind: LinkKind) -> None:
    """Make a kind known; a backend's module does so when it is loaded, which is before the kernel is read for the first
    time. The same again changes nothing.

    Raises:
        PluginError: another one of this name is known.
    """
    if _KINDS.setdefault(kind.name, kind) != kind:
        raise PluginError(f"two kinds of links are named {kind.name}")


def find(name: str | None) -> LinkKind | None:
    return None if name is None else _KINDS.get(name)


def settable(kind: str | None, name: str) -> bool:
    """Whether a device of this kind can be given another value while it lives."""
    known = find(kind)
    return known is not None and not known.option(name).fixed


def options(**values: Any) -> Options:
    """Options by name, in one order, so that equal ones compare equal. Those that are None are left out."""
    return tuple(sorted((name, value) for name, value in values.items() if value is not None))


def option_words(kind: str | None, values: Options) -> list[str]:
    """As ip-link(8) takes them."""
    known = find(kind)
    if known is None:
        return []
    found = [(known.option(name), value) for name, value in values]
    return [f"{option.word} {option.form.word(value)}" for option, value in found if option.word]


register(
    LinkKind(
        BRIDGE,
        (
            Option("forward_delay", 1, U32, "forward_delay", fixed=False),  # in 1/100 s
            Option("stp", 5, BIT32, "stp_state", fixed=False),
            Option("vlan_filtering", 7, BIT, "vlan_filtering", fixed=False),
            Option("default_pvid", 39, U16, "vlan_default_pvid", fixed=False),
        ),
        steady=True,
    )
)
register(LinkKind(VLAN, (Option("vlan_id", 1, U16, "id"),)))
register(
    LinkKind(
        VXLAN,
        (
            Option("vni", 1, U32, "id"),
            Option("local", 4, ADDRESS, "local"),
            Option("learning", 7, SWITCH, "learning"),
            Option("udp_port", 15, BE16, "dstport"),
            Option("local6", 17, ADDRESS, "local"),
        ),
    )
)
register(
    LinkKind(
        GRETAP,
        (
            Option("local", 6, ADDRESS, "local"),
            Option("remote", 7, ADDRESS, "remote"),
            Option("in_key", 4, BE32, "ikey"),
            Option("out_key", 5, BE32, "okey"),
            Option("in_flags", 2, BE16, ""),  # implied by the keys in ip-link(8)
            Option("out_flags", 3, BE16, ""),
            Option("pmtudisc", 10, BIT, "pmtudisc"),
        ),
    )
)

# A port of a bridge, `IFLA_INFO_SLAVE_DATA` (bridge(8), Documentation/networking/bridge.rst). `isolated` ports hear
# nothing from each other, `neigh_suppress` answers ARP and ND from the bridge's neighbours where it can.
PORT = LinkKind(
    "bridge_slave",
    (
        Option("learning", 8, SWITCH, "learning", fixed=False),
        Option("neigh_suppress", 32, SWITCH, "neigh_suppress", fixed=False),
        Option("isolated", 33, SWITCH, "isolated", fixed=False),
    ),
    steady=True,
)
