"""VMs on L3 networks with services: their answer comes when hosts have these, or they are not made."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from integration.manager.beacons import Services, beacon
from integration.manager.control_plane import Place
from integration.manager.eventually import eventually
from integration.manager.scripted_agent import REFUSED, ScriptedAgent
from integration.manager.scripted_services import APPLY, REMOVE, SYNC_SERVICES
from integration.manager.vms import Vms

from local_stack.service import Service
from viaduct_common.errors import BackendFailed, Conflict, DeadlineExceeded, InvalidRequest, PreconditionFailed


@pytest.fixture(scope="module")
async def manager(place: Place, beacons: Path) -> AsyncIterator[Service]:
    async with place.running("manager", PYTHONPATH=str(beacons)) as service:
        yield service


@pytest.fixture
async def services(vms: Vms) -> Services:
    return Services(vms)


def nics(agent: ScriptedAgent, l3: UUID) -> set[str]:
    held = beacon(agent, l3)
    return set() if held is None else set(held["nics"])


async def test_answer_comes_when_the_host_has_the_service(services: Services) -> None:
    agent = await services.vms.fleet.join(silent={APPLY})
    l3, vm = await services.served_l3(), uuid4()
    preparing = asyncio.create_task(services.vms.prepare(vm, agent, [l3]))
    command = await agent.hears(APPLY)
    [running] = (await services.client.operation.query(filters={"vm_uuid": vm, "state": "running"})).items
    assert (running.phase, preparing.done()) == ("services", False)
    await agent.say(agent._answer(command))
    [nic] = await preparing
    assert nics(agent, l3) == {str(nic.uuid)}


async def test_network_without_services_has_no_phase_for_them(services: Services) -> None:
    agent = await services.vms.fleet.join()
    l3, vm = await services.vms.l3(await services.vms.attached_l2()), uuid4()
    await services.vms.prepare(vm, agent, [l3])
    [operation] = (await services.client.operation.query(filters={"vm_uuid": vm})).items
    whole = await services.client.operation.get(uuid=operation.uuid)
    assert [step.phase for step in whole.steps] == ["realize"]
    assert not {APPLY, REMOVE} & set(agent.types())


async def test_service_that_fails_undoes_the_vm(services: Services) -> None:
    """With the host's error; and its NICs, their addresses and the service are gone."""
    agent = await services.vms.fleet.join(errors={APPLY: REFUSED})
    l3, vm = await services.served_l3(), uuid4()
    with pytest.raises(BackendFailed) as refusal:
        await services.vms.prepare(vm, agent, [l3])
    assert refusal.value.details["hostUuid"] == str(agent.uuid)
    assert refusal.value.details["kind"] == "beacon"
    assert await services.vms.nics(vm_uuid=vm) == []
    await services.vms.books_agree(l3)
    await services.gone(l3)
    agent.errors.clear()
    [nic] = await services.vms.prepare(vm, agent, [l3])
    assert nics(agent, l3) == {str(nic.uuid)}


async def test_service_that_nobody_applies_in_time_undoes_the_vm(services: Services) -> None:
    agent = await services.vms.fleet.join(silent={APPLY, SYNC_SERVICES})
    l3, vm = await services.served_l3(), uuid4()
    with pytest.raises(DeadlineExceeded):
        await services.vms.prepare(vm, agent, [l3], timeout_seconds=2)
    await services.vms.books_agree(l3)
    await services.gone(l3)


async def test_host_that_is_away_is_not_waited_for(services: Services) -> None:
    """Another host of the network has to be told, too, but does not answer any more."""
    near, far = await services.vms.fleet.join(), await services.vms.fleet.join()
    l3 = await services.served_l3(lighthouse=True)
    await services.vms.prepare(uuid4(), far, [l3])
    await services.vms.lose(far)
    [nic] = await services.vms.prepare(uuid4(), near, [l3])
    assert nics(near, l3) == {str(nic.uuid)}


async def test_crowd_on_one_network_does_not_keep_its_members_waiting(services: Services) -> None:
    """Their beacon is told anew all the time; everyone is answered, and is in it then."""
    agent = await services.vms.fleet.join(slow_seconds=0.1)
    l3 = await services.served_l3()
    made: list[str] = []

    async def one() -> None:
        [nic] = await services.vms.prepare(uuid4(), agent, [l3], timeout_seconds=30)
        assert str(nic.uuid) in nics(agent, l3)
        made.append(str(nic.uuid))

    await asyncio.gather(*(one() for _ in range(24)))
    assert nics(agent, l3) == set(made)


