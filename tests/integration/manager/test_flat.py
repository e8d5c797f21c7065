"""`Flat`: every host serves its own NICs, by the same server's address."""

from typing import Any
from uuid import uuid4

import pytest
from integration.manager.eventually import eventually
from integration.manager.public import FLATS, Public, flat, router
from integration.manager.vms import Vms

from viaduct_common.errors import InUse, PreconditionFailed


@pytest.fixture
async def public(vms: Vms) -> Public:
    return Public(vms)


async def test_network_that_is_in_open_vswitch_everywhere_is_refused(public: Public) -> None:
    """Hosts could not serve it; with the kernel's own backend they can."""
    l2 = await public.vms.attached_l2(type="OvsGreL2Network", key=901)
    l3 = await public.client.l3.create(l2_network_uuid=l2.uuid, name="gre")
    with pytest.raises(PreconditionFailed) as refusal:
        await public.attach(l3.uuid, "DHCP", provider=FLATS)
    assert refusal.value.details["l2NetworkUuid"] == str(l2.uuid)
    assert (await public.client.l3.get(uuid=l3.uuid)).services == []

    await public.vms.fleet.detach(l2)
    kernels = {"OvsGreL2Network": "gretap"}
    await public.client.cluster.update(uuid=public.vms.fleet.cluster_uuid, backends=kernels)
    await public.vms.fleet.attach(l2)
    assert [one.service_type for one in (await public.attach(l3.uuid, "DHCP", provider=FLATS)).services] == ["DHCP"]


async def test_each_host_serves_its_own_nics_and_names_of_all(public: Public) -> None:
    """By one address and MAC, which go when the last NIC does."""
    one, two, bare = [await public.vms.fleet.join() for _ in range(3)]
    l3 = await public.private("DHCP", "DNS", cidr="10.81.0.0/24", provider=FLATS, dns_domain="example.org")
    first, second = await public.nic(one, l3), await public.nic(two, l3)
    await public.settle(l3)

    specs = [flat(agent, l3) for agent in (one, two)]
    assert flat(bare, l3) is None
    for spec, nic in zip(specs, (first, second), strict=True):
        assert spec is not None
        assert [one.nic_uuid for one in spec.nics] == [nic.uuid]
        assert spec.dns is not None
        assert {one.host_name for one in spec.dns.records} == {"ip-10-81-0-2", *_other_names(second)}
        assert spec.dhcp is not None
        assert spec.dhcp.dns_servers == [one.ip for one in spec.inside.addresses]
        assert [str(one) for one in spec.dhcp.routers] == ["10.81.0.1"]
    assert specs[0] is not None
    assert specs[1] is not None
    assert specs[0].inside == specs[1].inside
    used = await public.vms.used(l3)
    assert {str(one.ip) for one in specs[0].inside.addresses} == set(used) - {
        str(nic.ips[0].ip) for nic in (first, second)
    }

    await public.vms.release(first.vm_uuid)
    await public.settle(l3)
    assert flat(one, l3) is None
    await public.vms.release(second.vm_uuid)
    await eventually(lambda: public.vms.used(l3), lambda used: used == {})
    assert await public.instances(l3) == []
    await public.client.l3.delete(uuid=l3)


def _other_names(nic: Any) -> list[str]:
    return ["ip-" + str(nic.ips[0].ip).replace(".", "-")]


async def test_nic_that_moves_is_served_at_both_ends_and_its_eip_at_one(public: Public) -> None:
    one, two = await public.vms.fleet.join(), await public.vms.fleet.join()
    outside = await public.network()
    l3 = await public.private("DHCP", "EIP", provider=FLATS)
    nic = await public.nic(one, l3)
    eip = await public.eip(await public.vip(outside.uuid), nic_uuid=nic.uuid)
    await public.settle(l3)
    await public.vms.migrate(nic.vm_uuid, two, "begin")
    await public.settle(l3)
    source, target = flat(one, l3), flat(two, l3)
    assert source is not None
    assert target is not None
    assert [len(spec.nics) for spec in (source, target)] == [1, 1]
    assert [len(spec.eips) for spec in (source, target)] == [1, 0]

    await public.vms.migrate(nic.vm_uuid, two, "finish")
    await public.settle(l3)
    moved = flat(two, l3)
    assert flat(one, l3) is None
    assert moved is not None
    assert moved.eips == source.eips
    [served] = moved.eips
    assert (served.rule.eip_uuid, served.nic_uuid) == (eip.uuid, nic.uuid)
    assert [one.ip for one in served.outside.addresses] == [eip.vip_ip]
    with pytest.raises(InUse) as refusal:
        await public.detach(l3, "EIP", provider=FLATS)
    assert refusal.value.details["eipUuids"] == [str(eip.uuid)]


async def test_providers_share_a_network(public: Public) -> None:
    """One serves names and addresses on the NICs' hosts, the other the way out on a gateway host."""
    agent, gateway = await public.vms.fleet.join(), await public.gateway()
    outside = await public.network()
    l3 = await public.private("DHCP", "DNS", provider=FLATS)
    await public.attach(l3, "SNAT", SNAT={"publicL3NetworkUuid": str(outside.uuid)})
    await public.nic(agent, l3)
    served, way = flat(agent, l3), router(gateway, l3)
    assert served is not None
    assert way is not None
    assert (way.dhcp, way.dns, len(way.snat)) == (None, None, 1)
    assert served.dhcp is not None
    assert served.dhcp.routers == [one.ip for one in way.inside.addresses]
    assert served.dhcp.dns_servers == [one.ip for one in served.inside.addresses]


async def test_network_without_a_free_address_has_no_server_and_gets_one_as_soon_as_there_is(public: Public) -> None:
    """The VM that takes the last address is refused; what a larger range has is found without anybody's doing."""
    agent = await public.vms.fleet.join()
    network = await public.network("10.82.0.0/30", category="private")
    await public.attach(network.uuid, "DHCP", provider=FLATS)
    with pytest.raises(PreconditionFailed) as refusal:
        await public.nic(agent, network.uuid)
    assert refusal.value.details["l3NetworkUuid"] == str(network.uuid)
    await eventually(lambda: public.vms.used(network.uuid), lambda used: used == {})

    narrow = (await public.client.l3.create(l2_network_uuid=network.l2_network_uuid, name="narrow")).uuid
    subnet = {"l3_network_uuid": narrow, "gateway": "10.83.0.1", "netmask": "255.255.255.0"}
    await public.client.range.create(**subnet, start_ip="10.83.0.2", end_ip="10.83.0.2")
    await public.nic(agent, narrow)
    await public.attach(narrow, "DHCP", provider=FLATS)
    await eventually(lambda: public.instances(narrow), lambda rows: rows != [] and rows[0].error is not None)
    await public.client.range.create(**subnet, start_ip="10.83.0.3", end_ip="10.83.0.9")
    await eventually(lambda: public.instances(narrow), lambda rows: rows[0].state == "applied", seconds=30)
    larger = await public.network("10.84.0.0/29", category="private")
    await public.attach(larger.uuid, "DHCP", provider=FLATS)
    taken = [await public.client.ip.allocate(l3_network_uuid=larger.uuid, owner=str(uuid4())) for _ in range(4)]
    with pytest.raises(PreconditionFailed):
        await public.nic(agent, larger.uuid)
    await public.client.ip.release(uuids=[one.uuid for group in taken for one in group])
    await public.nic(agent, larger.uuid)
