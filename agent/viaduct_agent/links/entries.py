"""What hangs on a device beside its attributes: forwarding entries, neighbours, VLANs of a bridge's port."""

import ipaddress
from dataclasses import dataclass
from typing import TypeAlias

from viaduct_agent.links.addresses import Address, Route

EVERYBODY = "00:00:00:00:00:00"  # in a VXLAN device's table: where frames go that are for no known address


@dataclass(frozen=True, slots=True, order=True)
class Forwarding:
    """Frames for `mac` leave by this device: through the tunnel to `via`, or, with None, it is the bridge's entry for
    its port (bridge(8), `self` and `master`)."""

    mac: str
    via: str | None = None

    def words(self, device: str) -> str:
        return f"{self.mac} dev {device} " + (f"dst {self.via} self permanent" if self.via else "master static")


@dataclass(frozen=True, slots=True, order=True)
class Neighbour:
    """`ip` has `mac`: what a bridge answers ARP and ND by, for ports that suppress them (ip-neighbour(8))."""

    ip: str
    mac: str

    @property
    def version(self) -> int:
        return ipaddress.ip_address(self.ip).version


@dataclass(frozen=True, slots=True, order=True)
class Member:
    """The device carries frames of this VLAN, tagged: as a port, or the bridge itself (IEEE 802.1Q)."""

    vlan: int


Entry: TypeAlias = Forwarding | Neighbour | Member
Hanging: TypeAlias = Entry | Address | Route


def add_words(device: str, entry: Hanging, *, is_bridge: bool) -> str:
    match entry:
        case Address():
            return f"ip address add {entry.words(device)}"
        case Route():
            return f"ip {'-6 ' if entry.version == 6 else ''}route prepend {entry.words(device)}"
        case Forwarding():
            verb = "append" if entry.mac == EVERYBODY else "replace"
            return f"bridge fdb {verb} {entry.words(device)}"
        case Neighbour(ip, mac):
            return f"ip neighbour replace {ip} lladdr {mac} dev {device} nud permanent"
        case Member(vlan):
            return f"bridge vlan add vid {vlan} dev {device}" + (" self" if is_bridge else "")


def del_words(device: str, entry: Hanging, *, is_bridge: bool) -> str:
    match entry:
        case Address():
            return f"ip address del {entry.text} dev {device}"
        case Route():
            return f"ip {'-6 ' if entry.version == 6 else ''}route del {entry.words(device)}"
        case Forwarding():
            return f"bridge fdb del {entry.words(device)}"
        case Neighbour(ip, _):
            return f"ip neighbour del {ip} dev {device}"
        case Member(vlan):
            return f"bridge vlan del vid {vlan} dev {device}" + (" self" if is_bridge else "")
