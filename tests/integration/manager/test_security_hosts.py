"""What hosts have of security groups: before a VM is there, when it moves, when anything changes, and how little they
are told then."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest
from integration.manager.conftest import Fleet
from integration.manager.eventually import eventually
from integration.manager.guarded import Guarded, groups_of, held, knows, members, rules, told
from integration.manager.scripted_agent import REFUSED, ScriptedAgent
from integration.manager.scripted_services import APPLY
from integration.manager.vms import Vms

from local_stack.service import Service
from viaduct_common.errors import BackendFailed
from viaduct_common.messages.services.security_specs import SECURITY_MEMBERS, SECURITY_NIC
from viaduct_manager.model.security_rules import slice_of

pytestmark = pytest.mark.usefixtures("manager")
SMALL = 4096


@pytest.fixture
async def guarded(vms: Vms, manager: Service) -> Guarded:
    return Guarded(vms)


async def test_vm_is_guarded_before_it_is_there(guarded: Guarded) -> None:
    """The NIC, its groups' rules, and who is in the groups that these name."""
    first, second = await guarded.join(), await guarded.join()
    l3 = await guarded.l3()
    group, named = await guarded.group(l3), await guarded.group(l3)
    await guarded.rule(group.uuid, remote_group_uuid=named.uuid)
    client = await guarded.nic(first, l3, named.uuid)
    server = await guarded.nic(second, l3, group.uuid, named.uuid)
    assert groups_of(second, server.uuid) == [str(group.uuid), str(named.uuid)]
    spec = held(second, SECURITY_NIC, server.uuid)
    assert (spec["deviceName"], spec["bridge"], spec["mac"]) == (server.device_name, server.bridge, server.mac)
    assert spec["ips"] == [str(server.ips[0].ip)]
    assert [one["remoteGroupUuid"] for one in rules(second, group.uuid) or []][:1] == [str(named.uuid)]
    assert members(second, named.uuid) == {str(client.ips[0].ip), str(server.ips[0].ip)}
    assert members(second, group.uuid) == {str(server.ips[0].ip)}
    await guarded.quiet()
    assert (groups_of(first, server.uuid), rules(first, group.uuid)) == (None, None)
    assert members(first, named.uuid) == {str(client.ips[0].ip), str(server.ips[0].ip)}
    assert members(first, group.uuid) == set()


async def test_host_that_cannot_guard_it_gets_no_vm(guarded: Guarded) -> None:
    agent = await guarded.join(errors={APPLY: REFUSED})
    l3, vm = await guarded.l3(), uuid4()
    group = await guarded.group(l3)
    with pytest.raises(BackendFailed):
        await guarded.nic(agent, l3, group.uuid, vm=vm)
    agent.errors.clear()
    await guarded.quiet()
    assert await guarded.vms.nics(vm_uuid=vm) == []
    assert agent.services.held == {}
    assert await guarded.client.security_group.delete(uuid=group.uuid) is not None


async def test_destination_has_the_rules_before_the_vm_moves(guarded: Guarded) -> None:
    source, destination = await guarded.join(), await guarded.join()
    l3, vm = await guarded.l3(), uuid4()
    group = await guarded.group(l3)
    nic = await guarded.nic(source, l3, group.uuid, vm=vm)
    await guarded.vms.migrate(vm, destination, "begin")
    for agent in (source, destination):
        assert groups_of(agent, nic.uuid) == [str(group.uuid)]
        assert rules(agent, group.uuid) is not None
        assert knows(agent, group.uuid, nic)
    await guarded.vms.migrate(vm, destination, "finish")
    await guarded.quiet()
    assert source.services.held == {}
    assert groups_of(destination, nic.uuid) == [str(group.uuid)]
    assert knows(destination, group.uuid, nic)


