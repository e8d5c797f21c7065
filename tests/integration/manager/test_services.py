"""Network services on a real manager, by a provider of the tests: who serves what, and what hosts are told of it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from integration.manager.beacons import BEACONS, RIVALS, Services, beacon
from integration.manager.control_plane import Place
from integration.manager.eventually import eventually
from integration.manager.scripted_services import APPLY, REMOVE
from integration.manager.vms import Vms

from local_stack.service import Service
from viaduct_common.errors import (
    InUse,
    InvalidRequest,
    NotFound,
    PreconditionFailed,
    ServiceConflict,
)


@pytest.fixture(scope="module")
async def manager(place: Place, beacons: Path) -> AsyncIterator[Service]:
    async with place.running("manager", PYTHONPATH=str(beacons)) as service:
        yield service


@pytest.fixture
async def services(vms: Vms) -> Services:
    return Services(vms)


# ---- who serves what ---------------------------------------------------------------------------------------------


async def test_providers_are_known_with_the_networks_they_are_associated_with(services: Services) -> None:
    light, dark = await services.vms.fleet.network(), await services.vms.fleet.network(name="dark")
    found = {one.uuid: one for one in (await services.client.service_provider.query()).items}

    types = {one.name: one.service_types for one in found.values()}
    assert (types["Beacons"], types["Rivals"]) == (["Beacon", "Echo"], ["Beacon", "Smoke"])
    assert light.uuid in found[BEACONS].attached_l2_network_uuids
    assert dark.uuid not in found[BEACONS].attached_l2_network_uuids
    assert dark.uuid in found[RIVALS].attached_l2_network_uuids
    [one] = (await services.client.service_provider.query(filters={"name": "Rivals"})).items
    assert one.uuid == RIVALS


async def test_attached_services_are_shown_and_the_same_again_is_no_error(services: Services) -> None:
    l3 = await services.vms.l3(await services.vms.fleet.network())
    first = await services.attach(l3, "Echo", "Beacon", text="hello")

    assert [(one.service_type, one.provider, one.config) for one in first.services] == [
        ("Beacon", "Beacons", {"text": "hello"}),
        ("Echo", "Beacons", {"text": ""}),
    ]
    assert await services.attach(l3, "Beacon") == first
    assert await services.client.l3.get(uuid=l3) == first
    assert l3 in {one.uuid for one in (await services.client.l3.query(limit=1000)).items if one.services}
    other = await services.client.l3.configure_service(
        l3_network_uuid=l3, service_type="Beacon", config={"text": "bye"}
    )
    assert other.services[0].config == {"text": "bye"}
    assert (await services.detach(l3, "Beacon", "Echo")).services == []
    assert (await services.detach(l3)).services == []


@pytest.mark.parametrize(
    ("body", "error", "field"),
    [
        pytest.param({"services": {uuid4(): ["Beacon"]}}, NotFound, None, id="no such provider"),
        pytest.param({"services": {BEACONS: ["Smoke"]}}, InvalidRequest, f"services.{BEACONS}", id="not offered"),
        pytest.param(
            {"services": {BEACONS: ["Echo"], RIVALS: ["Smoke"]}},
            PreconditionFailed,
            f"services.{RIVALS}",
            id="not associated",
        ),
        pytest.param(
            {"services": {BEACONS: ["Beacon"], RIVALS: ["Beacon"]}},
            ServiceConflict,
            f"services.{RIVALS}",
            id="two for one type",
        ),
        pytest.param(
            {"services": {BEACONS: ["Beacon"]}, "config": {"Echo": {}}},
            InvalidRequest,
            "config.Echo",
            id="config of another type",
        ),
        pytest.param(
            {"services": {BEACONS: ["Beacon", "Echo"]}, "config": {"Beacon": {"shape": 1}}},
            InvalidRequest,
            "config.Beacon.shape",
            id="wrong config",
        ),
    ],
)
async def test_what_cannot_be_served_is_refused_as_a_whole(
    services: Services, body: dict[str, Any], error: type[Exception], field: str | None
) -> None:
    l3 = await services.vms.l3(await services.vms.fleet.network())
    with pytest.raises(error) as refusal:
        await services.client.l3.attach_services(l3_network_uuid=l3, **body)
    if field is not None:
        assert refusal.value.details["field"] == field  # type: ignore[attr-defined]
    assert (await services.client.l3.get(uuid=l3)).services == []


async def test_one_provider_for_each_type(services: Services) -> None:
    """Also of two that are attached at the same moment."""
    l2 = await services.vms.fleet.network(mtu=9000)
    l3 = await services.vms.l3(l2)
    await services.attach(l3)
    with pytest.raises(ServiceConflict) as refusal:
        await services.attach(l3, "Beacon", "Smoke", provider=RIVALS)
    assert refusal.value.details["providerUuid"] == str(BEACONS)
    await services.detach(l3)

    both = (services.attach(l3), services.attach(l3, provider=RIVALS))
    answers = await asyncio.gather(*both, return_exceptions=True)
    assert sum(isinstance(one, ServiceConflict) for one in answers) == 1
    assert len((await services.client.l3.get(uuid=l3)).services) == 1


async def test_detaching_is_refused_while_something_depends_on_it(services: Services) -> None:
    l3 = await services.vms.l3(await services.vms.fleet.network())
    await services.attach(l3, "Beacon", "Echo", locked=True)
    for refused in (services.detach(l3, "Echo", "Beacon"), services.client.l3.delete(uuid=l3)):
        with pytest.raises(InUse) as refusal:
            await refused
        assert refusal.value.details["dependants"] == ["lock"]
    assert len((await services.client.l3.get(uuid=l3)).services) == 2
    await services.detach(l3, "Echo")
    with pytest.raises(InvalidRequest) as wrong:
        await services.client.l3.configure_service(
            l3_network_uuid=l3, service_type="Beacon", config={"locked": "perhaps"}
        )
    assert wrong.value.details["field"] == "config.locked"
    with pytest.raises(NotFound):
        await services.client.l3.configure_service(l3_network_uuid=l3, service_type="Echo", config={})
    await services.client.l3.configure_service(l3_network_uuid=l3, service_type="Beacon", config={})
    assert await services.client.l3.delete(uuid=l3) is not None


# ---- what hosts are told -----------------------------------------------------------------------------------------


async def test_hosts_with_nics_have_the_service_and_no_others(services: Services) -> None:
    one, other = await services.vms.fleet.join(), await services.vms.fleet.join()
    l3, vm = await services.served_l3(text="hello"), uuid4()
    [nic] = await services.vms.prepare(vm, one, [l3])

    assert beacon(one, l3)["nics"] == [str(nic.uuid)]  # the answer came after it
    assert beacon(other, l3) is None
    [row] = await services.rows(subject_uuid=l3)
    assert (row.kind, row.provider, row.host_uuid, row.state) == ("beacon", "Beacons", one.uuid, "applied")
    assert row.observed_generation == row.generation
    assert await services.settle(nic.uuid) == [row]
    assert await services.settle(l3) == [row]

    await services.vms.release(vm)
    await services.gone(l3)
    assert one.services.held == {}
    await services.detach(l3)
    assert await services.client.l3.delete(uuid=l3) is not None


async def test_only_what_differs_is_told(services: Services) -> None:
    """A change that alters nothing for hosts costs no message, one of a network none to those without it."""
    one, other = await services.vms.fleet.join(), await services.vms.fleet.join()
    l3, unlike = await services.served_l3(), await services.served_l3()
    vms = [uuid4(), uuid4(), uuid4()]
    await services.vms.prepare(vms[0], one, [l3])
    await services.vms.prepare(vms[1], other, [l3])
    await services.vms.prepare(vms[2], other, [unlike])

    def orders() -> list[int]:
        return [sum(len(heard.services) for heard in agent.heard if heard.type == APPLY) for agent in (one, other)]

    assert orders() == [1, 2]
    await services.client.l3.update(uuid=l3, description="nothing that a host needs to know")
    await services.settle(l3)
    assert orders() == [1, 2]
    await services.client.l3.configure_service(l3_network_uuid=l3, service_type="Beacon", config={"text": "new"})
    await services.settle(l3)
    assert orders() == [2, 3]
    assert [beacon(agent, l3)["text"] for agent in (one, other)] == ["new", "new"]
    await services.detach(l3)
    await services.settle(l3)
    assert [beacon(agent, l3) for agent in (one, other)] == [None, None]
    assert beacon(other, unlike) is not None
    assert len([heard for heard in other.heard if heard.type == REMOVE]) == 1


async def test_services_attached_to_a_network_in_use_reach_its_hosts(services: Services) -> None:
    agent = await services.vms.fleet.join()
    l3 = await services.vms.l3(await services.vms.attached_l2())
    [nic] = await services.vms.prepare(uuid4(), agent, [l3])
    assert agent.services.held == {}
    await services.attach(l3)
    [row] = await services.settle(l3)
    assert (row.state, beacon(agent, l3)["nics"]) == ("applied", [str(nic.uuid)])


async def test_instance_with_an_address_of_its_own_gives_it_back(services: Services) -> None:
    """It is IPAM's again once no host has the instance; and another time it may get one anew."""
    agent = await services.vms.fleet.join()
    l3 = await services.served_l3(lighthouse=True)
    for _ in range(2):
        vm = uuid4()
        [nic] = await services.vms.prepare(vm, agent, [l3])
        [light] = await services.rows(subject_uuid=l3, kind="lighthouse")
        used = await services.vms.used(l3)
        spec = agent.services.held[light.service_uuid].spec
        assert used == {str(nic.ips[0].ip): str(nic.uuid), spec["ip"]: str(light.service_uuid)}
        await services.vms.release(vm)
        await services.gone(l3)
        await eventually(lambda: services.vms.used(l3), lambda used: used == {})
    await services.detach(l3)
    assert await services.client.l3.delete(uuid=l3) is not None


