"""`vm.prepareNetworks` and `vm.releaseNetworks`: all that is asked for, or nothing; and nothing is left behind."""

import asyncio
from ipaddress import ip_address
from typing import Any
from uuid import uuid4
from xml.etree import ElementTree

import pytest
from integration.manager.eventually import eventually
from integration.manager.scripted_agent import REALIZE, REFUSED, SYNC
from integration.manager.vms import Vms

from viaduct_common.errors import (
    BackendFailed,
    Conflict,
    HostUnreachable,
    InvalidRequest,
    IpInUse,
    NotFound,
    PreconditionFailed,
)
from viaduct_common.messages.batch import Batch


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
    xml = ElementTree.fromstring(nic.libvirt_xml)
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


async def test_several_nics_come_in_the_order_asked_each_with_what_it_asked_for(vms: Vms) -> None:
    """Dual stack, a required MAC, required addresses, a network without ranges."""
    agent = await vms.fleet.join()
    l2, other = await vms.attached_l2(), await vms.attached_l2()
    dual = await vms.l3(l2, "10.1.0.0/24", "fd00:1::/64")
    bare = await vms.bare_l3(other)
    vm, mac = uuid4(), "52:54:00:aa:bb:cc"

    asked = [
        {"l3_network_uuid": dual, "ips": ["10.1.0.77", "fd00:1::77"]},
        {"l3_network_uuid": bare},
        {"l3_network_uuid": dual, "mac": mac},
        {"l3_network_uuid": dual, "ip": "fd00:1::99"},
    ]
    given = await vms.prepare(vm, agent, asked)

    assert [nic.l3_network_uuid for nic in given] == [dual, bare, dual, dual]
    assert [nic.device_index for nic in given] == [0, 1, 2, 3]
    ips = [[str(one.ip) for one in nic.ips] for nic in given]
    assert ips[:2] + ips[3:] == [["10.1.0.77", "fd00:1::77"], [], ["fd00:1::99"]]
    assert [ip_address(ip).version for ip in ips[2]] == [4, 6]
    assert given[2].mac == mac
    assert len({nic.mac for nic in given}) == len({nic.device_name for nic in given}) == 4
    assert given[1].gateway is None
    await vms.books_agree(dual)
    named = [given[0].uuid, given[2].uuid, uuid4()]
    assert await vms.release(vm, nic_uuids=named) == [given[0], given[2]]
    # The first of those that stay carries the default route from here on.
    assert await vms.nics(vm_uuid=vm) == [given[1].model_copy(update={"default": True}), given[3]]
    await vms.books_agree(dual)
    again = await vms.prepare(vm, agent, [dual, bare, dual])
    assert [nic.device_index for nic in again] == [3, 1, 0]


async def test_every_network_that_the_cluster_lacks_is_named(vms: Vms) -> None:
    """And nothing is recorded, given or ordered."""
    agent = await vms.fleet.join()
    here, there, elsewhere = await vms.attached_l2(), await vms.fleet.network(), await vms.fleet.network()
    l3s = [await vms.l3(l2) for l2 in (there, here, elsewhere, there)]
    before = agent.types()
    with pytest.raises(PreconditionFailed) as refusal:
        await vms.prepare(uuid4(), agent, l3s)

    assert refusal.value.details["l2NetworkUuids"] == [str(there.uuid), str(elsewhere.uuid)]
    assert agent.types() == before
    await vms.books_agree(*l3s)
    assert await vms.nics(host_uuid=agent.uuid) == []


async def test_host_that_is_no_place_for_vms_is_refused(vms: Vms) -> None:
    """Unknown, never seen, in maintenance; and an L3 network that does not exist."""
    client, agent = vms.client, await vms.fleet.join()
    absent = await vms.fleet.enrol()
    l3 = await vms.l3(await vms.attached_l2())
    with pytest.raises(NotFound):
        await client.vm.prepare_networks(
            vm_uuid=uuid4(), host_uuid=uuid4(), account_uuid=vms.account, nics=[{"l3_network_uuid": l3}]
        )
    with pytest.raises(HostUnreachable):
        await vms.prepare(uuid4(), absent, [l3])
    with pytest.raises(NotFound) as refusal:
        await vms.prepare(uuid4(), agent, [l3, uuid4()])
    assert refusal.value.details["field"] == "nics.1.l3NetworkUuid"
    await client.host.set_maintenance(uuid=agent.uuid, maintenance=True)
    with pytest.raises(PreconditionFailed):
        await vms.prepare(uuid4(), agent, [l3])
    await client.host.set_maintenance(uuid=agent.uuid, maintenance=False)
    await vms.prepare(uuid4(), agent, [l3])


