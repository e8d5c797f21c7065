"""`VirtualRouter`: what a router is told, on which host it lives, and when it moves."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest
from integration.manager.eventually import eventually
from integration.manager.public import CAPABLE, ROUTERS, Public, router
from integration.manager.vms import Vms

from local_stack.service import Service
from viaduct_common.errors import InUse, InvalidRequest, IpInUse, NotFound, PreconditionFailed


@pytest.fixture
async def public(vms: Vms) -> Public:
    return Public(vms)


# ---- what it is told ---------------------------------------------------------------------------------------------


async def test_router_serves_names_and_addresses_of_its_network(public: Public) -> None:
    """DHCP names the router for DNS as long as it serves that; names are the NICs' own, or made of their addresses."""
    agent = await public.gateway()
    l3 = await public.private(
        "DHCP",
        "DNS",
        cidr="10.71.0.0/24",
        dns=["192.0.2.53"],
        dns_domain="example.org",
        mtu=1400,
        host_routes=[{"prefix": "192.0.2.0/24", "next_hop": "10.71.0.9"}],
    )
    first = await public.nic(agent, {"l3_network_uuid": l3, "host_name": "web"})
    second = await public.nic(agent, l3)

    spec = router(agent, l3)
    assert spec is not None
    network = await public.client.l2.get(uuid=first.l2_network_uuid)
    assert (spec.inside.port.bridge, spec.inside.mtu) == (network.bridge_name, 1400)
    assert [str(one) for one in spec.inside.addresses] == ["10.71.0.1/24"]
    assert (spec.outside, spec.snat, spec.eips, spec.port_forwardings) == ([], [], [], [])
    by_nic = {one.nic_uuid: one for one in spec.nics}
    assert (by_nic[first.uuid].host_name, by_nic[first.uuid].mac) == ("web", first.mac)
    assert by_nic[second.uuid].host_name == "ip-10-71-0-3"
    assert spec.dhcp is not None
    assert spec.dns is not None
    assert [str(one) for one in (*spec.dhcp.routers, *spec.dhcp.dns_servers)] == ["10.71.0.1", "10.71.0.1"]
    assert (spec.dhcp.domain, spec.dhcp.mtu, len(spec.dhcp.routes)) == ("example.org", 1400, 1)
    assert {one.host_name for one in spec.dns.records} == {"web", "ip-10-71-0-3"}
    assert [str(one) for one in spec.dns.forwarders] == ["192.0.2.53"]

    await public.detach(l3, "DNS")
    await public.settle(l3)
    spec = router(agent, l3)
    assert spec is not None
    assert spec.dns is None
    assert spec.dhcp is not None
    assert [str(one) for one in spec.dhcp.dns_servers] == ["192.0.2.53"]


async def test_router_is_there_as_long_as_it_has_nics_and_something_to_serve(public: Public) -> None:
    agent = await public.gateway()
    l3 = await public.private()
    nic = await public.nic(agent, l3)
    assert await public.instances(l3) == []
    await public.attach(l3, "DHCP")
    await public.moves(l3, agent)
    await public.detach(l3, "DHCP")
    await eventually(lambda: public.instances(l3), lambda rows: rows == [])
    await public.attach(l3, "DNS")
    await public.moves(l3, agent)
    await public.vms.release(nic.vm_uuid)
    await eventually(lambda: public.instances(l3), lambda rows: rows == [])
    assert router(agent, l3) is None


async def test_router_without_a_gateway_address_has_a_problem(public: Public) -> None:
    agent = await public.gateway()
    network = await public.network(category="private")
    await public.attach(network.uuid, "DHCP")
    nic = await public.nic(agent, network.uuid)
    sql = f"UPDATE nic_ip SET gateway = NULL WHERE nic_uuid = '{nic.uuid}'"
    await asyncio.to_thread(public.vms.fleet.place.sql, sql)
    await public.client.l3.update(uuid=network.uuid, name="renamed")

    rows = await eventually(lambda: public.instances(network.uuid), lambda rows: rows[0].error is not None)
    assert rows[0].error is not None
    assert rows[0].error.code == "PRECONDITION_FAILED"


# ---- SNAT --------------------------------------------------------------------------------------------------------


