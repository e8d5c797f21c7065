"""VMs' networks while managers and IPAM die or are away: no address is lost, no operation hangs, none is half done."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from signal import SIGCONT, SIGSTOP
from uuid import UUID, uuid4

import pytest
from integration.manager.control_plane import Place
from integration.manager.eventually import eventually
from integration.manager.scripted_agent import REALIZE, SYNC
from integration.manager.vms import Vms

from local_stack.service import Service
from viaduct_common.errors import DeadlineExceeded, IpInUse
from viaduct_common.messages.operation import OperationInventory
from viaduct_common.messages.vm import NicInventory


async def crash(service: Service) -> None:
    await asyncio.to_thread(service.kill)


async def start(service: Service) -> None:
    await asyncio.to_thread(service.start)


async def signal(service: Service, number: int) -> None:
    process = service.process()
    assert process is not None
    await asyncio.to_thread(process.signal, number)


@asynccontextmanager
async def away(service: Service) -> AsyncIterator[None]:
    """The process is dead inside, and there again afterwards."""
    await crash(service)
    try:
        yield
    finally:
        await start(service)


async def under_way(vms: Vms, phase: str, vm: UUID) -> OperationInventory:
    page = await eventually(
        lambda: vms.client.operation.query(filters={"vm_uuid": vm, "state": "running"}),
        lambda page: bool(page.items) and page.items[0].phase == phase,
    )
    operation: OperationInventory = page.items[0]
    return operation


@pytest.fixture
async def second(place: Place, manager: Service) -> AsyncIterator[Service]:
    async with place.running("manager") as service:
        yield service


async def test_prepare_goes_on_after_the_manager_was_killed_while_the_host_works(vms: Vms, manager: Service) -> None:
    """Whoever waits gets the answer from the manager that comes after."""
    agent = await vms.fleet.join(silent={REALIZE, SYNC})
    l3, vm = await vms.l3(await vms.ranged_l2(100, 199)), uuid4()
    preparing = asyncio.create_task(vms.prepare(vm, agent, [l3], timeout_seconds=40))
    command = await agent.hears(REALIZE)
    async with away(manager):
        await agent.say(agent.do(command))
    [nic] = await preparing

    assert await vms.nics(vm_uuid=vm) == [nic]
    await vms.books_agree(l3)


@pytest.mark.slow
async def test_prepare_waits_for_ipam_and_outlives_the_manager(vms: Vms, manager: Service, ipam: Service) -> None:
    """IPAM is away, then the manager dies; the NIC is there in the end, with one address. The same for a release."""
    agent = await vms.fleet.join()
    l3, vm = await vms.l3(await vms.attached_l2()), uuid4()
    async with away(ipam):
        preparing = asyncio.create_task(vms.prepare(vm, agent, [l3], timeout_seconds=40))
        await under_way(vms, "allocate", vm)
        async with away(manager):
            pass
    [nic] = await preparing
    await vms.books_agree(l3)
    assert len(await vms.used(l3)) == 1
    async with away(ipam):
        releasing = asyncio.create_task(vms.release(vm, timeout_seconds=40))
        await under_way(vms, "release", vm)
        async with away(manager):
            pass
    assert await releasing == [nic]
    assert await vms.used(l3) == {}


@pytest.mark.slow
async def test_ipam_that_is_away_too_long_costs_the_vm_but_no_address(vms: Vms, ipam: Service) -> None:
    """The caller is told; another VM can have its place; whatever IPAM still does is taken back when it returns."""
    agent = await vms.fleet.join()
    l3, vm = await vms.l3(await vms.ranged_l2(100, 199)), uuid4()
    await signal(ipam, SIGSTOP)  # it has the request, and does it late
    try:
        with pytest.raises(DeadlineExceeded) as refusal:
            await vms.prepare(vm, agent, [l3], timeout_seconds=1)
    finally:
        await signal(ipam, SIGCONT)

    assert refusal.value.details["operation"]["state"] == "failed"
    await vms.books_agree(l3)
    assert await vms.used(l3) == {}
    assert await vms.release(vm) == []
    [nic] = await vms.prepare(vm, agent, [l3])
    assert (nic.device_index, len(nic.ips)) == (0, 1)


@pytest.mark.slow
async def test_release_that_ipam_does_not_hear_of_is_done_all_the_same(vms: Vms, ipam: Service) -> None:
    """Its caller is told that it takes longer; a repetition ends when it is done."""
    agent = await vms.fleet.join()
    l3, vm = await vms.l3(await vms.attached_l2()), uuid4()
    [nic] = await vms.prepare(vm, agent, [l3])
    async with away(ipam):
        with pytest.raises(DeadlineExceeded):
            await vms.release(vm, timeout_seconds=1)
        assert await vms.nics(vm_uuid=vm) == []
        again = asyncio.create_task(vms.release(vm, timeout_seconds=40))
        await under_way(vms, "release", vm)

    assert [one.uuid for one in await again] == [nic.uuid]
    assert await vms.used(l3) == {}


async def test_what_a_dead_manager_had_begun_another_one_ends(vms: Vms, manager: Service, second: Service) -> None:
    """Prepares and releases among two managers, of which one is killed at random moments."""
    chance = Random(7)
    agents = [await vms.fleet.join() for _ in range(2)]
    l3, owned = await vms.l3(await vms.attached_l2()), await vms.l3(await vms.ranged_l2(100, 199))
    taken = {"l3_network_uuid": l3, "ip": "10.1.0.200"}
    [holder] = await vms.prepare(uuid4(), agents[0], [taken])

    async def life(number: int) -> list[NicInventory]:
        """A VM that is made, some of them in vain, moved, and some of them given back."""
        vm, at, to = uuid4(), agents[number % 2], agents[(number + 1) % 2]
        account = {"account_uuid": UUID(int=number % 3), "timeout_seconds": 60}
        await asyncio.sleep(chance.random())
        if number % 4 == 0:
            with pytest.raises(IpInUse):
                await vms.prepare(vm, at, [owned, l3, taken], **account)
            return []
        given = await vms.prepare(vm, at, [owned, l3], **account)
        if number % 4 == 1:
            given = await vms.migrate(vm, to, timeout_seconds=60)
        if number % 4 == 2:
            await vms.release(vm, timeout_seconds=60)
            return []
        return given

    lives = asyncio.gather(*(life(number) for number in range(16)))
    for _ in range(2):
        await asyncio.sleep(0.2 + chance.random() * 0.3)
        await crash(manager)
        await start(manager)
    left = [nic for given in await lives for nic in given]

    await vms.books_agree(l3, owned)
    assert {nic.uuid for nic in await vms.nics(l3_network_uuid=[l3, owned])} == {nic.uuid for nic in (*left, holder)}
    for nic in left:
        if nic.l3_network_uuid == owned:
            there = {one.host_uuid for one in left if one.l2_network_uuid == nic.l2_network_uuid}
            await eventually(lambda: vms.realized(nic.l2_network_uuid), lambda hosts: hosts == there)  # noqa: B023


async def test_answer_is_the_same_after_a_crash(vms: Vms, manager: Service) -> None:
    """By its message id, whichever manager is asked."""
    agent = await vms.fleet.join()
    l3, vm, message_id = await vms.l3(await vms.attached_l2()), uuid4(), uuid4()
    given = await vms.prepare(vm, agent, [l3, l3], message_id=message_id)
    async with away(manager):
        pass
    assert await vms.prepare(vm, agent, [l3, l3], message_id=message_id) == given