async def test_bad_requests_name_the_field(vms: Vms) -> None:
    """A MAC that is taken, a security group, two addresses of one version; and a batch, which cannot wait."""
    agent = await vms.fleet.join()
    l3 = await vms.l3(await vms.attached_l2())
    [first] = await vms.prepare(uuid4(), agent, [l3])
    for nic, kind, field in (
        ({"mac": first.mac}, Conflict, "nics.1.mac"),
        ({"security_group_uuids": [uuid4()]}, NotFound, "nics.1.securityGroupUuids"),
        ({"ips": ["10.1.0.8", "10.1.0.9"]}, InvalidRequest, "nics.1.ips"),
    ):
        with pytest.raises(kind) as refusal:
            await vms.prepare(uuid4(), agent, [l3, {"l3_network_uuid": l3, **nic}])
        assert refusal.value.details["field"] == field
    body: dict[str, Any] = {
        "vmUuid": str(uuid4()),
        "hostUuid": str(agent.uuid),
        "accountUuid": str(vms.account),
        "nics": [{"l3NetworkUuid": str(l3)}],
    }
    [reply] = await vms.client.batch(
        Batch.model_validate({"requests": [{"message_id": uuid4(), "type": "vm.prepareNetworks", "body": body}]})
    )
    assert reply["error"]["code"] == "INVALID_REQUEST"
    await vms.books_agree(l3)
    assert await vms.nics(host_uuid=agent.uuid) == [first]


async def test_address_that_is_taken_undoes_all_that_was_given_before(vms: Vms) -> None:
    """The NICs that the VM had stay; the error is IPAM's, with the operation."""
    agent = await vms.fleet.join()
    l3, other = await vms.l3(await vms.attached_l2(), "10.1.0.0/24"), await vms.l3(await vms.attached_l2())
    vm = uuid4()
    kept = await vms.prepare(vm, agent, [{"l3_network_uuid": l3, "ip": "10.1.0.9"}])
    await vms.prepare(uuid4(), agent, [{"l3_network_uuid": l3, "ip": "10.1.0.10"}])

    asked = [l3, other, {"l3_network_uuid": l3, "ip": "10.1.0.9"}, {"l3_network_uuid": l3, "ip": "10.1.0.10"}]
    with pytest.raises(IpInUse) as refusal:
        await vms.prepare(vm, agent, asked)

    assert refusal.value.details["l3NetworkUuid"] == str(l3)
    assert refusal.value.details["operation"]["state"] == "failed"
    assert await vms.nics(vm_uuid=vm) == kept
    await vms.books_agree(l3, other)
    assert set(await vms.used(l3)) == {"10.1.0.9", "10.1.0.10"}
    assert await vms.used(other) == {}


async def test_same_request_twice_gives_the_same_nics(vms: Vms) -> None:
    """By the same message id or another one; a NIC more is made beside the others."""
    agent, other = await vms.fleet.join(), await vms.fleet.join()
    l3, second = await vms.l3(await vms.attached_l2()), await vms.l3(await vms.attached_l2())
    vm, message_id = uuid4(), uuid4()

    first = await vms.prepare(vm, agent, [l3, second], message_id=message_id)
    assert await vms.prepare(vm, agent, [l3, second], message_id=message_id) == first
    assert await vms.prepare(vm, agent, [l3, second]) == first
    assert await vms.prepare(vm, agent, [second, l3]) == first[::-1]
    more = await vms.prepare(vm, agent, [l3, l3, second])
    assert [more[0], more[2]] == first
    assert more[1].uuid not in {nic.uuid for nic in first}
    with pytest.raises(Conflict, match="migrate") as refusal:
        await vms.prepare(vm, other, [l3])
    assert refusal.value.details["hostUuid"] == str(agent.uuid)
    with pytest.raises(Conflict) as refusal:
        await vms.prepare(vm, agent, [l3], account_uuid=uuid4())
    assert refusal.value.details["field"] == "accountUuid"
    await vms.books_agree(l3, second)


