"""The links of a host, and whom they know, as its kernel tells: `ip -json -details link`, `bridge -json fdb`."""

import json
from dataclasses import dataclass
from typing import Any

from lab import Host

EVERYBODY = "00:00:00:00:00:00"  # the forwarding entries of a VXLAN device for frames to nobody it knows
# The loopback, the lab's own control NIC, and what the kernel's module for GRE brings along.
NOT_SHOWN = {"lo", "ctl0", "gre0", "gretap0", "erspan0"}


@dataclass(frozen=True)
class Link:
    """One device of a host."""

    name: str
    index: int
    kind: str
    up: bool
    mac: str
    master: str | None
    parent: str | None
    vlan: int | None
    vni: int | None = None
    tunnel_end: str | None = None

    @property
    def line(self) -> str:
        """The device in one line."""
        words = [f"{self.name:<12} {self.kind or 'nic':<7} {'UP' if self.up else 'DOWN':<5} {self.mac}"]
        words += [f"VLAN {self.vlan} on {self.parent}"] if self.vlan is not None else []
        words += [f"VNI {self.vni} from {self.tunnel_end}"] if self.vni is not None else []
        words += [f"port of {self.master}"] if self.master else []
        return "  ".join(words)


def links_of(host: Host) -> dict[str, Link]:
    """Return the host's devices by name, without those that are there in any case and tell nothing."""
    found = map(_link, json.loads(host.run("ip -json -details link").stdout))
    return {link.name: link for link in found if link.name not in NOT_SHOWN}


def bridges_of(host: Host) -> list[str]:
    """Return the names of the host's bridges."""
    return sorted(link.name for link in links_of(host).values() if link.kind == "bridge")


def tunnels_to(host: Host, device: str) -> dict[str, list[str]]:
    """Return where a VXLAN device was told to send frames: the other hosts' addresses, by the MAC that frames are for.

    What it has learned by itself, from frames that came, is not among them.
    """
    found: dict[str, list[str]] = {}
    for entry in json.loads(host.run(f"bridge -json fdb show dev {device}").stdout):
        if "dst" in entry and entry["state"] == "permanent":
            found.setdefault(entry["mac"], []).append(entry["dst"])
    return {mac: sorted(ends) for mac, ends in found.items()}


def neighbours_of(host: Host, bridge: str) -> dict[str, str]:
    """Return what a bridge was told to answer ARP with: MAC by IP."""
    found = json.loads(host.run(f"ip -json neigh show dev {bridge} nud permanent").stdout)
    return {entry["dst"]: entry["lladdr"] for entry in found}


def _link(raw: dict[str, Any]) -> Link:
    info = raw.get("linkinfo", {})
    vxlan = info.get("info_data", {}) if info.get("info_kind") == "vxlan" else {}
    return Link(
        name=raw["ifname"],
        index=raw["ifindex"],
        kind=info.get("info_kind", ""),
        up="UP" in raw["flags"],
        mac=raw["address"],
        master=raw.get("master"),
        parent=raw.get("link"),
        vlan=info.get("info_data", {}).get("id") if info.get("info_kind") == "vlan" else None,
        vni=vxlan.get("id"),
        tunnel_end=vxlan.get("local"),
    )
