"""`eip.*`: a VIP that is one NIC's; who may have it, and what becomes of it when the NIC goes."""

import asyncio
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest
from integration.manager.conftest import Fleet
from integration.manager.public import FLATS, Public, router
from integration.manager.scripted_agent import ScriptedAgent
from integration.manager.vms import Vms

from viaduct_common.errors import (
    AlreadyExists,
    Conflict,
    InUse,
    InvalidRequest,
    NotFound,
    PreconditionFailed,
    ServiceConflict,
)
from viaduct_common.messages.services.vips import VipInventory
from viaduct_common.messages.vm import NicInventory


@dataclass
class Site:
    """A NIC on a private L3 network with EIPs, and a VIP of a public one."""

    public: Public
    agent: ScriptedAgent
    outside: UUID
    inside: UUID
    nic: NicInventory
    vip: VipInventory

    async def another_vip(self, **fields: Any) -> VipInventory:
        return await self.public.vip(self.outside, **fields)

    async def another_nic(self, **options: Any) -> NicInventory:
        return await self.public.nic(self.agent, self.inside, **options)


@pytest.fixture
async def site(vms: Vms) -> Site:
    public = Public(vms)
    agent = await public.gateway()
    outside = (await public.network()).uuid
    inside = await public.private("EIP", "PortForwarding")
    return Site(public, agent, outside, inside, await public.nic(agent, inside), await public.vip(outside))


async def test_eip_is_attached_moved_and_deleted(site: Site) -> None:
    """The VIP is its own from the creation to the deletion, attached or not; the router follows."""
    client = site.public.client
    eip = await site.public.eip(site.vip, nic_uuid=site.nic.uuid)

    assert (eip.vip_ip, eip.nic_uuid, eip.private_ip) == (site.vip.ip, site.nic.uuid, site.nic.ips[0].ip)
    assert (await client.vip.get(uuid=site.vip.uuid)).used_for == "EIP"
    [row] = await site.public.settle(eip.uuid)
    assert (row.subject_uuid, row.state) == (site.inside, "applied")
    spec = router(site.agent, site.inside)
    assert spec is not None
    [rule] = spec.eips
    assert (rule.eip_uuid, rule.public_ip, rule.private_ip) == (eip.uuid, site.vip.ip, site.nic.ips[0].ip)

    assert await client.eip.attach(uuid=eip.uuid, nic_uuid=site.nic.uuid) == eip
    other = await site.another_nic()
    with pytest.raises(Conflict) as refusal:
        await client.eip.attach(uuid=eip.uuid, nic_uuid=other.uuid)
    assert refusal.value.details["nicUuid"] == str(site.nic.uuid)
    detached = await client.eip.detach(uuid=eip.uuid)
    assert (detached.nic_uuid, detached.private_ip, detached.revision) == (None, None, 2)
    assert await client.eip.detach(uuid=eip.uuid) == detached
    moved = await client.eip.attach(uuid=eip.uuid, nic_uuid=other.uuid)
    assert (await client.eip.query(filters={"nic_uuid": other.uuid})).items == [moved]
    assert (await client.eip.query(filters={"nic_uuid": site.nic.uuid})).items == []
    assert (await client.eip.query(filters={"vip_uuid": site.vip.uuid}, sort="nicUuid")).items == [moved]
    with pytest.raises(InUse) as in_use:
        await client.vip.delete(uuid=site.vip.uuid)
    assert in_use.value.details["usedBy"] == [str(eip.uuid)]

    assert await client.eip.delete(uuid=eip.uuid) == moved
    assert await client.eip.delete(uuid=eip.uuid) is None
    assert (await client.vip.get(uuid=site.vip.uuid)).used_for is None
    await site.public.settle(site.inside)
    spec = router(site.agent, site.inside)
    assert spec is not None
    assert (spec.eips, spec.outside) == ([], [])