async def test_of_requests_about_one_vm_at_once_one_is_done(vms: Vms) -> None:
    """The others find it done, or running and can be repeated; the VM has one set of NICs."""
    agent = await vms.fleet.join()
    l3 = await vms.l3(await vms.attached_l2())
    vm = uuid4()
    results = await asyncio.gather(*(vms.prepare(vm, agent, [l3, l3]) for _ in range(8)), return_exceptions=True)

    answers = [result for result in results if isinstance(result, list)]
    refusals = [result for result in results if not isinstance(result, list)]
    assert answers
    assert all(answer == answers[0] for answer in answers)
    assert all(isinstance(error, Conflict) and error.retryable for error in refusals)
    assert await vms.prepare(vm, agent, [l3, l3]) == answers[0]
    await vms.books_agree(l3)
    assert len(await vms.used(l3)) == 2


async def test_many_vms_at_once_share_nothing(vms: Vms) -> None:
    """Neither address, MAC nor device."""
    agents = [await vms.fleet.join() for _ in range(2)]
    l3 = await vms.l3(await vms.attached_l2())
    answers = await asyncio.gather(*(vms.prepare(uuid4(), agents[i % 2], [l3, l3]) for i in range(24)))

    given = [nic for answer in answers for nic in answer]
    for values in ({nic.ips[0].ip for nic in given}, {nic.mac for nic in given}, {nic.device_name for nic in given}):
        assert len(values) == 48
    await vms.books_agree(l3)
    await asyncio.gather(*(vms.release(answer[0].vm_uuid) for answer in answers))
    assert await vms.used(l3) == {}


async def test_network_that_the_host_lacks_is_ordered_and_waited_for(vms: Vms) -> None:
    """One that failed there before is tried again; one that is on its way is not ordered twice."""
    agent = await vms.fleet.join(errors={REALIZE: PreconditionFailed("there is no eth1")})
    l2 = await vms.fleet.network()
    await vms.fleet.attach(l2, on_failure="keep", wait=False)
    await vms.fleet.settles(l2, "failed")
    l3 = await vms.l3(l2)
    with pytest.raises(PreconditionFailed, match="eth1") as refusal:
        await vms.prepare(uuid4(), agent, [l3])
    assert refusal.value.details["hostUuid"] == str(agent.uuid)
    await vms.books_agree(l3)
    agent.errors.clear()
    agent.silent = {REALIZE, SYNC}
    told = len(agent.heard)
    preparing = [asyncio.create_task(vms.prepare(uuid4(), agent, [l3])) for _ in range(3)]
    ordered = await agent.hears(REALIZE, lambda heard: heard in agent.heard[told:])
    await eventually(
        lambda: vms.client.operation.query(filters={"type": "vm.prepareNetworks", "state": "running"}),
        lambda page: len(page.items) == 3,
    )
    assert await vms.nics(host_uuid=agent.uuid) == []
    await agent.say(agent.do(ordered))
    given = [nic for [nic] in await asyncio.gather(*preparing)]
    assert len({one.command_id for one in agent.heard[told:]}) == 1
    assert agent.held == {l2.uuid: ordered.generations[0]}
    assert (await vms.fleet.states(l2)) == ["realized"]
    assert {nic.uuid for nic in await vms.nics(host_uuid=agent.uuid)} == {nic.uuid for nic in given}


async def test_host_that_goes_away_ends_the_wait(vms: Vms) -> None:
    """It cannot be known what it has; all is undone."""
    agent = await vms.fleet.join(errors={REALIZE: REFUSED})
    l2 = await vms.fleet.network()
    await vms.fleet.attach(l2, on_failure="keep", wait=False)
    await vms.fleet.settles(l2, "failed")
    l3 = await vms.l3(l2)
    agent.errors.clear()
    agent.silent = {REALIZE, SYNC}
    preparing = asyncio.create_task(vms.prepare(uuid4(), agent, [l3], timeout_seconds=30))
    await eventually(
        lambda: vms.client.operation.query(filters={"type": "vm.prepareNetworks", "state": "running"}),
        lambda page: any(one.host_uuid == agent.uuid for one in page.items),
    )
    await vms.client.host.set_maintenance(uuid=agent.uuid, maintenance=True)
    with pytest.raises(HostUnreachable):
        await preparing
    await vms.books_agree(l3)


async def test_failing_host_is_answered_with_its_error(vms: Vms) -> None:
    """`BACKEND_FAILED` of the host, and the NIC is gone."""
    agent = await vms.fleet.join(errors={REALIZE: REFUSED})
    l2 = await vms.fleet.network()
    await vms.fleet.attach(l2, on_failure="keep", wait=False)
    await vms.fleet.settles(l2, "failed")
    vm = uuid4()
    with pytest.raises(BackendFailed):
        await vms.prepare(vm, agent, [await vms.l3(l2)])
    assert await vms.release(vm) == []