async def test_network_is_kept_while_instances_have_addresses_of_it(services: Services) -> None:
    agent = await services.vms.fleet.join(silent={REMOVE})
    l3, vm = await services.served_l3(lighthouse=True), uuid4()
    await services.vms.prepare(vm, agent, [l3])
    await services.vms.release(vm)
    with pytest.raises(InUse) as refusal:
        await services.client.l3.delete(uuid=l3)
    assert refusal.value.retryable
    [light] = await services.rows(subject_uuid=l3, kind="lighthouse")
    assert refusal.value.details["serviceUuids"] == [str(light.service_uuid)]


async def test_mistake_of_a_provider_about_one_instance_keeps_no_other_from_being_told(services: Services) -> None:
    agent = await services.vms.fleet.join()
    good, bad = await services.served_l3(), await services.served_l3()
    await services.vms.prepare(uuid4(), agent, [good])
    await services.vms.prepare(uuid4(), agent, [bad])
    configure = services.client.l3.configure_service
    await configure(l3_network_uuid=bad, service_type="Beacon", config={"text": "boom"})
    await configure(l3_network_uuid=good, service_type="Beacon", config={"text": "fine"})
    await services.settle(good)
    assert (beacon(agent, good)["text"], beacon(agent, bad)["text"]) == ("fine", "")
    await configure(l3_network_uuid=bad, service_type="Beacon", config={"text": "better"})
    await eventually(lambda: asyncio.sleep(0, beacon(agent, bad)["text"]), lambda text: text == "better")


