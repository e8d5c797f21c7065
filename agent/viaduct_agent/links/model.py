"""What a host's links are, what they should be, and the steps between: plain values, no I/O."""

from dataclasses import dataclass, fields
from typing import Any, TypeAlias
from uuid import UUID

from viaduct_agent.links.addresses import Inet
from viaduct_agent.links.entries import Entry, Hanging, add_words, del_words
from viaduct_agent.links.kinds import BRIDGE, PORT, Options, option_words
from viaduct_agent.links.marks import format_mark

UPLINKS = 0  # as a wanted MTU: that of the uplink, known on the host only
DRAWN = ""  # as a wanted MAC: any, for a kind of device that must not have the uplink's; the kernel draws one


@dataclass(frozen=True, slots=True)
class Link:
    """One network interface. `owner` is None for a link that does not carry our mark: hands off.

    `kind` is the kernel's `IFLA_INFO_KIND` (None for a real NIC), `parent` the link below (`IFLA_LINK`), `master` the
    bridge or bond it is a port of. `options` are its kind's (see `kinds`), `port` those it has as a port of a bridge.
    `addresses` are the host's own of global scope, `inet` all addresses and routes, and `entries` its forwarding
    entries, neighbours and VLANs: each is read only where it matters, and None where it was not read. `group` is
    `IFLA_GROUP`.
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
    up: bool = False
    options: Options = ()
    port: Options = ()
    addresses: tuple[str, ...] | None = None
    entries: frozenset[Entry] | None = None
    inet: Inet | None = None
    group: int = 0

    @property
    def alias(self) -> str | None:
        return None if self.owner is None else format_mark(self.owner, self.generation or 0)

    def option(self, name: str) -> Any:
        """None for an option that it does not have."""
        for own, value in self.options:
            if own == name:
                return value
        return None


@dataclass(frozen=True, slots=True)
class Desired:
    """One L2 network on one host.

    `links` are ours, in the order of creation, a master or parent before what refers to it; those whose `mac` is None
    take the uplink's, those that want `DRAWN` keep what they have. What they leave open (options and port options that
    they do not name, `entries` of None) is not compared. `uplink` is the host's own device, of which nothing but two
    attributes may be changed: it is set up, and with `uplink_master` it becomes a port of that bridge. `members` are
    (device, VLAN) that must be there beside those of other networks. `tunnel_ip` must be an address of this host, on a
    device whose MTU has room for `overhead` bytes more than any of the links.
    """

    owner: UUID
    generation: int
    uplink: str | None
    links: tuple[Link, ...]
    uplink_master: str | None = None
    members: frozenset[tuple[str, int]] = frozenset()
    tunnel_ip: str | None = None
    overhead: int = 0

    @property
    def device_names(self) -> frozenset[str]:
        """Every device whose change concerns this network."""
        names = {link.name for link in self.links}
        return frozenset(names if self.uplink is None else {self.uplink, *names})


@dataclass(frozen=True, slots=True)
class AddLink:
    """Create a link with its mark; the executor chooses the index. Its entries are steps of their own."""

    link: Link

    @property
    def device(self) -> str:
        return self.link.name

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
        if link.group:
            words.append(f"group {link.group}")
        if link.up:
            words.append("up")
        words += [f"type {link.kind}", *option_words(link.kind, link.options)]
        if link.port:
            words.append(f"&& ip link set dev {link.name} type bridge_slave {' '.join(_port_words(link.port))}")
        if link.alias:
            words.append(f"&& ip link set dev {link.name} alias {link.alias}")
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class SetLink:
    """Change attributes of a link that is there; addressed by `before.index`, never by name."""

    before: Link
    after: Link

    @property
    def device(self) -> str:
        return self.after.name

    @property
    def changed(self) -> frozenset[str]:
        names = ("mtu", "mac", "master", "up", "alias", "options", "port", "group")
        return frozenset(name for name in names if getattr(self.before, name) != getattr(self.after, name))

    @property
    def new_options(self) -> Options:
        return tuple(pair for pair in self.after.options if pair not in self.before.options)

    @property
    def new_port(self) -> Options:
        """A port that changes its bridge begins anew with what ports have by default."""
        if "master" in self.changed:
            return self.after.port
        return tuple(pair for pair in self.after.port if pair not in self.before.port)

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
        if "group" in changed:
            words.append(f"group {link.group}")
        if "up" in changed:
            words.append("up" if link.up else "down")
        if "alias" in changed:
            words.append(f"alias {link.alias or repr('')}")
        options = option_words(link.kind, self.new_options)
        if options:
            words += [f"type {link.kind}", *options]
        port = _port_words(self.new_port)
        if port:
            words.append(f"&& ip link set dev {link.name} type bridge_slave {' '.join(port)}")
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class DelLink:
    """Delete a link of ours, addressed by its index."""

    link: Link

    @property
    def device(self) -> str:
        return self.link.name

    @property
    def command(self) -> str:
        return f"ip link del dev {self.link.name}"


@dataclass(frozen=True, slots=True)
class AddEntry:
    """Add an entry, an address or a route to a device; one that is there already is no error."""

    device: str
    entry: Hanging
    on_bridge: bool = False

    @property
    def command(self) -> str:
        return add_words(self.device, self.entry, is_bridge=self.on_bridge)


@dataclass(frozen=True, slots=True)
class DelEntry:
    """Take an entry, an address or a route away; one that is gone already is no error."""

    device: str
    entry: Hanging
    on_bridge: bool = False

    @property
    def command(self) -> str:
        return del_words(self.device, self.entry, is_bridge=self.on_bridge)


Step: TypeAlias = AddLink | SetLink | DelLink | AddEntry | DelEntry


def inverse(step: Step) -> tuple[Step, ...]:
    """The steps that undo `step`; what hung on a device that went, or that left its bridge, is given back to it."""
    match step:
        case AddLink(link):
            return (DelLink(link),)
        case SetLink(before, after) if before.master != after.master:
            return SetLink(after, before), *_entries_of(before)
        case SetLink(before, after):
            return (SetLink(after, before),)
        case DelLink(link):
            return AddLink(link), *_entries_of(link)
        case AddEntry(device, entry, on_bridge):
            return (DelEntry(device, entry, on_bridge),)
        case DelEntry(device, entry, on_bridge):
            return (AddEntry(device, entry, on_bridge),)


def _entries_of(link: Link) -> list[Step]:
    return [AddEntry(link.name, entry, is_bridge(link)) for entry in sorted(link.entries or (), key=repr)]


def with_values(link: Link, **values: Any) -> Link:
    """`dataclasses.replace` at a third of its price: a plan for a thousand networks calls it thousands of times."""
    return Link(*[values.get(name, getattr(link, name)) for name in _FIELDS])


_FIELDS = tuple(field.name for field in fields(Link))


def _port_words(port: Options) -> list[str]:
    return [f"{PORT.option(name).word} {PORT.option(name).form.word(value)}" for name, value in port]


def is_bridge(link: Link) -> bool:
    return link.kind == BRIDGE
