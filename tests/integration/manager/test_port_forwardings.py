"""`portForwarding.*`: ports of a VIP that are ports of a NIC."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest
from integration.manager.public import Public, router
from integration.manager.scripted_agent import ScriptedAgent
from integration.manager.vms import Vms

from viaduct_common.errors import Conflict, InUse, InvalidRequest, NotFound, PreconditionFailed, ServiceConflict
from viaduct_common.messages.services.port_forwarding import PortForwardingInventory
from viaduct_common.messages.services.vips import VipInventory
from viaduct_common.messages.vm import NicInventory


class Site:
    """A VIP, and NICs on L3 networks with port forwarding."""

    def __init__(self, public: Public, agent: ScriptedAgent, outside: UUID, inside: UUID) -> None:
        self.public, self.agent, self.outside, self.inside = public, agent, outside, inside

    async def nic(self, l3: UUID | None = None) -> NicInventory:
        return await self.public.nic(self.agent, l3 or self.inside)

    async def vip(self) -> VipInventory:
        return await self.public.vip(self.outside)


@pytest.fixture
async def site(vms: Vms) -> Site:
    public = Public(vms)
    agent = await public.gateway()
    return Site(public, agent, (await public.network()).uuid, await public.private("PortForwarding"))


def ports(rule: PortForwardingInventory) -> tuple[int, int, int, int]:
    return rule.vip_port_start, rule.vip_port_end, rule.private_port_start, rule.private_port_end


async def test_ports_are_forwarded_as_long_as_the_rule_leads_to_a_nic(site: Site) -> None:
    """The VIP is free for another use once its last rule is gone."""
    client, nic, vip = site.public.client, await site.nic(), await site.vip()
    web = await site.public.forward(vip, 80, nic_uuid=nic.uuid)
    many = await site.public.forward(
        vip, 8000, vip_port_end=8009, private_port_start=18000, private_port_end=18009, allowed_cidr="192.0.2.0/24"
    )
    assert (ports(web), ports(many)) == ((80, 80, 80, 80), (8000, 8009, 18000, 18009))
    assert (web.private_ip, many.private_ip, str(many.allowed_cidr)) == (nic.ips[0].ip, None, "192.0.2.0/24")
    attached = await client.port_forwarding.attach(uuid=many.uuid, nic_uuid=nic.uuid)
    assert await client.port_forwarding.attach(uuid=many.uuid, nic_uuid=nic.uuid) == attached
    page = await client.port_forwarding.query(filters={"vip_uuid": vip.uuid, "protocol": "TCP"})
    assert page.items == [web, attached]

    await site.public.settle(vip.uuid)
    spec = router(site.agent, site.inside)
    assert spec is not None
    told = {one.rule_uuid: one for one in spec.port_forwardings}
    assert [(one.public_start, one.public_end, one.private_start) for one in (told[web.uuid], told[many.uuid])] == [
        (80, 80, 80),
        (8000, 8009, 18000),
    ]
    assert [str(one) for one in spec.outside[0].addresses] == [f"{vip.ip}/24"]
    await client.port_forwarding.update(uuid=web.uuid, enabled=False)
    await client.port_forwarding.detach(uuid=many.uuid)
    await site.public.settle(site.inside)
    spec = router(site.agent, site.inside)
    assert spec is not None
    assert (spec.port_forwardings, spec.outside) == ([], [])

    with pytest.raises(InUse) as in_use:
        await client.vip.delete(uuid=vip.uuid)
    assert set(in_use.value.details["usedBy"]) == {str(web.uuid), str(many.uuid)}
    await client.port_forwarding.delete(uuid=web.uuid)
    assert (await client.vip.get(uuid=vip.uuid)).used_for == "PortForwarding"
    await client.port_forwarding.delete(uuid=many.uuid)
    assert await client.port_forwarding.delete(uuid=many.uuid) is None
    assert (await client.vip.get(uuid=vip.uuid)).used_for is None
    with pytest.raises(NotFound):
        await client.port_forwarding.get(uuid=web.uuid)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        pytest.param({"vip_port_end": 79}, "vipPortEnd", id="ends before it starts"),
        pytest.param({"vip_port_end": 89, "private_port_start": 80}, "privatePortEnd", id="fewer private ones"),
        pytest.param({"private_port_end": 81}, "privatePortEnd", id="more private ones"),
        pytest.param({"allowed_cidr": "fd00::/64"}, "allowedCidr", id="another version"),
        pytest.param({"private_ip": "10.0.0.1"}, "privateIp", id="an address of no NIC"),
    ],
)
async def test_rule_that_contradicts_itself_is_refused(site: Site, fields: dict[str, Any], field: str) -> None:
    vip = await site.vip()
    with pytest.raises(InvalidRequest) as refusal:
        await site.public.forward(vip, 80, **fields)
    assert refusal.value.details["field"] == field
    assert (await site.public.client.vip.get(uuid=vip.uuid)).used_for is None


async def test_ports_of_a_vip_and_protocol_are_one_rules(site: Site) -> None:
    vip = await site.vip()
    rule = await site.public.forward(vip, 100, vip_port_end=110)
    for start, end in ((110, None), (90, 100), (105, 106), (1, 65535)):
        with pytest.raises(Conflict) as refusal:
            await site.public.forward(vip, start, vip_port_end=end)
        assert refusal.value.code == "CONFLICT"
        assert refusal.value.details == {"field": "vipPortStart", "portForwardingUuid": str(rule.uuid)}
    await site.public.forward(vip, 111)
    await site.public.forward(vip, 100, protocol="UDP", vip_port_end=110)
    await site.public.forward(await site.vip(), 100)


async def test_vip_of_an_eip_forwards_no_ports(site: Site) -> None:
    vip = await site.vip()
    await site.public.eip(vip)
    with pytest.raises(ServiceConflict) as refusal:
        await site.public.forward(vip, 80)
    assert refusal.value.details["usedFor"] == "EIP"
    with pytest.raises(NotFound) as missing:
        await site.public.client.port_forwarding.create(vip_uuid=uuid4(), name="x", protocol="TCP", vip_port_start=1)
    assert missing.value.details["field"] == "vipUuid"


async def test_nic_has_ports_of_one_vip_and_a_vip_leads_to_one_network(site: Site) -> None:
    """Else an answer could leave by the wrong address, or one address would be on two routers."""
    nic, vip, other = await site.nic(), await site.vip(), await site.vip()
    await site.public.forward(vip, 80, nic_uuid=nic.uuid)
    with pytest.raises(Conflict) as refusal:
        await site.public.forward(other, 80, nic_uuid=nic.uuid)
    assert refusal.value.details == {"field": "nicUuid", "vipUuid": str(vip.uuid)}
    await site.public.forward(vip, 81, nic_uuid=(await site.nic()).uuid)

    elsewhere = await site.public.private("PortForwarding")
    far = await site.nic(elsewhere)
    with pytest.raises(Conflict) as scattered:
        await site.public.forward(vip, 82, nic_uuid=far.uuid)
    assert scattered.value.details == {"field": "nicUuid", "l3NetworkUuid": str(site.inside)}
    rule = await site.public.forward(vip, 82)
    with pytest.raises(Conflict):
        await site.public.client.port_forwarding.attach(uuid=rule.uuid, nic_uuid=far.uuid)
    second = await site.nic()
    await site.public.client.port_forwarding.attach(uuid=rule.uuid, nic_uuid=second.uuid)
    with pytest.raises(Conflict) as taken:
        await site.public.client.port_forwarding.attach(uuid=rule.uuid, nic_uuid=nic.uuid)
    assert taken.value.details["nicUuid"] == str(second.uuid)


async def test_nic_must_be_there_and_served(site: Site) -> None:
    vip, bare = await site.vip(), await site.nic(await site.public.private("DHCP"))
    with pytest.raises(PreconditionFailed) as refusal:
        await site.public.forward(vip, 80, nic_uuid=bare.uuid)
    assert refusal.value.details["field"] == "nicUuid"
    with pytest.raises(NotFound) as missing:
        await site.public.forward(vip, 80, nic_uuid=uuid4())
    assert missing.value.details["field"] == "nicUuid"


async def test_of_requests_at_the_same_moment_one_gets_through(site: Site) -> None:
    """For the same ports, for a NIC of several VIPs, for a VIP of two services."""

    async def outcome(*calls: Any) -> list[str]:
        return sorted(type(one).__name__ for one in await asyncio.gather(*calls, return_exceptions=True))

    vip = await site.vip()
    assert await outcome(*(site.public.forward(vip, 75 + n, vip_port_end=80 + n) for n in range(4))) == [
        "Conflict",
        "Conflict",
        "Conflict",
        "PortForwardingInventory",
    ]
    nic, vips = await site.nic(), [await site.vip() for _ in range(3)]
    calls = (site.public.forward(one, 80, nic_uuid=nic.uuid) for one in vips)
    assert await outcome(*calls) == ["Conflict", "Conflict", "PortForwardingInventory"]
    for _ in range(3):
        free = await site.vip()
        answers = await outcome(site.public.eip(free), site.public.forward(free, 80))
        assert answers in (["EipInventory", "ServiceConflict"], ["PortForwardingInventory", "ServiceConflict"])
    other = await site.nic(await site.public.private("PortForwarding"))
    shared = await site.vip()
    calls = (site.public.forward(shared, 80 + n, nic_uuid=one.uuid) for n, one in enumerate((nic, other)))
    assert "Conflict" in await outcome(*calls)


async def test_service_is_not_detached_while_rules_depend_on_it(site: Site) -> None:
    rule = await site.public.forward(await site.vip(), 80, nic_uuid=(await site.nic()).uuid)
    with pytest.raises(InUse) as refusal:
        await site.public.detach(site.inside, "PortForwarding")
    assert refusal.value.details["portForwardingUuids"] == [str(rule.uuid)]
    await site.public.client.port_forwarding.delete(uuid=rule.uuid)
    await site.public.detach(site.inside, "PortForwarding")
