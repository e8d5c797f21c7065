"""`kill -9` of anything in the middle of an attach: the operation ends in a true state, nothing is left half done."""

import asyncio
import random
from signal import SIGKILL, SIGSTOP
from uuid import UUID, uuid4

import pytest
from faults.truth import assert_true, eventually

from local_stack.stack import Stack
from viaduct_common.client import ViaductClient
from viaduct_common.errors import ViaductError
from viaduct_common.messages.l2 import L2NetworkInventory
from viaduct_common.messages.operation import OperationInventory

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(300)]

PARTS = ["manager", "broker", "postgres"]


async def create_networks(net: ViaductClient, count: int, first_vlan: int) -> list[L2NetworkInventory]:
    zone = (await net.zone.query()).items[0]
    return [
        await net.l2.create(
            zone_uuid=zone.uuid,
            name=f"vlan{vlan}",
            type="L2VlanNetwork",
            physical_interface="eth1",
            vlan=vlan,
        )
        for vlan in range(first_vlan, first_vlan + count)
    ]


async def cluster_of(net: ViaductClient, stack: Stack, host_name: str) -> UUID:
    return (await net.host.get(uuid=stack.hosts.uuid(host_name))).cluster_uuid


async def running_attach(net: ViaductClient) -> OperationInventory:
    """The attach that is under way; asserts until there is one."""
    running = (await net.operation.query(filters={"state": "running", "type": "l2.attach"})).items
    assert running
    return running[0]


@pytest.mark.parametrize("victim", PARTS)
async def test_attach_that_was_waiting_for_a_host_ends_when_a_part_was_killed(
    stack: Stack, net: ViaductClient, victim: str
) -> None:
    """Whichever part dies while a host has yet to answer, the same request gets a true answer in the end."""
    [network] = await create_networks(net, 1, 100)
    host = stack.hosts.host("host1")
    cluster_uuid = await cluster_of(net, stack, "host1")
    host.freeze()
    attach = asyncio.create_task(
        net.l2.attach(l2_network_uuid=network.uuid, cluster_uuid=cluster_uuid, timeout_seconds=60, message_id=uuid4())
    )
    await eventually(lambda: running_attach(net))
    await asyncio.to_thread(stack.part(victim).kill)
    host.thaw()
    await asyncio.to_thread(stack.part(victim).start)
    operation = await attach
    assert operation.state == "succeeded"
    await eventually(lambda: assert_true(stack, net))
    assert cluster_uuid in (await net.l2.get(uuid=network.uuid)).attached_cluster_uuids


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("victim", PARTS)
async def test_many_attaches_end_in_a_true_state_when_a_part_is_killed_among_them(
    stack: Stack, net: ViaductClient, victim: str, seed: int
) -> None:
    """A part dies at a random moment among twenty attaches; each is answered, and the kernels show the answers true."""
    networks = await create_networks(net, 10, 200)
    clusters = [await cluster_of(net, stack, name) for name in stack.hosts.names]
    chance = random.Random(seed)
    codes: set[str] = set()

    async def attach(network: L2NetworkInventory, cluster_uuid: UUID) -> bool:
        await asyncio.sleep(chance.random() * 0.3)
        try:
            await net.l2.attach(l2_network_uuid=network.uuid, cluster_uuid=cluster_uuid, timeout_seconds=60)
        except ViaductError as error:
            codes.add(error.code)
            return False
        return True

    attaches = {
        (network.uuid, cluster_uuid): asyncio.create_task(attach(network, cluster_uuid))
        for network in networks
        for cluster_uuid in clusters
    }
    await asyncio.sleep(chance.random() * 0.3)
    await asyncio.to_thread(stack.part(victim).kill)
    await asyncio.to_thread(stack.part(victim).start)
    answers = {key: await task for key, task in attaches.items()}
    assert not codes & {"INTERNAL", "ALREADY_EXISTS"}  # a repeated request never meets itself
    await eventually(lambda: assert_true(stack, net))
    for (network_uuid, cluster_uuid), attached in answers.items():
        network = await net.l2.get(uuid=network_uuid)
        assert (cluster_uuid in network.attached_cluster_uuids) == attached


async def test_attach_ends_when_the_agent_was_killed(stack: Stack, net: ViaductClient) -> None:
    """The command goes back to the host's queue with the agent, and is done by the next one."""
    networks = await create_networks(net, 10, 300)
    cluster_uuid = await cluster_of(net, stack, "host1")
    agent = stack.hosts.agent("host1")
    assert agent is not None
    await asyncio.to_thread(agent.signal, SIGSTOP)  # so that it has work in hand when it dies
    attaches = [
        asyncio.create_task(net.l2.attach(l2_network_uuid=network.uuid, cluster_uuid=cluster_uuid))
        for network in networks
    ]
    await eventually(lambda: running_attach(net))
    await asyncio.to_thread(stack.hosts.stop_agent, "host1", number=SIGKILL)
    await asyncio.to_thread(stack.hosts.start_agent, "host1")
    results = await asyncio.gather(*attaches)
    assert {operation.state for operation in results} == {"succeeded"}
    await eventually(lambda: assert_true(stack, net))


async def test_host_whose_plug_was_pulled_catches_up_when_it_returns(stack: Stack, net: ViaductClient) -> None:
    """A host that loses power during an attach blocks it no longer than it takes to miss it, and has it after boot."""
    [network] = await create_networks(net, 1, 400)
    cluster_uuid = await cluster_of(net, stack, "host1")
    host = stack.hosts.host("host1")
    host.freeze()
    attach = asyncio.create_task(net.l2.attach(l2_network_uuid=network.uuid, cluster_uuid=cluster_uuid))
    await eventually(lambda: running_attach(net))
    await asyncio.to_thread(host.stop, hard=True)
    operation = await attach
    assert operation.state == "succeeded"
    assert {step.state for step in operation.steps} == {"skipped"}
    await asyncio.to_thread(stack.up)
    await eventually(lambda: assert_true(stack, net))


async def test_no_address_is_given_twice_when_ipam_is_killed(stack: Stack, net: ViaductClient) -> None:
    """IPAM dies among a hundred allocations; each is answered with one address of its own, and no more are used."""
    [network] = await create_networks(net, 1, 500)
    l3 = await net.l3.create(l2_network_uuid=network.uuid, name="faults")
    await net.range.create(l3_network_uuid=l3.uuid, network_cidr="10.50.0.0/24")
    allocations = [
        asyncio.create_task(net.ip.allocate(l3_network_uuid=l3.uuid, owner=f"vm{number}")) for number in range(100)
    ]
    await asyncio.sleep(0.05)
    await asyncio.to_thread(stack.part("ipam").kill)
    await asyncio.to_thread(stack.part("ipam").start)
    given = [one.ip for answer in await asyncio.gather(*allocations) for one in answer]
    assert len(set(given)) == 100
    capacity = await net.ip.capacity(l3_network_uuids=[l3.uuid])
    assert capacity.used == 100
    await net.ip.release(l3_network_uuid=l3.uuid, ips=given)
    await net.l3.delete(uuid=l3.uuid)