async def test_what_is_not_enabled_does_not_work(site: Site) -> None:
    """Neither an EIP that is switched off nor one of a VIP that is."""
    client = site.public.client
    eip = await site.public.eip(site.vip, nic_uuid=site.nic.uuid)

    async def served() -> bool:
        await site.public.settle(site.inside)
        spec = router(site.agent, site.inside)
        assert spec is not None
        return bool(spec.eips) and bool(spec.outside)

    assert await served()
    assert (await client.eip.update(uuid=eip.uuid, enabled=False, revision=1)).revision == 2
    assert not await served()
    await client.eip.update(uuid=eip.uuid, enabled=True)
    await client.vip.update(uuid=site.vip.uuid, enabled=False)
    assert not await served()
    await client.vip.update(uuid=site.vip.uuid, enabled=True)
    assert await served()
    with pytest.raises(Conflict):
        await client.eip.update(uuid=eip.uuid, name="x", revision=1)


async def test_vip_must_be_there_and_free(site: Site) -> None:
    first = await site.public.eip(site.vip)
    with pytest.raises(ServiceConflict) as refusal:
        await site.public.eip(site.vip)
    assert (refusal.value.details["field"], refusal.value.details["usedFor"]) == ("vipUuid", "EIP")
    forwarded = await site.another_vip()
    await site.public.forward(forwarded, 80)
    with pytest.raises(ServiceConflict) as refusal:
        await site.public.eip(forwarded)
    assert refusal.value.details["usedFor"] == "PortForwarding"
    with pytest.raises(NotFound) as missing:
        await site.public.client.eip.create(vip_uuid=uuid4(), name="eip")
    assert missing.value.details["field"] == "vipUuid"
    with pytest.raises(AlreadyExists):
        await site.public.eip(await site.another_vip(), uuid=first.uuid)
    with pytest.raises(NotFound):
        await site.public.client.eip.attach(uuid=uuid4(), nic_uuid=site.nic.uuid)


async def test_nic_must_be_there_and_served(site: Site) -> None:
    bare = await site.public.nic(site.agent, await site.public.private("DHCP"))
    with pytest.raises(PreconditionFailed) as refusal:
        await site.public.eip(site.vip, nic_uuid=bare.uuid)
    assert refusal.value.details == {"field": "nicUuid", "l3NetworkUuid": str(bare.l3_network_uuid)}
    with pytest.raises(NotFound) as missing:
        await site.public.eip(site.vip, nic_uuid=uuid4())
    assert missing.value.details["field"] == "nicUuid"
    assert (await site.public.client.vip.get(uuid=site.vip.uuid)).used_for is None


async def test_public_address_leads_out_of_the_nics_networks(site: Site) -> None:
    """Not to a NIC on the public network itself, nor within its subnet, nor past another NIC of the VM."""
    await site.public.attach(site.outside, "EIP")
    at_home = await site.public.nic(site.agent, site.outside)
    with pytest.raises(InvalidRequest) as refusal:
        await site.public.eip(site.vip, nic_uuid=at_home.uuid)
    assert refusal.value.details["field"] == "vipUuid"
    both = await site.public.nic(site.agent, site.inside, site.outside)
    with pytest.raises(PreconditionFailed) as near:
        await site.public.eip(site.vip, nic_uuid=both.uuid)
    assert near.value.details["field"] == "nicUuid"
    same = site.vip.ip.exploded.rpartition(".")[0] + ".0/24"
    twin = await site.public.nic(site.agent, await site.public.private("EIP", cidr=same))
    with pytest.raises(InvalidRequest) as within:
        await site.public.eip(site.vip, nic_uuid=twin.uuid)
    assert within.value.details["field"] == "vipUuid"