async def test_live_migration_has_the_service_at_both_ends(services: Services) -> None:
    """Before the destination is ready; and the source gives it up when the VM has moved."""
    source, destination = await services.vms.fleet.join(), await services.vms.fleet.join()
    l3, vm = await services.served_l3(), uuid4()
    [nic] = await services.vms.prepare(vm, source, [l3])
    await services.vms.migrate(vm, destination, "begin")
    assert (nics(source, l3), nics(destination, l3)) == ({str(nic.uuid)}, {str(nic.uuid)})
    await services.vms.migrate(vm, destination, "abort")
    await services.settle(l3)
    assert (nics(source, l3), nics(destination, l3)) == ({str(nic.uuid)}, set())
    await services.vms.migrate(vm, destination, "begin")
    await services.vms.migrate(vm, destination, "finish")
    await services.settle(l3)
    assert (nics(source, l3), nics(destination, l3)) == (set(), {str(nic.uuid)})


async def test_migration_is_undone_where_the_service_fails(services: Services) -> None:
    source = await services.vms.fleet.join()
    destination = await services.vms.fleet.join(errors={APPLY: REFUSED})
    l3, vm = await services.served_l3(), uuid4()
    [nic] = await services.vms.prepare(vm, source, [l3])
    with pytest.raises(BackendFailed):
        await services.vms.migrate(vm, destination)
    [still] = await services.vms.nics(vm_uuid=vm)
    assert (still.host_uuid, still.migrating_to_host_uuid) == (source.uuid, None)
    await services.settle(l3)
    assert [row.host_uuid for row in await services.rows(subject_uuid=l3)] == [source.uuid]
    assert nics(source, l3) == {str(nic.uuid)}


async def test_network_of_an_account_is_released_after_its_service(services: Services) -> None:
    """A host that has it for its NICs alone keeps it while the service is still plugged into it."""
    agent = await services.vms.fleet.join(silent={REMOVE})
    l2 = await services.vms.ranged_l2(100, 199)
    l3, vm = await services.vms.l3(l2), uuid4()
    await services.attach(l3)
    [nic] = await services.vms.prepare(vm, agent, [l3])
    await services.vms.release(vm)
    command = await agent.hears(REMOVE)
    assert nic.l2_network_uuid in agent.held
    await agent.say(agent._answer(command))
    await services.vms.gone(nic.l2_network_uuid)


# ---- NICs and L3 networks ----------------------------------------------------------------------------------------


async def test_default_route_is_one_nics(services: Services) -> None:
    agent = await services.vms.fleet.join()
    l3s = [await services.vms.l3(await services.vms.attached_l2()) for _ in range(2)]
    vm, other = uuid4(), uuid4()
    with pytest.raises(InvalidRequest) as refusal:
        await services.vms.prepare(vm, agent, l3s, default_l3_network_uuid=other)
    assert refusal.value.details["field"] == "defaultL3NetworkUuid"
    given = await services.vms.prepare(vm, agent, l3s, default_l3_network_uuid=l3s[1])
    assert [nic.default for nic in given] == [False, True]
    given = await services.vms.prepare(vm, agent, l3s, default_l3_network_uuid=l3s[0])
    assert [nic.default for nic in given] == [True, False]
    third = await services.vms.l3(await services.vms.attached_l2())
    given = await services.vms.prepare(vm, agent, [*l3s, third])
    assert [nic.default for nic in given] == [True, False, False]
    await services.vms.release(vm, nic_uuids=[given[0].uuid])
    assert [nic.default for nic in await services.vms.nics(vm_uuid=vm)] == [True, False]