async def test_snat_has_an_address_of_its_own_as_long_as_it_is_attached(public: Public) -> None:
    """A system VIP, made with the attach; another config is another address; the former goes back."""
    agent = await public.gateway()
    outside = await public.network("198.51.100.0/24", mtu=1300)
    l3 = await public.private()
    nic = await public.nic(agent, l3)
    shown = await public.attach(l3, "SNAT")

    [vip] = (await public.client.vip.query(filters={"used_for": "SNAT", "l3_network_uuid": outside.uuid})).items
    config = {"publicL3NetworkUuid": str(outside.uuid), "publicIp": str(vip.ip)}
    assert [one.config for one in shown.services] == [config]
    assert (vip.system, vip.used_for) == (True, "SNAT")
    for again in ({}, {"publicIp": str(vip.ip)}, config):
        assert (await public.attach(l3, "SNAT", SNAT=again)).services == shown.services
    assert len((await public.client.vip.query(filters={"l3_network_uuid": outside.uuid})).items) == 1
    with pytest.raises(InUse) as mine:
        await public.client.vip.delete(uuid=vip.uuid)
    assert mine.value.details["usedBy"] == [str(l3)]

    await public.settle(vip.uuid)
    spec = router(agent, l3)
    assert spec is not None
    [leg] = spec.outside
    assert spec.snat == [vip.ip]
    assert ([str(one) for one in leg.addresses], [str(one) for one in leg.gateways]) == (
        [f"{vip.ip}/24"],
        ["198.51.100.1"],
    )
    assert (leg.mtu, leg.mac != spec.inside.mac) == (1300, True)

    other = await public.client.l3.configure_service(
        l3_network_uuid=l3, service_type="SNAT", config={**config, "publicIp": "198.51.100.77"}
    )
    assert other.services[0].config["publicIp"] == "198.51.100.77"
    await eventually(lambda: public.vms.used(outside.uuid), lambda used: list(used) == ["198.51.100.77"])
    await public.detach(l3, "SNAT")
    await eventually(lambda: public.vms.used(outside.uuid), lambda used: used == {})
    # Without anything to serve it has an end, and the L3 network may go with what is attached to it.
    await public.attach(l3, "SNAT")
    await public.vms.release(nic.vm_uuid)

    async def delete() -> Any:
        return await public.client.l3.delete(uuid=l3)

    await delete()
    await eventually(lambda: public.vms.used(outside.uuid), lambda used: used == {})
    assert (await public.client.vip.query(filters={"l3_network_uuid": outside.uuid})).items == []


async def test_snat_is_refused(public: Public) -> None:
    """And nothing is kept of it: neither here nor at IPAM."""
    l3, other = await public.private(), await public.private()

    async def refused(error: type[Exception], **config: Any) -> str | None:
        with pytest.raises(error) as refusal:
            await public.attach(l3, "SNAT", SNAT=config)
        found: str | None = refusal.value.details.get("field")  # type: ignore[attr-defined]
        return found

    field = "config.SNAT.publicL3NetworkUuid"
    assert await refused(InvalidRequest) == field
    assert await refused(NotFound, publicL3NetworkUuid=str(uuid4())) is not None
    assert await refused(PreconditionFailed, publicL3NetworkUuid=str(other)) is not None
    assert await refused(InvalidRequest, publicL3NetworkUuid=str(l3)) == field
    assert await refused(InvalidRequest, publicL3NetworkUuid="x") == field
    assert await refused(InvalidRequest, public="x") == "config.SNAT.public"
    one, two = await public.network(), await public.network()
    assert await refused(InvalidRequest) == field
    vip = await public.vip(one.uuid)
    taken = {"publicL3NetworkUuid": str(one.uuid), "publicIp": str(vip.ip)}
    await refused(IpInUse, **taken)
    assert await public.vms.used(two.uuid) == {}
    # What IPAM refused once it does not refuse for ever.
    await public.client.vip.delete(uuid=vip.uuid)
    await eventually(lambda: public.vms.used(one.uuid), lambda used: used == {})
    await public.attach(l3, "SNAT", SNAT=taken)
    with pytest.raises(InvalidRequest) as wrong:
        await public.attach(l3, "DHCP", DHCP={"lease": 5})
    assert wrong.value.details["field"] == "config.DHCP.lease"


async def test_ranged_vxlan_networks_have_no_router(public: Public) -> None:
    ranged = await public.vms.ranged_l2(7100, 7109)
    l3 = await public.vms.bare_l3(ranged)
    with pytest.raises(PreconditionFailed):
        await public.attach(l3, "DHCP")
    plain = await public.client.l3.get(uuid=await public.private())
    found = (await public.client.service_provider.query(filters={"uuid": ROUTERS})).items[0]
    assert plain.l2_network_uuid in found.attached_l2_network_uuids
    assert ranged.uuid not in found.attached_l2_network_uuids


# ---- where it lives ----------------------------------------------------------------------------------------------


async def test_routers_are_spread_and_stay_where_they_are(public: Public) -> None:
    first = await public.gateway()
    l3s = [await public.private("DHCP") for _ in range(2)]
    for l3 in l3s:
        await public.nic(first, l3)
    second = await public.gateway()
    more = [await public.private("DHCP") for _ in range(2)]
    for l3 in more:
        await public.nic(first, l3)

    assert [await public.home(l3) for l3 in l3s] == [first.uuid, first.uuid]
    assert [await public.home(l3) for l3 in more] == [second.uuid, second.uuid]


