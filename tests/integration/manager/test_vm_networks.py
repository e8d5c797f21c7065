"""`vm.prepareNetworks` and `vm.releaseNetworks`: all that is asked for, or nothing; and nothing is left behind."""

import asyncio
from uuid import uuid4
from xml.etree import ElementTree

import pytest
from integration.manager.conftest import Fleet
from integration.manager.vms import Vms

from local_stack.service import Service


@pytest.fixture
async def vms(fleet: Fleet, ipam: Service) -> Vms:
    return Vms(fleet)


async def test_nic_has_all_that_a_hypervisor_needs(vms: Vms) -> None:
    """Bridge, device, MAC, address, gateway, MTU, and the same as libvirt's XML."""
    agent = await vms.fleet.join()
    l2 = await vms.attached_l2(mtu=1400)
    l3 = await vms.l3(l2, "10.1.0.0/24")
    vm = uuid4()

    [nic] = await vms.prepare(vm, agent, [l3])

    assert (nic.vm_uuid, nic.host_uuid, nic.l3_network_uuid) == (vm, agent.uuid, l3)
    assert (nic.bridge, nic.vlan, nic.virtual_port, nic.mtu) == (l2.bridge_name, None, None, 1400)
    assert [(str(one.ip), one.prefix_length) for one in nic.ips] == [("10.1.0.2", 24)]
    assert str(nic.gateway) == "10.1.0.1"
    xml = ElementTree.fromstring(nic.libvirt_xml)  # noqa: S314 - our own
    assert (xml.tag, xml.get("type"), xml.find("vlan")) == ("interface", "bridge", None)
    assert [
        xml.find(tag).attrib  # type: ignore[union-attr]
        for tag in ("mac", "source", "target", "model", "mtu")
    ] == [{"address": nic.mac}, {"bridge": nic.bridge}, {"dev": nic.device_name}, {"type": "virtio"}, {"size": "1400"}]
    assert await vms.nics(vm_uuid=vm) == [nic]
    assert await vms.used(l3) == {"10.1.0.2": str(nic.uuid)}

    assert await vms.release(vm) == [nic]
    assert await vms.nics(vm_uuid=vm) == []
    assert await vms.used(l3) == {}
    assert await vms.release(vm) == []