async def test_host_names_are_unique_on_a_network_and_made_of_the_address_otherwise(services: Services) -> None:
    agent = await services.vms.fleet.join()
    l3 = await services.vms.l3(await services.vms.attached_l2(), "10.77.0.0/24", "fd00:77::/64")
    names = {}
    for name, more in (
        (None, {"ip": "10.77.0.5"}),
        ("web", {}),
        (None, {"ip": "fd00:77::9"}),
    ):
        asked = {"l3_network_uuid": l3, **more} | ({} if name is None else {"host_name": name})
        [nic] = await services.vms.prepare(uuid4(), agent, [asked])
        names[nic.host_name] = nic
    assert set(names) == {"ip-10-77-0-5", "web", "ip-fd00-77--9"}
    with pytest.raises(Conflict) as refusal:
        await services.vms.prepare(uuid4(), agent, [{"l3_network_uuid": l3, "host_name": "WEB"}])
    assert refusal.value.details["field"] == "nics.0.hostName"
    elsewhere = await services.vms.l3(await services.vms.attached_l2())
    [same] = await services.vms.prepare(uuid4(), agent, [{"l3_network_uuid": elsewhere, "host_name": "web"}])
    assert same.host_name == "web"
    await services.vms.prepare(uuid4(), agent, [{"l3_network_uuid": l3, "host_name": "ip-10-77-0-8"}])
    [other] = await services.vms.prepare(uuid4(), agent, [{"l3_network_uuid": l3, "ip": "10.77.0.8"}])
    assert other.host_name == f"ip-10-77-0-8-{str(other.uuid)[:8]}"
    await services.vms.release(names["web"].vm_uuid)
    await services.vms.prepare(uuid4(), agent, [{"l3_network_uuid": l3, "host_name": "web"}])


async def test_disabled_network_gets_no_new_nic(services: Services) -> None:
    """What is on it stays, and moves."""
    agent, other = await services.vms.fleet.join(), await services.vms.fleet.join()
    l3, vm = await services.vms.l3(await services.vms.attached_l2()), uuid4()
    given = await services.vms.prepare(vm, agent, [l3])
    assert (await services.client.l3.update(uuid=l3, enabled=False)).enabled is False
    with pytest.raises(PreconditionFailed) as refusal:
        await services.vms.prepare(uuid4(), agent, [l3])
    assert refusal.value.details["field"] == "nics.0.l3NetworkUuid"
    assert await services.vms.prepare(vm, agent, [l3]) == given
    await services.vms.migrate(vm, other)
    await services.client.l3.update(uuid=l3, enabled=True)
    await services.vms.prepare(uuid4(), agent, [l3])


async def test_options_of_a_network_are_kept_and_checked(services: Services) -> None:
    client, l2 = services.client, await services.vms.fleet.network()
    options = {
        "mtu": 1400,
        "dns": ["10.0.0.2", "10.0.0.1", "fd00::1"],
        "host_routes": [{"prefix": "192.0.2.0/24", "next_hop": "10.0.0.9"}],
    }
    made = await client.l3.create(l2_network_uuid=l2.uuid, name="l3", **options)
    assert (made.mtu, [str(one) for one in made.dns]) == (1400, options["dns"])
    assert [route.model_dump(mode="json") for route in made.host_routes] == [
        {"prefix": "192.0.2.0/24", "nextHop": "10.0.0.9"}
    ]
    changed = await client.l3.update(uuid=made.uuid, mtu=1300, dns=["10.0.0.1"], host_routes=[], category="public")
    assert (changed.mtu, len(changed.dns), changed.host_routes, changed.category) == (1300, 1, [], "public")
    route = {"prefix": "192.0.2.0/24", "next_hop": "10.0.0.9"}
    for wrong, field in (
        ({"mtu": 1501}, "mtu"),
        ({"dns": ["10.0.0.1", "10.0.0.1"]}, "dns.1"),
        ({"host_routes": [route, {**route, "next_hop": "10.0.0.8"}]}, "hostRoutes.1.prefix"),
        ({"host_routes": [{**route, "next_hop": "fd00::1"}]}, "hostRoutes.0.nextHop"),
    ):
        for refused in (
            client.l3.create(l2_network_uuid=l2.uuid, name="l3", **wrong),
            client.l3.update(uuid=made.uuid, **wrong),
        ):
            with pytest.raises(InvalidRequest) as refusal:
                await refused
            assert refusal.value.details["field"] == field
    assert await client.l3.get(uuid=made.uuid) == changed
    await eventually(lambda: client.l3.delete(uuid=made.uuid), lambda gone: gone is not None)