async def test_router_moves_from_a_host_that_dies_and_is_removed_when_that_returns(public: Public) -> None:
    """With the same MACs and addresses, whatever host it is on."""
    one, two = await public.gateway(), await public.gateway()
    outside = await public.network()
    l3 = await public.private("DHCP", "EIP")
    nic = await public.nic(one, l3)
    await public.eip(await public.vip(outside.uuid), nic_uuid=nic.uuid)
    await public.settle(l3)
    spec = await public.moves(l3, one, two)
    home = next(agent for agent in (one, two) if router(agent, l3) is not None)
    away = two if home is one else one

    await home.fall_silent()
    await eventually(lambda: public.home(l3), lambda there: there == away.uuid, seconds=30)
    await eventually(_held(away, l3), lambda there: there is not None)
    assert router(away, l3) == spec
    assert router(home, l3) is not None
    await home.hello()
    home.beat_on()
    assert await public.moves(l3, away) == spec


def _held(agent: Any, l3: UUID) -> Any:
    async def look() -> Any:
        return router(agent, l3)

    return look


async def test_router_moves_from_a_host_in_maintenance_and_from_one_without_the_label(public: Public) -> None:
    one, two = await public.gateway(), await public.gateway()
    l3 = await public.private("DHCP")
    await public.nic(one, l3)
    home, away = (one, two) if await public.home(l3) == one.uuid else (two, one)

    await public.client.host.set_maintenance(uuid=home.uuid, maintenance=True)
    await eventually(lambda: public.home(l3), lambda there: there == away.uuid)
    await public.client.host.set_maintenance(uuid=home.uuid, maintenance=False)
    await public.moves(l3, away)
    await public.client.host.update(uuid=away.uuid, labels={})
    await public.moves(l3, home)


async def test_without_a_fit_host_the_vm_is_refused_with_the_reasons(public: Public) -> None:
    """And served as soon as there is one."""
    l3 = await public.private("DHCP")
    plain = await public.vms.fleet.join()
    with pytest.raises(PreconditionFailed):
        await public.nic(plain, l3)
    unable = await public.vms.fleet.join()
    await public.client.host.update(uuid=unable.uuid, labels={"gateway": "true"})
    with pytest.raises(PreconditionFailed) as refusal:
        await public.nic(plain, l3)
    assert "service/virtualRouter" in str(refusal.value.details)
    unable.capabilities = CAPABLE
    await unable.hello()
    await eventually(
        lambda: public.client.host.get(uuid=unable.uuid), lambda host: "service/virtualRouter" in host.capabilities
    )
    await public.nic(plain, l3)
    assert await public.home(l3) == unable.uuid


async def test_public_network_that_no_gateway_has_takes_no_service_away(public: Public) -> None:
    """The router stays, and says what it is missing; it has it as soon as the network is attached."""
    agent = await public.gateway()
    l3 = await public.private("DHCP", "EIP")
    nic = await public.nic(agent, l3)
    l2 = await public.vms.fleet.network()
    far = await public.client.l3.create(l2_network_uuid=l2.uuid, name="far", category="public")
    await public.client.range.create(l3_network_uuid=far.uuid, network_cidr="203.0.251.0/24")
    await public.eip(await public.vip(far.uuid), nic_uuid=nic.uuid)
    await public.settle(l3)

    spec = router(agent, l3)
    assert spec is not None
    assert (spec.eips, spec.outside, spec.dhcp is not None) == ([], [], True)
    rows = await public.instances(l3)
    assert any(row.error is not None and str(l2.uuid) in str(row.error.details) for row in rows)
    await public.nic(agent, l3)
    await public.vms.fleet.attach(l2)

    async def eips() -> Any:
        found = router(agent, l3)
        return [] if found is None else found.eips

    await eventually(eips, lambda seen: len(seen) == 1)


async def test_router_stays_where_its_host_is_away_and_there_is_no_other(public: Public) -> None:
    """It may serve all the same; and it is not made anew when the host is back."""
    agent = await public.gateway()
    l3 = await public.private("DHCP")
    await public.nic(agent, l3)
    before = agent.services.held.copy()
    await public.vms.lose(agent)
    await public.client.l3.update(uuid=l3, name="renamed")
    rows = await eventually(lambda: public.instances(l3), lambda rows: rows[0].error is not None)
    assert [row.host_uuid for row in rows if row.desired == "present"] == [agent.uuid]
    await agent.hello()
    agent.beat_on()
    await eventually(lambda: public.instances(l3), lambda rows: rows[0].error is None and rows[0].state == "applied")
    assert agent.services.held == before


async def test_manager_that_starts_anew_moves_nothing(public: Public, manager: Service) -> None:
    one, two = await public.gateway(), await public.gateway()
    l3s = [await public.private("DHCP") for _ in range(3)]
    for l3 in l3s:
        await public.nic(one, l3)
    before = [await public.home(l3) for l3 in l3s]
    assert set(before) == {one.uuid, two.uuid}
    await asyncio.to_thread(manager.kill)
    await asyncio.to_thread(manager.start)
    for l3 in l3s:
        await public.client.l3.update(uuid=l3, name="again")
        await public.settle(l3)
    assert [await public.home(l3) for l3 in l3s] == before
