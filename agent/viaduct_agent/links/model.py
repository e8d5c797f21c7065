"""What a host's links are, what they should be, and the steps between: plain values, no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias
from uuid import UUID

BRIDGE = "bridge"
VLAN = "vlan"
_MARK = "viaduct"


@dataclass(frozen=True, slots=True)
class Link:
    """One network interface. `owner` is None for a link that does not carry our mark: hands off.

    `kind` is the kernel's `IFLA_INFO_KIND` (None for a real NIC), `parent` the link below (`IFLA_LINK`), `master` the
    bridge or bond it is a port of. The bridge options are None for other kinds; `forward_delay` is in 1/100 s.
    `addresses` are the host's own of global scope, read only where they matter (an uplink about to become a port).
    """

    name: str
    kind: str | None = None
    owner: UUID | None = None
    generation: int | None = None
    index: int = 0
    mtu: int = 1500
    mac: str | None = None
    master: str | None = None
    parent: str | None = None
    vlan_id: int | None = None
    up: bool = False
    stp: bool | None = None
    forward_delay: int | None = None
    addresses: tuple[str, ...] = ()

    @property
    def alias(self) -> str | None:
        return None if self.owner is None else format_mark(self.owner, self.generation or 0)


Links: TypeAlias = Mapping[str, Link]


@dataclass(frozen=True, slots=True)
class Desired:
    """One L2 network on one host.

    `links` are ours, in the order of creation, a master or parent before what refers to it; their `mac` is None, for
    they take the uplink's. `uplink` is the host's own device, of which nothing but two attributes may be changed: it is
    set up, and with `uplink_master` it becomes a port of that bridge.
    """

    owner: UUID
    generation: int
    uplink: str
    links: tuple[Link, ...]
    uplink_master: str | None = None

    @property
    def device_names(self) -> frozenset[str]:
        """Every device whose change concerns this network."""
        return frozenset({self.uplink, *(link.name for link in self.links)})


@dataclass(frozen=True, slots=True)
class AddLink:
    """Create a link with its mark; the executor chooses the index."""

    link: Link

    @property
    def command(self) -> str:
        link = self.link
        words = ["ip link add"]
        if link.parent:
            words.append(f"link {link.parent}")
        words.append(f"name {link.name} mtu {link.mtu}")
        if link.mac:
            words.append(f"address {link.mac}")
        if link.master:
            words.append(f"master {link.master}")
        if link.up:
            words.append("up")
        words.append(f"type {link.kind}")
        if link.vlan_id is not None:
            words.append(f"id {link.vlan_id}")
        words += _bridge_words(link, frozenset({"stp", "forward_delay"}))
        if link.alias:
            words.append(f"&& ip link set dev {link.name} alias {link.alias}")
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class SetLink:
    """Change attributes of a link that is there; addressed by `before.index`, never by name."""

    before: Link
    after: Link

    @property
    def changed(self) -> frozenset[str]:
        names = ("mtu", "mac", "master", "up", "alias", "stp", "forward_delay")
        return frozenset(name for name in names if getattr(self.before, name) != getattr(self.after, name))

    @property
    def command(self) -> str:
        link, changed = self.after, self.changed
        words = [f"ip link set dev {link.name}"]
        if "mtu" in changed:
            words.append(f"mtu {link.mtu}")
        if "mac" in changed:
            words.append(f"address {link.mac}")
        if "master" in changed:
            words.append(f"master {link.master}" if link.master else "nomaster")
        if "up" in changed:
            words.append("up" if link.up else "down")
        if "alias" in changed:
            words.append(f"alias {link.alias or repr('')}")
        options = _bridge_words(link, changed)
        if options:
            words += [f"type {link.kind}", *options]
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class DelLink:
    """Delete a link of ours, addressed by its index."""

    link: Link

    @property
    def command(self) -> str:
        return f"ip link del dev {self.link.name}"


Step: TypeAlias = AddLink | SetLink | DelLink


def inverse(step: Step) -> Step:
    """The step that undoes `step`."""
    match step:
        case AddLink(link):
            return DelLink(link)
        case SetLink(before, after):
            return SetLink(after, before)
        case DelLink(link):
            return AddLink(link)


def after(links: Links, steps: tuple[Step, ...]) -> dict[str, Link]:
    """What `links` become when `steps` are done, as the kernel does it: a deleted master sets its ports free, a
    deleted parent takes what stands on it away."""
    result = dict(links)
    for step in steps:
        match step:
            case AddLink(link):
                result[link.name] = link
            case SetLink(_, link):
                result[link.name] = link
            case DelLink(link):
                _delete(result, link.name)
    return result


def _delete(links: dict[str, Link], name: str) -> None:
    links.pop(name, None)
    for other in list(links.values()):
        if other.parent == name:
            _delete(links, other.name)
        elif other.master == name:
            links[other.name] = replace(other, master=None)


def format_mark(owner: UUID, generation: int) -> str:
    """The interface alias that says whose a link is, and of which generation."""
    return f"{_MARK}:{owner}:{generation}"


def parse_mark(alias: str | None) -> tuple[UUID, int] | None:
    """Owner and generation in an alias; None for an alias that is not exactly what `format_mark` writes."""
    parts = (alias or "").split(":")
    if len(parts) != 3 or parts[0] != _MARK or not (parts[2].isascii() and parts[2].isdigit()):
        return None
    try:
        owner = UUID(parts[1])
    except ValueError:
        return None
    generation = int(parts[2])
    return (owner, generation) if format_mark(owner, generation) == alias else None


def _bridge_words(link: Link, changed: frozenset[str]) -> list[str]:
    words = []
    if "stp" in changed and link.stp is not None:
        words.append(f"stp_state {int(link.stp)}")
    if "forward_delay" in changed and link.forward_delay is not None:
        words.append(f"forward_delay {link.forward_delay}")
    return words
