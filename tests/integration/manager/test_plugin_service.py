"""The example of a network service, installed beside a real manager: a service type that it has never heard of."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from integration.manager.control_plane import Place
from integration.manager.eventually import eventually
from integration.manager.scripted_agent import ScriptedAgent
from integration.manager.vms import Vms

from local_stack.service import Service
from viaduct_common.errors import InvalidRequest, ServiceConflict
from viaduct_manager.network_services.api import ServiceKey, provider_uuid

HAPROXY = provider_uuid("HAProxy")
CAPABLE = {"capabilities": ["L2VlanNetwork", "L2VlanNetwork/vlan", "service/haproxy"]}


@pytest.fixture(scope="module")
async def manager(place: Place, installed_load_balancer: Path) -> AsyncIterator[Service]:
    async with place.running("manager", PYTHONPATH=str(installed_load_balancer)) as service:
        yield service


def listener(*nics: UUID, **other: Any) -> dict[str, Any]:
    return {"name": "web", "port": 80, "targets": [{"nicUuid": str(one), "port": 8080} for one in nics], **other}


def held(agent: ScriptedAgent, l3: UUID) -> Any:
    found = agent.services.held.get(ServiceKey("haproxy", l3).uuid)
    return None if found is None else found.spec


async def attach(vms: Vms, l3: UUID, *listeners: dict[str, Any]) -> Any:
    return await vms.client.l3.attach_services(
        l3_network_uuid=l3,
        services={HAPROXY: ["LoadBalancer"]},
        config={"LoadBalancer": {"listeners": list(listeners)}},
    )


async def test_hosts_are_told_of_listeners_and_of_the_addresses_of_their_targets(vms: Vms) -> None:
    """On one host, with an address of its own; it follows its host's fate, and its targets'."""
    one, two = [await vms.fleet.join(**CAPABLE) for _ in range(2)]
    l3 = await vms.l3(await vms.attached_l2())
    [nic] = await vms.prepare(uuid4(), one, [l3])
    [gone] = await vms.prepare(vm := uuid4(), two, [l3])
    await attach(vms, l3, listener(nic.uuid, gone.uuid))
    [row] = await vms.client.service.wait(subject_uuid=l3, timeout_seconds=15)
    assert (row.kind, row.provider, row.state) == ("haproxy", "HAProxy", "applied")
    home = next(agent for agent in (one, two) if agent.uuid == row.host_uuid)
    spec = held(home, l3)
    assert {server["ip"] for server in spec["listeners"][0]["servers"]} == {str(x.ips[0].ip) for x in (nic, gone)}
    assert len(spec["leg"]["addresses"]) == 1

    await vms.release(vm)
    await eventually(lambda: _servers(home, l3), lambda names: names == {str(nic.uuid)})
    await vms.fleet.lose(home)
    other = two if home is one else one
    await vms.client.l3.configure_service(
        l3_network_uuid=l3, service_type="LoadBalancer", config={"listeners": [listener(nic.uuid, port=81)]}
    )
    await eventually(lambda: _ports(other, l3), lambda ports: ports == {81})
    assert held(other, l3)["leg"] == spec["leg"]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"port": 0}, "listeners.0.port"),
        ({"balance": "luck"}, "listeners.0.balance"),
        ({"targets": [{"nicUuid": str(UUID(int=1)), "port": 1}]}, "listeners.0.targets.0.nicUuid"),
    ],
)
async def test_wrong_listeners_are_refused_with_the_field(vms: Vms, wrong: dict[str, Any], field: str) -> None:
    await vms.fleet.join(**CAPABLE)
    l3 = await vms.l3(await vms.attached_l2())
    with pytest.raises(InvalidRequest) as refusal:
        await attach(vms, l3, listener() | wrong)
    assert refusal.value.details["field"] == f"config.LoadBalancer.{field}"
    assert (await vms.client.l3.get(uuid=l3)).services == []


async def test_one_provider_for_it_as_for_any_type(vms: Vms) -> None:
    l3 = await vms.l3(await vms.attached_l2())
    both = {HAPROXY: ["LoadBalancer"], provider_uuid("Flat"): ["DHCP"]}
    found = await vms.client.l3.attach_services(l3_network_uuid=l3, services=both)
    assert [one.service_type for one in found.services] == ["DHCP", "LoadBalancer"]
    with pytest.raises(ServiceConflict):
        await vms.client.l3.attach_services(l3_network_uuid=l3, services={provider_uuid("VirtualRouter"): ["DHCP"]})


async def _servers(agent: ScriptedAgent, l3: UUID) -> set[str]:
    return {server["name"] for server in held(agent, l3)["listeners"][0]["servers"]}


async def _ports(agent: ScriptedAgent, l3: UUID) -> set[int]:
    spec = held(agent, l3)
    return set() if spec is None else {one["port"] for one in spec["listeners"]}
