"""`vip.*`: an address of a public L3 network, at IPAM exactly as long as the VIP is there."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from integration.manager.eventually import eventually
from integration.manager.public import Public
from integration.manager.vms import Vms

from local_stack.service import Service
from viaduct_common.errors import (
    AlreadyExists,
    Conflict,
    DeadlineExceeded,
    Exhausted,
    InUse,
    InvalidRequest,
    IpInUse,
    NotFound,
    PreconditionFailed,
)


@pytest.fixture
async def public(vms: Vms) -> Public:
    return Public(vms)


async def test_vip_has_an_address_of_ipam_as_long_as_it_is_there(public: Public) -> None:
    """And its owner there says whose it is, for an audit to know it."""
    network = await public.network("198.51.100.0/28", "fd00:9::/64")
    four = await public.vip(network.uuid, description="first")
    six = await public.vip(network.uuid, ip_version=6)
    chosen = await public.vip(network.uuid, ip="198.51.100.9")

    assert (str(four.ip), four.prefix_length, str(four.gateway)) == ("198.51.100.2", 28, "198.51.100.1")
    assert (four.ip_version, six.ip_version, str(chosen.ip)) == (4, 6, "198.51.100.9")
    assert (four.used_for, four.system, four.enabled, four.revision) == (None, False, True, 1)
    used = await public.vms.used(network.uuid)
    assert used == {str(one.ip): f"vip:{one.uuid}" for one in (four, six, chosen)}
    owners = [*used.values(), f"vip:{uuid4()}", "vip:"]
    assert await public.client.owner.look_up(owners=owners) == list(used.values())
    assert await public.client.vip.get(uuid=four.uuid) == four
    page = await public.client.vip.query(filters={"l3_network_uuid": network.uuid}, sort="-ip")
    assert page.items == [six, chosen, four]
    assert (await public.client.vip.query(filters={"ip": "198.51.100.9"})).items == [chosen]
    with pytest.raises(InUse):
        await public.client.l3.delete(uuid=network.uuid)

    for vip in (four, six, chosen):
        assert await public.client.vip.delete(uuid=vip.uuid) == vip
    assert await public.client.vip.delete(uuid=four.uuid) is None
    with pytest.raises(NotFound):
        await public.client.vip.get(uuid=four.uuid)
    await eventually(lambda: public.vms.used(network.uuid), lambda left: left == {})
    await public.client.l3.delete(uuid=network.uuid)


async def test_vip_is_changed_under_its_revision(public: Public) -> None:
    vip = await public.vip((await public.network()).uuid)
    changed = await public.client.vip.update(uuid=vip.uuid, name="new", enabled=False, revision=1)

    assert (changed.name, changed.enabled, changed.revision) == ("new", False, 2)
    with pytest.raises(Conflict):
        await public.client.vip.update(uuid=vip.uuid, name="newer", revision=1)
    with pytest.raises(NotFound):
        await public.client.vip.update(uuid=uuid4(), name="newer")


@pytest.mark.parametrize(
    ("fields", "error", "field"),
    [
        pytest.param({"l3_network_uuid": uuid4()}, NotFound, "l3NetworkUuid", id="no such network"),
        pytest.param({"ip": "198.18.0.9"}, Conflict, None, id="an address of no range"),
        pytest.param({"ip": "10.0.0.9", "ip_version": 6}, InvalidRequest, "ipVersion", id="two versions"),
        pytest.param({"ip_version": 6}, Exhausted, None, id="no range of this version"),
    ],
)
async def test_vip_is_refused(public: Public, fields: dict[str, Any], error: Any, field: str | None) -> None:
    network = await public.network()
    with pytest.raises(error) as refusal:
        await public.vip(**{"l3": network.uuid, **_named(fields)})

    assert refusal.value.details.get("field") == field
    assert await public.vms.used(network.uuid) == {}


def _named(fields: dict[str, Any]) -> dict[str, Any]:
    return {"l3" if name == "l3_network_uuid" else name: value for name, value in fields.items()}


async def test_vip_is_of_public_networks_that_are_enabled(public: Public) -> None:
    private, off = await public.private(), await public.network(enabled=False)
    ranged = await public.vms.ranged_l2(7000, 7009)
    vni = await public.client.l3.create(l2_network_uuid=ranged.uuid, name="vni", category="public")

    for uuid in (private, off.uuid, vni.uuid):
        with pytest.raises(PreconditionFailed) as refusal:
            await public.vip(uuid)
        assert refusal.value.details["field"] == "l3NetworkUuid"


async def test_network_with_vips_stays_public(public: Public) -> None:
    """Whichever comes first, of two at once as well."""
    network = await public.network()
    vip = await public.vip(network.uuid)
    with pytest.raises(InUse) as refusal:
        await public.client.l3.update(uuid=network.uuid, category="private")
    assert refusal.value.details["vipUuids"] == [str(vip.uuid)]
    await public.client.l3.update(uuid=network.uuid, category="public", name="still")

    await public.client.vip.delete(uuid=vip.uuid)
    made, changed = await asyncio.gather(
        public.vip(network.uuid),
        public.client.l3.update(uuid=network.uuid, category="private"),
        return_exceptions=True,
    )
    assert isinstance(made, PreconditionFailed) != isinstance(changed, InUse)


async def test_taken_uuid_and_taken_address_are_refused_and_leave_nothing(public: Public) -> None:
    network = await public.network()
    vip = await public.vip(network.uuid)

    with pytest.raises(AlreadyExists):
        await public.vip(network.uuid, uuid=vip.uuid)
    with pytest.raises(IpInUse):
        await public.vip(network.uuid, ip=vip.ip)
    assert await public.vms.used(network.uuid) == {str(vip.ip): f"vip:{vip.uuid}"}


async def test_of_two_requests_for_one_address_one_gets_it(public: Public) -> None:
    network = await public.network()
    ip = str((await public.client.ip.free(l3_network_uuid=network.uuid, limit=1))[0])
    answers = await asyncio.gather(*(public.vip(network.uuid, ip=ip) for _ in range(4)), return_exceptions=True)

    assert sorted(type(one).__name__ for one in answers) == ["IpInUse", "IpInUse", "IpInUse", "VipInventory"]


async def test_request_that_is_repeated_makes_one_vip(public: Public) -> None:
    network, message_id = await public.network(), uuid4()
    first = await public.vip(network.uuid, message_id=message_id)

    assert await public.vip(network.uuid, message_id=message_id) == first
    assert len(await public.vms.used(network.uuid)) == 1


@pytest.mark.slow
async def test_nothing_is_lost_while_ipam_is_away(public: Public, ipam: Service) -> None:
    """A deleted VIP's address goes back when IPAM is there again; a new one is refused, and made by the repetition."""
    network, message_id = await public.network(), uuid4()
    vip = await public.vip(network.uuid)
    await asyncio.to_thread(ipam.kill)
    await public.client.vip.delete(uuid=vip.uuid)
    with pytest.raises(DeadlineExceeded):
        await public.vip(network.uuid, message_id=message_id)
    assert await public.client.owner.look_up(owners=[f"vip:{vip.uuid}"]) == [f"vip:{vip.uuid}"]
    await asyncio.to_thread(ipam.start)

    fresh = await public.vip(network.uuid, message_id=message_id)
    await eventually(lambda: public.vms.used(network.uuid), lambda used: used == {str(fresh.ip): f"vip:{fresh.uuid}"})


@pytest.mark.slow
async def test_address_goes_back_though_the_manager_dies(public: Public, manager: Service, ipam: Service) -> None:
    """What stands in the database is told by the next manager."""
    network = await public.network()
    vip = await public.vip(network.uuid)
    await asyncio.to_thread(ipam.kill)
    await public.client.vip.delete(uuid=vip.uuid)
    await asyncio.to_thread(manager.kill)
    await asyncio.to_thread(ipam.start)
    assert await public.vms.used(network.uuid) == {str(vip.ip): f"vip:{vip.uuid}"}

    await asyncio.to_thread(manager.start)
    await eventually(lambda: public.vms.used(network.uuid), lambda used: used == {})
