"""The links of a host, as its kernel tells them: `ip -json -details link`."""

import json
from dataclasses import dataclass
from typing import Any

from lab import Host


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

    @property
    def line(self) -> str:
        """The device in one line."""
        words = [f"{self.name:<12} {self.kind or 'nic':<7} {'UP' if self.up else 'DOWN':<5} {self.mac}"]
        words += [f"VLAN {self.vlan} on {self.parent}"] if self.vlan is not None else []
        words += [f"port of {self.master}"] if self.master else []
        return "  ".join(words)


def links_of(host: Host) -> dict[str, Link]:
    """Return the host's devices by name, without the loopback and the lab's own control NIC."""
    found = map(_link, json.loads(host.run("ip -json -details link").stdout))
    return {link.name: link for link in found if link.name not in {"lo", "ctl0"}}


def bridges_of(host: Host) -> list[str]:
    """Return the names of the host's bridges."""
    return sorted(link.name for link in links_of(host).values() if link.kind == "bridge")


def _link(raw: dict[str, Any]) -> Link:
    info = raw.get("linkinfo", {})
    return Link(
        name=raw["ifname"],
        index=raw["ifindex"],
        kind=info.get("info_kind", ""),
        up="UP" in raw["flags"],
        mac=raw["address"],
        master=raw.get("master"),
        parent=raw.get("link"),
        vlan=info.get("info_data", {}).get("id") if info.get("info_kind") == "vlan" else None,
    )