async def test_change_of_the_l2_network_is_looked_at(services: Services, database: Any) -> None:
    """Whatever follows from another VLAN or MTU is the provider's to say; it is asked."""
    agent = await services.vms.fleet.join()
    l2 = await services.vms.attached_l2(mtu=1500)
    l3 = await services.vms.l3(l2)
    await services.attach(l3)
    await services.vms.prepare(uuid4(), agent, [l3])
    marks = "SELECT count(*) FROM viaduct_manager.stale_l3"
    await services.client.l2.change_mtu(l2_network_uuid=l2.uuid, mtu=1400, timeout_seconds=15)
    await eventually(lambda: database.fetchval(marks), lambda count: count == 0)
    assert len(await services.settle(l3)) == 1


async def test_instances_are_found_page_by_page(services: Services) -> None:
    """By any of the fields, also where one has no host."""
    agents = [await services.vms.fleet.join() for _ in range(2)]
    l3 = await services.served_l3(lighthouse=True)
    for agent in agents:
        await services.vms.prepare(uuid4(), agent, [l3])
    for agent in agents:
        await services.vms.lose(agent)
    await services.client.l3.configure_service(
        l3_network_uuid=l3, service_type="Beacon", config={"lighthouse": True, "text": "new"}
    )
    rows = await eventually(
        lambda: services.rows(subject_uuid=l3), lambda rows: any(row.host_uuid is None for row in rows)
    )
    [dark] = [row for row in rows if row.host_uuid is None]
    assert dark.error is not None
    assert (dark.state, dark.error.code) == ("failed", "PRECONDITION_FAILED")
    for sort in ("serviceUuid", "-hostUuid", "kind", "-since"):
        found, after = [], None
        while True:
            page = await services.client.service.query(
                filters={"subject_uuid": l3}, sort=sort, limit=1, **({} if after is None else {"after": after})
            )
            found += page.items
            after = page.after
            if after is None:
                break
        assert sorted(row.model_dump_json() for row in found) == sorted(row.model_dump_json() for row in rows)