async def test_addresses_are_of_one_version_and_of_the_nic(site: Site) -> None:
    """Of several the first, or the one that is asked for."""
    outside = (await site.public.network("fd00:99::/64")).uuid
    six = await site.public.vip(outside)
    with pytest.raises(InvalidRequest) as refusal:
        await site.public.eip(six, nic_uuid=site.nic.uuid)
    assert refusal.value.details["field"] == "nicUuid"
    for ip in ("10.200.0.9", "fd00:99::5"):
        with pytest.raises(InvalidRequest) as foreign:
            await site.public.eip(site.vip, nic_uuid=site.nic.uuid, private_ip=ip)
        assert foreign.value.details["field"] == "privateIp"
    with pytest.raises(InvalidRequest) as alone:
        await site.public.eip(site.vip, private_ip=site.nic.ips[0].ip)
    assert alone.value.details["field"] == "privateIp"

    dual = await site.public.private("EIP", cidr="10.199.0.0/24")
    await site.public.client.range.create(l3_network_uuid=dual, network_cidr="fd00:98::/64")
    nic = await site.public.nic(site.agent, dual)
    both = [await site.public.eip(vip, nic_uuid=nic.uuid) for vip in (site.vip, six)]
    assert [one.private_ip for one in both] == [one.ip for one in nic.ips]


async def test_nic_has_one_eip_of_a_version(site: Site) -> None:
    first = await site.public.eip(site.vip, nic_uuid=site.nic.uuid)
    second = await site.public.eip(await site.another_vip())
    with pytest.raises(Conflict) as refusal:
        await site.public.client.eip.attach(uuid=second.uuid, nic_uuid=site.nic.uuid)
    assert refusal.value.details == {"field": "nicUuid", "eipUuid": str(first.uuid)}


async def test_eip_and_ports_for_some_exclude_each_other(site: Site) -> None:
    """In both orders; ports for everybody are no contradiction."""
    ports = await site.another_vip()
    rule = await site.public.forward(ports, 22, nic_uuid=site.nic.uuid, allowed_cidr="192.0.2.0/24")
    with pytest.raises(Conflict) as refusal:
        await site.public.eip(site.vip, nic_uuid=site.nic.uuid)
    assert refusal.value.details["portForwardingUuids"] == [str(rule.uuid)]
    await site.public.client.port_forwarding.detach(uuid=rule.uuid)
    eip = await site.public.eip(site.vip, nic_uuid=site.nic.uuid)
    with pytest.raises(Conflict) as other:
        await site.public.client.port_forwarding.attach(uuid=rule.uuid, nic_uuid=site.nic.uuid)
    assert other.value.details["eipUuids"] == [str(eip.uuid)]
    await site.public.forward(ports, 80, nic_uuid=site.nic.uuid)


async def test_of_requests_at_the_same_moment_one_gets_through(site: Site) -> None:
    """For one VIP, for one NIC, and for a NIC that is being released."""
    vips = [await site.another_vip() for _ in range(4)]

    async def outcome(*calls: Any) -> list[str]:
        return sorted(type(one).__name__ for one in await asyncio.gather(*calls, return_exceptions=True))

    of_one_vip = await outcome(*(site.public.eip(site.vip) for _ in range(4)))
    assert of_one_vip == ["EipInventory", "ServiceConflict", "ServiceConflict", "ServiceConflict"]
    of_one_nic = await outcome(*(site.public.eip(vip, nic_uuid=site.nic.uuid) for vip in vips))
    assert of_one_nic == ["Conflict", "Conflict", "Conflict", "EipInventory"]

    other = await site.another_nic()
    free = [await site.public.eip(await site.another_vip()) for _ in range(3)]
    attaching = (site.public.client.eip.attach(uuid=one.uuid, nic_uuid=other.uuid) for one in free)
    await asyncio.gather(*attaching, site.public.vms.release(other.vm_uuid), return_exceptions=True)
    left = [await site.public.client.eip.get(uuid=one.uuid) for one in free]
    assert [one.nic_uuid for one in left] == [None, None, None]


