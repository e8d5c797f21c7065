"""The example plugin, installed beside a real manager: a type with NICs of its own kind, and a say when VMs come."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4
from xml.etree import ElementTree

import pytest
from integration.manager.conftest import Fleet
from integration.manager.control_plane import Place
from integration.manager.scripted_agent import REALIZE
from integration.manager.vms import Vms

from local_stack.part import clean_environment
from local_stack.service import Service
from viaduct_common.errors import Exhausted, InvalidRequest, L2Conflict
from viaduct_common.messages.l2 import L2NetworkInventory

MACVTAP = "L2MacvtapNetwork"


@pytest.fixture(scope="module")
async def manager(place: Place, installed_plugin: Path) -> AsyncIterator[Service]:
    async with place.running("manager", PYTHONPATH=str(installed_plugin)) as service:
        yield service


async def macvtap(fleet: Fleet, **own: Any) -> L2NetworkInventory:
    return await fleet.network(type=MACVTAP, **own)


async def test_type_is_created_and_attached_as_any_other(fleet: Fleet) -> None:
    """Its fields are validated by the plugin's model, its names recorded, and hosts told all of it."""
    agent = await fleet.join()
    for field, wrong in (("mode", "passthru"), ("maxNicsPerHost", 0), ("vlan", 7)):
        with pytest.raises(InvalidRequest) as refusal:
            await macvtap(fleet, **{field: wrong})
        assert refusal.value.details["field"] == field
    network = await macvtap(fleet, mode="vepa")
    assert (network.bridge_name, network.device_names, network.mtu) == ("", ["mvl_eth1"], 1500)
    long = await macvtap(fleet, physical_interface="enp175s0f0np0")
    assert [len(name) for name in long.device_names] == [15]

    await fleet.attach(network)
    order = await agent.hears(REALIZE)
    assert [item.l2_network.own_fields() for item in order.items] == [{"mode": "vepa", "maxNicsPerHost": None}]
    await fleet.settles(network, "realized")
    await fleet.detach(network)
    assert agent.held == {}


async def test_untagged_frames_of_an_interface_are_one_networks(fleet: Fleet) -> None:
    """A built-in type and the plugin's share the key; VLANs on the same interface are fine beside both."""
    plain, direct = await fleet.network(type="L2NoVlanNetwork"), await macvtap(fleet)
    for first, rival in ((plain, direct), (direct, plain)):
        await fleet.attach(first)
        with pytest.raises(L2Conflict) as refusal:
            await fleet.attach(rival)
        assert refusal.value.details["l2NetworkUuid"] == str(first.uuid)
        await fleet.attach(await fleet.network())
        await fleet.detach(first)


async def test_nic_says_how_it_is_plugged_in(vms: Vms) -> None:
    """On the network's own device, whose name is the same on every host; also after the VM has moved."""
    source, destination = await vms.fleet.join(), await vms.fleet.join()
    l3 = await vms.l3(await vms.attached_l2(type=MACVTAP, mode="private"))
    vm = uuid4()
    [nic] = await vms.prepare(vm, source, [l3])

    assert (nic.bridge, nic.parent, nic.mode) == ("", "mvl_eth1", "private")
    xml = ElementTree.fromstring(nic.libvirt_xml)
    assert (xml.get("type"), xml.find("mtu")) == ("direct", None)
    assert [xml.find(tag).attrib for tag in ("source", "target", "mac")] == [  # type: ignore[union-attr]
        {"dev": "mvl_eth1", "mode": "private"}, {"dev": nic.device_name}, {"address": nic.mac}
    ]  # fmt: skip
    [moved] = await vms.migrate(vm, destination)
    assert (moved.host_uuid, moved.libvirt_xml) == (destination.uuid, nic.libvirt_xml)
    assert await vms.release(vm) == [moved]


async def test_hook_refuses_what_a_host_has_no_room_for(vms: Vms) -> None:
    """Nothing is recorded or given then; of VMs at once no more get in; networks of other types do not count."""
    agent, other = await vms.fleet.join(), await vms.fleet.join()
    l3 = await vms.l3(await vms.attached_l2(type=MACVTAP, maxNicsPerHost=2))
    plain = await vms.l3(await vms.attached_l2())
    asked = [uuid4() for _ in range(4)]
    outcomes = await asyncio.gather(*(vms.prepare(vm, agent, [l3, plain]) for vm in asked), return_exceptions=True)
    refused = [one for one in outcomes if isinstance(one, BaseException)]
    assert [type(one) for one in refused] == [Exhausted, Exhausted]
    with pytest.raises(Exhausted, match="has room for 2 NICs") as refusal:
        await vms.prepare(uuid4(), agent, [plain, l3])
    assert refusal.value.details["hostUuid"] == str(agent.uuid)
    await vms.books_agree(l3, plain)
    assert len(await vms.nics(host_uuid=agent.uuid)) == 4

    away = uuid4()
    await vms.prepare(away, other, [l3])
    with pytest.raises(Exhausted):
        await vms.migrate(away, agent, "begin")
    got_in = [vm for vm, outcome in zip(asked, outcomes, strict=True) if not isinstance(outcome, BaseException)]
    await vms.release(got_in[0])
    await vms.migrate(away, agent, "begin")
    with pytest.raises(Exhausted):
        await vms.prepare(uuid4(), agent, [l3])  # who is on the way has taken the place
    await vms.migrate(away, agent, "abort")
    await vms.prepare(uuid4(), agent, [l3])


def test_second_plugin_of_one_type_stops_the_start(place: Place, installed_plugin: Path, tmp_path: Path) -> None:
    """With one line that names both."""
    rival = tmp_path / "rival-1.dist-info"
    rival.mkdir()
    (rival / "METADATA").write_text("Metadata-Version: 2.1\nName: rival\nVersion: 1\n")
    (rival / "entry_points.txt").write_text("[viaduct.l2_types]\nrival = rival:Rival\n")
    (tmp_path / "rival.py").write_text("class Rival:\n    l2_type = 'L2MacvtapNetwork'\n")
    service = place.service("manager", PYTHONPATH=f"{installed_plugin}:{tmp_path}")
    program = Path(sys.executable).parent / "viaduct-manager"
    environment = clean_environment(service.settings())
    done = subprocess.run([program], env=environment, capture_output=True, text=True, check=False, timeout=60)

    names = "viaduct_l2_macvtap.l2_type.L2MacvtapType and rival.Rival"
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"viaduct-manager: two plugins for L2MacvtapNetwork: {names}\n"
