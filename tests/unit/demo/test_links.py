"""What the demo reads of a host's kernel."""

import json
from typing import Any, cast

from lab import Host, Result

from demo.links import links_of, neighbours_of, tunnels_to


class Said:
    """A host whose commands print what is written here."""

    def __init__(self, **by_word: list[dict[str, Any]]) -> None:
        self.by_word = by_word

    def run(self, command: str) -> Result:
        word = next(word for word in self.by_word if word in command)
        return Result(0, json.dumps(self.by_word[word]), "")


def host(**by_word: list[dict[str, Any]]) -> Host:
    return cast("Host", Said(**by_word))


def test_a_host_sends_where_it_was_told_not_where_it_learned() -> None:
    """A learned entry would prove that a VM has spoken, not that the manager has told of it."""
    told = {"dst": "10.77.0.13", "state": "permanent"}
    entries = [
        {"mac": "00:00:00:00:00:00", **told},
        {"mac": "00:00:00:00:00:00", **told, "dst": "10.77.0.12"},
        {"mac": "fa:00:00:00:00:01", **told},
        {"mac": "fa:00:00:00:00:02", **told, "state": ""},
        {"mac": "fa:00:00:00:00:01", "master": "br_vx_7", "state": "permanent"},
    ]

    assert tunnels_to(host(fdb=entries), "vxlan7") == {
        "00:00:00:00:00:00": ["10.77.0.12", "10.77.0.13"],
        "fa:00:00:00:00:01": ["10.77.0.13"],
    }


def test_neighbours_are_by_address() -> None:
    """As `ip neigh` tells them."""
    entries = [{"dst": "192.168.0.201", "lladdr": "fa:00:00:00:00:01", "state": ["PERMANENT"]}]

    assert neighbours_of(host(neigh=entries), "br_vx_7") == {"192.168.0.201": "fa:00:00:00:00:01"}


def test_only_links_that_tell_something_are_shown() -> None:
    """A tunnel's device with its VNI, a VLAN's with its tag; not the loopback, nor what a kernel module brings."""
    common = {"ifindex": 5, "flags": ["UP"], "address": "02:00:00:00:00:01"}
    vlan = {"info_kind": "vlan", "info_data": {"id": 10}}
    vxlan = {"info_kind": "vxlan", "info_data": {"id": 7, "local": "10.77.0.11"}}
    raw: list[dict[str, Any]] = [
        {**common, "ifname": "lo"},
        {**common, "ifname": "gretap0"},
        {**common, "ifname": "eth1.10", "link": "eth1", "linkinfo": vlan},
        {**common, "ifname": "vxlan7", "master": "br_vx_7", "linkinfo": vxlan},
    ]

    shown = {name: link.line.split("  ", 2)[-1] for name, link in links_of(host(link=raw)).items()}

    assert list(shown) == ["eth1.10", "vxlan7"]
    assert shown["eth1.10"].endswith("VLAN 10 on eth1")
    assert shown["vxlan7"].endswith("VNI 7 from 10.77.0.11  port of br_vx_7")