async def test_released_nic_leaves_nothing(guarded: Guarded) -> None:
    near, far = await guarded.join(), await guarded.join()
    l3, vm = await guarded.l3(), uuid4()
    group = await guarded.group(l3)
    stays, goes = await guarded.nic(near, l3, group.uuid), await guarded.nic(far, l3, group.uuid, vm=vm)
    assert knows(near, group.uuid, goes)
    await guarded.vms.release(vm)
    await guarded.quiet()
    assert far.services.held == {}
    assert members(near, group.uuid) == {str(stays.ips[0].ip)}


async def test_hosts_follow_every_change(guarded: Guarded) -> None:
    agent, l3 = await guarded.join(), await guarded.l3()
    group, named = await guarded.group(l3), await guarded.group(l3)
    nic, other = await guarded.nic(agent, l3), await guarded.nic(agent, l3)
    api = guarded.client.security_group
    assert groups_of(agent, nic.uuid) == []
    await guarded.add(group.uuid, nic.uuid)
    await guarded.add(named.uuid, other.uuid, nic.uuid)
    await guarded.quiet()
    assert groups_of(agent, nic.uuid) == [str(group.uuid), str(named.uuid)]
    defaults = [one.uuid for one in (await api.get(uuid=named.uuid)).rules if one.remote_group_uuid]
    for uuid in defaults:
        await api.update_rule(rule_uuid=uuid, enabled=False)
    await guarded.quiet()
    assert members(agent, named.uuid) == set()  # no rule names it
    rule = await guarded.rule(group.uuid, remote_group_uuid=named.uuid, ports=[{"start": 1}, {"start": 2}])
    await guarded.quiet()
    assert members(agent, named.uuid) == {str(nic.ips[0].ip), str(other.ips[0].ip)}
    assert (rules(agent, group.uuid) or [])[0]["ports"] == [{"start": 1, "end": 2}]
    await api.remove_rules(security_group_uuid=group.uuid, rule_uuids=[rule])
    await guarded.client.nic.set_security_policy(nic_uuid=nic.uuid, ingress_policy="allow", egress_policy="drop")
    await guarded.quiet()
    assert members(agent, named.uuid) == set()
    spec = held(agent, SECURITY_NIC, nic.uuid)
    assert (spec["ingressPolicy"], spec["egressPolicy"]) == ("allow", "drop")
    await guarded.remove(group.uuid, nic.uuid)
    await guarded.remove(named.uuid, nic.uuid, other.uuid)
    await guarded.unserve(l3)
    await guarded.quiet()
    assert agent.services.held == {}


async def plug(fleet: Fleet, hosts: list[ScriptedAgent], l3: UUID, like: UUID, count: int) -> list[UUID]:
    """So many NICs on an L3 network, by the table alone, as another is on it; they are spread over the hosts."""
    found = [uuid4() for _ in range(count)]
    rows = ",".join(
        f"('{nic}'::uuid, '{hosts[number % len(hosts)].uuid}'::uuid, {number})" for number, nic in enumerate(found)
    )
    statements = f"""
        CREATE TEMP TABLE plugged AS SELECT * FROM (VALUES {rows}) AS one(uuid, host_uuid, number);
        INSERT INTO nic (uuid, vm_uuid, host_uuid, account_uuid, l3_uuid, l2_uuid, device_index, device_name, mac,
                         state, addresses, host_name)
        SELECT plugged.uuid, gen_random_uuid(), plugged.host_uuid, account_uuid, l3_uuid, l2_uuid, 0,
               left(replace(plugged.uuid::text, '-', ''), 12),
               ('0200' || lpad(to_hex(number), 8, '0'))::macaddr, 'ready', 'held', 'plugged-' || number
        FROM plugged, nic WHERE nic.uuid = '{like}';
        INSERT INTO nic_ip (uuid, nic_uuid, ip, prefix_length)
        SELECT gen_random_uuid(), uuid, '172.16.0.0'::inet + number, 16 FROM plugged;
    """
    await asyncio.to_thread(fleet.place.sql, statements)
    return found