async def test_of_an_eip_and_ports_for_some_at_the_same_moment_one_gets_through(site: Site) -> None:
    for _ in range(4):
        nic, one, other = await site.another_nic(), await site.another_vip(), await site.another_vip()
        answers = await asyncio.gather(
            site.public.eip(one, nic_uuid=nic.uuid),
            site.public.forward(other, 22, nic_uuid=nic.uuid, allowed_cidr="192.0.2.0/24"),
            return_exceptions=True,
        )
        assert sum(isinstance(answer, Conflict) for answer in answers) == 1, answers


async def test_service_is_not_detached_while_an_eip_depends_on_it(site: Site) -> None:
    eip = await site.public.eip(site.vip, nic_uuid=site.nic.uuid)
    with pytest.raises(InUse) as refusal:
        await site.public.detach(site.inside, "EIP", "PortForwarding")
    assert refusal.value.details["eipUuids"] == [str(eip.uuid)]
    await site.public.client.eip.detach(uuid=eip.uuid)
    for _ in range(5):
        await site.public.attach(site.inside, "EIP")
        answers = await asyncio.gather(
            site.public.client.eip.attach(uuid=eip.uuid, nic_uuid=site.nic.uuid),
            site.public.detach(site.inside, "EIP"),
            return_exceptions=True,
        )
        assert sum(isinstance(one, InUse | PreconditionFailed) for one in answers) == 1, answers
        await site.public.client.eip.detach(uuid=eip.uuid)


async def test_nic_that_goes_leaves_its_eip_and_ports_and_one_that_moves_keeps_them(site: Site) -> None:
    other = await site.public.vms.fleet.join()
    nic = await site.another_nic()
    eip = await site.public.eip(site.vip, nic_uuid=nic.uuid)
    rule = await site.public.forward(await site.another_vip(), 80, nic_uuid=nic.uuid)
    await site.public.vms.migrate(nic.vm_uuid, other, "begin")
    await site.public.vms.migrate(nic.vm_uuid, other, "finish")
    assert await site.public.client.eip.get(uuid=eip.uuid) == eip
    assert await site.public.client.port_forwarding.get(uuid=rule.uuid) == rule

    await site.public.vms.release(nic.vm_uuid)
    left = await site.public.client.eip.get(uuid=eip.uuid)
    assert (left.nic_uuid, left.private_ip, left.revision) == (None, None, 2)
    assert (await site.public.client.port_forwarding.get(uuid=rule.uuid)).nic_uuid is None
    assert (await site.public.client.vip.get(uuid=site.vip.uuid)).used_for == "EIP"
    await site.public.client.eip.attach(uuid=eip.uuid, nic_uuid=site.nic.uuid)


async def test_flat_eip_needs_the_public_network_where_the_nic_is(site: Site, other: Fleet) -> None:
    """At the attach, and at a migration."""
    public, vms = site.public, site.public.vms
    l2 = await vms.fleet.network()
    far = await public.client.l3.create(l2_network_uuid=l2.uuid, name="far", category="public")
    await public.client.range.create(l3_network_uuid=far.uuid, network_cidr="203.0.250.0/24")
    nic = await public.nic(site.agent, await public.private("EIP", provider=FLATS))
    vip = await public.vip(far.uuid)
    with pytest.raises(PreconditionFailed) as refusal:
        await public.eip(vip, nic_uuid=nic.uuid)
    assert refusal.value.details == {"field": "nicUuid", "l2NetworkUuids": [str(l2.uuid)]}

    await vms.fleet.attach(l2)
    eip = await public.eip(vip, nic_uuid=nic.uuid)
    away = await other.join()
    await other.attach(await public.client.l2.get(uuid=nic.l2_network_uuid))
    with pytest.raises(PreconditionFailed) as stay:
        await vms.migrate(nic.vm_uuid, away, "begin")
    assert (stay.value.details["field"], stay.value.details["eipUuids"]) == ("hostUuid", [str(eip.uuid)])
    await other.attach(l2)
    await vms.migrate(nic.vm_uuid, away, "begin")
