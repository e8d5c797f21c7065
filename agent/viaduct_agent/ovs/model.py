"""What a host's Open vSwitch bridges are, what they should be, and the steps between: plain values, no I/O.

Columns and their meaning: ovs-vswitchd.conf.db(5).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias
from uuid import UUID

OWNER_KEY, GENERATION_KEY = "viaduct-owner", "viaduct-generation"
SYSTEM = "system"  # the datapath in the kernel
STANDALONE = "standalone"  # learn MACs and forward as a switch does, controller or not
BOND = "bond"  # our word for the kind of a port that has not exactly one interface, of its own name


@dataclass(frozen=True, slots=True)
class Port:
    """A port and its one interface. `owner` is None for one that does not carry our mark: hands off.

    `kind` is the interface's type: `gre`, `internal`, "" for a device of the kernel. Between protected ports no frame
    passes. `error` is ovs-vswitchd's, None if it could do what is asked. `row` and `interface_row` are the uuids of
    the rows; they are no part of what a port is.
    """

    name: str
    kind: str = ""
    owner: UUID | None = None
    generation: int | None = None
    options: tuple[tuple[str, str], ...] = ()
    protected: bool = False
    tag: int | None = None
    trunks: tuple[int, ...] = ()
    vlan_mode: str | None = None
    error: str | None = None
    row: str = field(default="", compare=False)
    interface_row: str = field(default="", compare=False)

    @property
    def is_forsaken(self) -> bool:
        """A port of a device that is not there: what a VM that was killed leaves in the database."""
        return self.owner is None and self.kind == "" and self.error is not None


@dataclass(frozen=True, slots=True)
class Bridge:
    """A bridge. `ports` are in the order of their names, the one of the bridge's own name (`local`) left out.

    `mtu` is what is requested for the local interface, `controllers` counts OpenFlow controllers, `error` is that of
    the local interface.
    """

    name: str
    owner: UUID | None = None
    generation: int | None = None
    mtu: int | None = None
    datapath_type: str = SYSTEM
    fail_mode: str | None = STANDALONE
    stp: bool = False
    rstp: bool = False
    mcast_snooping: bool = False
    controllers: int = 0
    error: str | None = None
    ports: tuple[Port, ...] = ()
    row: str = field(default="", compare=False)
    local_row: str = field(default="", compare=False)
    local_interface_row: str = field(default="", compare=False)

    def port(self, name: str) -> Port | None:
        return next((port for port in self.ports if port.name == name), None)

    def with_ports(self, ports: Iterable[Port]) -> "Bridge":
        return replace(self, ports=tuple(sorted(ports, key=lambda port: port.name)))


Bridges: TypeAlias = Mapping[str, Bridge]
# What a difference may be in, beside the ports.
BRIDGE_ATTRIBUTES = (
    "owner", "generation", "mtu", "datapath_type", "fail_mode", "stp", "rstp", "mcast_snooping", "controllers", "error",
)  # fmt: skip
PORT_ATTRIBUTES = (
    "owner", "generation", "kind", "options", "protected", "tag", "trunks", "vlan_mode", "error",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Desired:
    """One L2 network on one host: its bridge, with the tunnels to the peers as `ports`, all marked."""

    bridge: Bridge

    @property
    def owner(self) -> UUID:
        assert self.bridge.owner is not None
        return self.bridge.owner

    @property
    def device_names(self) -> frozenset[str]:
        return frozenset({self.bridge.name, *(port.name for port in self.bridge.ports)})


@dataclass(frozen=True, slots=True)
class AddBridge:
    """Create a bridge with its mark, without ports."""

    bridge: Bridge

    @property
    def command(self) -> str:
        one = self.bridge
        columns = _assignments(one, BRIDGE_ATTRIBUTES, _BRIDGE_COLUMNS)
        return f"ovs-vsctl add-br {one.name} -- set Bridge {one.name} {columns}{_mtu_words(one)}"


@dataclass(frozen=True, slots=True)
class SetBridge:
    """Change columns of a bridge of ours, and of its local interface."""

    before: Bridge
    after: Bridge

    @property
    def changed(self) -> tuple[str, ...]:
        return tuple(name for name in BRIDGE_ATTRIBUTES if getattr(self.before, name) != getattr(self.after, name))

    @property
    def command(self) -> str:
        one, changed = self.after, self.changed
        parts = []
        columns = _assignments(one, changed, _BRIDGE_COLUMNS)
        if columns:
            parts.append(f"set Bridge {one.name} {columns}")
        if "controllers" in changed:
            parts.append(f"del-controller {one.name}")
        if {"mtu", "error"} & {*changed}:  # what failed is tried again when it is set again
            parts.append(_mtu_words(one).removeprefix(" -- "))
        return "ovs-vsctl " + " -- ".join(parts)


@dataclass(frozen=True, slots=True)
class DelBridge:
    """Delete a bridge of ours, and every port that it has."""

    bridge: Bridge

    @property
    def command(self) -> str:
        return f"ovs-vsctl del-br {self.bridge.name}"


@dataclass(frozen=True, slots=True)
class AddPort:
    """Create a port with its mark."""

    bridge: str
    port: Port

    @property
    def command(self) -> str:
        return f"ovs-vsctl add-port {self.bridge} {self.port.name} -- {_port_words(self.port, PORT_ATTRIBUTES)}"


@dataclass(frozen=True, slots=True)
class SetPort:
    """Change columns of a port of ours, and of its interface."""

    bridge: str
    before: Port
    after: Port

    @property
    def changed(self) -> tuple[str, ...]:
        return tuple(name for name in PORT_ATTRIBUTES if getattr(self.before, name) != getattr(self.after, name))

    @property
    def command(self) -> str:
        return f"ovs-vsctl {_port_words(self.after, self.changed)}"


@dataclass(frozen=True, slots=True)
class DelPort:
    """Delete a port of ours."""

    bridge: str
    port: Port

    @property
    def command(self) -> str:
        return f"ovs-vsctl del-port {self.bridge} {self.port.name}"


Step: TypeAlias = AddBridge | SetBridge | DelBridge | AddPort | SetPort | DelPort


def steps_between(before: Bridges, after: Bridges) -> tuple[Step, ...]:
    """The steps that turn one into the other; what goes goes first, so that a name is free when it is taken anew."""
    gone: list[Step] = [DelBridge(bridge) for name, bridge in before.items() if name not in after]
    made: list[Step] = []
    for name, want in after.items():
        have = before.get(name)
        if have is None:
            made.append(AddBridge(replace(want, ports=())))
        elif replace(have, ports=()) != replace(want, ports=()):
            made.append(SetBridge(have, want))
        old = {port.name: port for port in have.ports} if have is not None else {}
        gone += [DelPort(name, port) for port in old.values() if _must_go(port, want.port(port.name))]
        old = {port.name: port for port in old.values() if not _must_go(port, want.port(port.name))}
        made += [AddPort(name, port) for port in want.ports if port.name not in old]
        made += [SetPort(name, old[port.name], port) for port in want.ports if old.get(port.name, port) != port]
    return tuple(gone + made)


def _must_go(have: Port, want: Port | None) -> bool:
    return want is None or (have != want and BOND in {have.kind, want.kind})


def after(bridges: Bridges, steps: Iterable[Step]) -> dict[str, Bridge]:
    """What `bridges` become when `steps` are done."""
    result = dict(bridges)
    for step in steps:
        match step:
            case AddBridge(bridge):
                result[bridge.name] = bridge
            case SetBridge(_, bridge):
                result[bridge.name] = replace(bridge, ports=result[bridge.name].ports)
            case DelBridge(bridge):
                del result[bridge.name]
            case AddPort(name, port) | SetPort(name, _, port):
                others = [other for other in result[name].ports if other.name != port.name]
                result[name] = result[name].with_ports([*others, port])
            case DelPort(name, port):
                result[name] = result[name].with_ports(other for other in result[name].ports if other != port)
    return result


def owner_of(step: Step) -> UUID | None:
    """Whose the thing is that a step makes, changes or deletes."""
    match step:
        case AddBridge(bridge) | DelBridge(bridge) | SetBridge(bridge, _):
            return bridge.owner
        case AddPort(_, port) | DelPort(_, port) | SetPort(_, port, _):
            return port.owner


def format_mark(owner: UUID | None, generation: int | None) -> dict[str, str]:
    """The `external_ids` that say whose a row is, and of which generation."""
    mark = {} if owner is None else {OWNER_KEY: str(owner)}
    return mark if generation is None else mark | {GENERATION_KEY: str(generation)}


def parse_mark(external_ids: Mapping[str, str]) -> tuple[UUID | None, int | None]:
    """Owner and generation; no owner for what `format_mark` would not write."""
    text = external_ids.get(OWNER_KEY, "")
    try:
        owner = UUID(text)
    except ValueError:
        return None, None
    if str(owner) != text:
        return None, None
    generation = external_ids.get(GENERATION_KEY, "")
    return owner, int(generation) if generation.isascii() and generation.isdigit() else None


_BRIDGE_COLUMNS = {
    "datapath_type": "datapath_type",
    "fail_mode": "fail_mode",
    "stp": "stp_enable",
    "rstp": "rstp_enable",
    "mcast_snooping": "mcast_snooping_enable",
}
_PORT_COLUMNS = {"protected": "protected", "tag": "tag", "trunks": "trunks", "vlan_mode": "vlan_mode"}


def _assignments(item: Bridge | Port, names: Iterable[str], columns: Mapping[str, str]) -> str:
    words = [f"{columns[name]}={_value(getattr(item, name))}" for name in names if name in columns]
    if {"owner", "generation"} & {*names}:
        words += [f"external_ids:{key}={value}" for key, value in format_mark(item.owner, item.generation).items()]
    return " ".join(words)


def _port_words(port: Port, names: Iterable[str]) -> str:
    parts = []
    columns = _assignments(port, names, _PORT_COLUMNS)
    if columns:
        parts.append(f"set Port {port.name} {columns}")
    if {"kind", "options", "error"} & {*names}:
        options = ",".join(f"{key}={value}" for key, value in port.options)
        parts.append(f"set Interface {port.name} type={port.kind} options={{{options}}}")
    return " -- ".join(parts)


def _mtu_words(bridge: Bridge) -> str:
    return "" if bridge.mtu is None else f" -- set Interface {bridge.name} mtu_request={bridge.mtu}"


def _value(value: object) -> str:
    match value:
        case None | ():
            return "[]"
        case bool():
            return str(value).lower()
        case tuple():
            return ",".join(map(str, value))
    return str(value)