async def test_change_of_one_of_a_thousand_members_is_one_small_item_for_each_host(guarded: Guarded) -> None:
    agents = [await guarded.join() for _ in range(4)]
    l3 = await guarded.l3()
    group = await guarded.group(l3)
    nics = [await guarded.nic(agent, l3, group.uuid) for agent in agents]
    crowd = await plug(guarded.vms.fleet, agents, l3, nics[0].uuid, 1000)
    await guarded.add(group.uuid, *crowd)  # in one transaction
    await guarded.quiet()
    for agent in agents:
        assert len(members(agent, group.uuid)) == 1004

    for change, nic in ((guarded.add, await guarded.nic(agents[0], l3)), (guarded.remove, nics[0])):
        await guarded.quiet()
        since = [len(agent.heard) for agent in agents]
        await change(group.uuid, nic.uuid)
        await guarded.quiet()
        for agent, before in zip(agents, since, strict=True):
            commands = told(agent, before)
            items = [item for one in commands for item in one.services]
            slices = [item for item in items if item.kind == SECURITY_MEMBERS]
            assert [item.spec["slice"] for item in slices] == [slice_of(nic.uuid)]
            own = [item for item in items if item.kind == SECURITY_NIC]
            assert len(items) == len(slices) + len(own)
            assert len(own) == (agent is agents[0])
            assert all(len(one.command.to_json()) < SMALL for one in commands)
            assert len(commands) == len(items) or len(commands) == 1


async def test_whatever_happens_at_once_hosts_end_up_right(guarded: Guarded) -> None:
    """NICs join and leave two groups, of which one names the other, while that rule comes and goes."""
    agents = [await guarded.join() for _ in range(3)]
    l3 = await guarded.l3()
    group, named = await guarded.group(l3), await guarded.group(l3)
    nics = {agent.uuid: [await guarded.nic(agent, l3) for _ in range(3)] for agent in agents}
    api = guarded.client.security_group

    async def come_and_go(nic: Any, group_uuid: UUID, turns: int) -> None:
        for turn in range(turns):
            await (guarded.remove if turn % 2 else guarded.add)(group_uuid, nic.uuid)

    async def rule_comes_and_goes() -> None:
        for _ in range(6):
            rule = await guarded.rule(group.uuid, remote_group_uuid=named.uuid)
            await api.remove_rules(security_group_uuid=group.uuid, rule_uuids=[rule])
        await guarded.rule(group.uuid, remote_group_uuid=named.uuid)

    everybody = [(host, nic) for host, there in nics.items() for nic in there]
    await asyncio.gather(
        rule_comes_and_goes(),
        *(come_and_go(nic, group.uuid, 6 + number % 2) for number, (_, nic) in enumerate(everybody)),
        *(come_and_go(nic, named.uuid, 7 - number % 3) for number, (_, nic) in enumerate(everybody)),
    )
    await guarded.quiet()
    in_group, in_named = set(), set()
    for host, nic in everybody:
        joined = (await guarded.policy(nic.uuid)).security_group_uuids
        in_group |= {host} if group.uuid in joined else set()
        in_named |= {(host, str(nic.ips[0].ip))} if named.uuid in joined else set()
    for agent in agents:
        wanted = agent.uuid in in_group or agent.uuid in {host for host, _ in in_named}
        assert members(agent, named.uuid) == ({ip for _, ip in in_named} if wanted else set())
        assert (rules(agent, group.uuid) is not None) == (agent.uuid in in_group)


async def test_host_that_was_away_gets_what_it_missed(guarded: Guarded) -> None:
    agent, l3 = await guarded.join(), await guarded.l3()
    group = await guarded.group(l3)
    nic = await guarded.nic(agent, l3, group.uuid)
    await guarded.vms.fleet.lose(agent)
    rule = await guarded.rule(group.uuid)
    await agent.hello()
    agent.beat_on()

    async def seen() -> set[str]:
        return {one["ruleUuid"] for one in rules(agent, group.uuid) or []}

    await eventually(seen, lambda uuids: str(rule) in uuids)
    assert groups_of(agent, nic.uuid) == [str(group.uuid)]
