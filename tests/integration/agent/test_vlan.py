"""The VLAN backend on a real kernel with 802.1Q: this machine's, or a User-Mode Linux host's."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from lab import Host, Lab, host_kind_for

from viaduct_common.messages.l2 import L2NetworkInventory

from .guests import desired, inventory, serve_backends
from .guests import do as ask

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """One host for all: booting takes seconds, and every test leaves eth1 as it was."""
    with Lab(f"agent-{uuid4().hex[:6]}", tmp_path_factory.mktemp("lab")) as lab:
        (host,) = lab.start_hosts(["a"], kind=host_kind_for(["vlan"]))
        serve_backends([host])
        yield host


def network(vlan: int, mtu: int = 1500) -> L2NetworkInventory:
    return inventory("L2VlanNetwork", vlan, mtu=mtu)


def do(host: Host, action: str, net: L2NetworkInventory, generation: int = 1) -> dict[str, Any]:
    answer = ask(host, action, desired(net, host, generation))
    answer.pop("steps", None)
    return answer


def link(host: Host, name: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(host.run(f"ip -d -j link show dev {name}").stdout)
    return found[0]


def names(host: Host) -> set[str]:
    return {one["ifname"] for one in json.loads(host.run("ip -j link show").stdout)}


def test_realize_check_release(host: Host) -> None:
    """VLAN device 10 on eth1, in its bridge; nothing of it is left after the release."""
    before, net = names(host), network(10, mtu=1400)
    assert do(host, "check", net)["present"] is False
    assert "changes" in do(host, "realize", net)
    device, bridge, nic = link(host, "eth1.10"), link(host, "br_eth1_10"), link(host, "eth1")
    assert device["linkinfo"]["info_kind"] == "vlan"
    assert device["linkinfo"]["info_data"]["id"] == 10
    assert (device["link"], device["master"], device["mtu"]) == ("eth1", "br_eth1_10", 1400)
    assert device["ifalias"] == bridge["ifalias"] == f"viaduct:{net.uuid}:1"
    assert bridge["address"] == device["address"] == nic["address"]
    assert all("UP" in one["flags"] for one in (device, bridge, nic))
    assert do(host, "realize", net) == {"changes": []}
    assert do(host, "check", net) == {"present": True, "differences": []}
    assert len(do(host, "realize", net, 2)["changes"]) == 2  # two marks
    assert len(do(host, "release", net, 3)["changes"]) == 2
    assert do(host, "release", net, 3) == {"changes": []}
    assert names(host) == before


def test_two_vlans_share_a_nic_and_go_one_by_one(host: Host) -> None:
    """Neither is touched by the other's release."""
    before, first, second = names(host), network(20), network(30)
    do(host, "realize", first)
    do(host, "realize", second)
    do(host, "release", first)
    assert do(host, "check", second) == {"present": True, "differences": []}
    do(host, "release", second)
    assert names(host) == before


def test_an_existing_device_of_another_vlan_or_owner_is_not_accepted(host: Host) -> None:
    """A stranger's is a conflict and stays; ours with the wrong VLAN id is made anew."""
    before, net = names(host), network(40)
    host.run("ip link add link eth1 name eth1.40 type vlan id 41")
    error = do(host, "realize", net)["refusal"]
    assert (error["code"], error["details"]["device"]) == ("CONFLICT", "eth1.40")
    assert "br_eth1_40" not in names(host)
    host.run(["ip", "link", "set", "eth1.40", "alias", f"viaduct:{net.uuid}:1"])
    assert "changes" in do(host, "realize", net)
    assert link(host, "eth1.40")["linkinfo"]["info_data"]["id"] == 40
    do(host, "release", net)
    assert names(host) == before


def test_a_change_of_vlan_leaves_no_old_device_behind(host: Host) -> None:
    """The bridge keeps its name, the VLAN device is another."""
    before, net = names(host), network(50)
    do(host, "realize", net)
    moved = net.model_copy(update={"device_names": ["br_eth1_50", "eth1.51"]})
    body = json.loads(moved.to_json()) | {"vlan": 51}
    do(host, "realize", L2NetworkInventory.from_json(json.dumps(body)), 2)
    assert names(host) - before == {"br_eth1_50", "eth1.51"}
    assert do(host, "release", net, 3)["changes"]
    assert names(host) == before


def test_a_deleted_vlan_device_is_found_and_made_again(host: Host) -> None:
    """Half of a network is drift, not missing."""
    before, net = names(host), network(60)
    do(host, "realize", net)
    host.run("ip link del eth1.60")
    assert do(host, "check", net) == {"present": True, "differences": [["eth1.60", "device"]]}
    assert len(do(host, "realize", net)["changes"]) == 1
    do(host, "release", net)
    assert names(host) == before


def test_novlan_beside_vlan_on_one_nic(host: Host) -> None:
    """Whichever comes first."""
    before, tagged = names(host), network(70)
    untagged = network(1).model_copy(update={"type": "L2NoVlanNetwork", "bridge_name": "br_eth1"})
    for first, second in ((tagged, untagged), (untagged, tagged)):
        do(host, "realize", first)
        do(host, "realize", second)
        for net in (first, second):
            assert do(host, "check", net) == {"present": True, "differences": []}
        do(host, "release", first)
        assert do(host, "check", second) == {"present": True, "differences": []}
        do(host, "release", second)
        assert names(host) == before
