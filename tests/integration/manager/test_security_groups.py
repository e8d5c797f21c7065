"""Groups, their rules and members as they are kept: what is refused, and who is first."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from integration.manager.guarded import SSH, Guarded
from integration.manager.vms import Vms

from local_stack.service import Service
from viaduct_common.errors import (
    AlreadyExists,
    Conflict,
    Exhausted,
    InUse,
    InvalidRequest,
    NotFound,
    PreconditionFailed,
    ViaductError,
)
from viaduct_manager.model.security_rules import DEFAULT_PRIORITY, MAX_RULES

pytestmark = pytest.mark.usefixtures("manager")


@pytest.fixture
async def guarded(vms: Vms, manager: Service) -> Guarded:
    return Guarded(vms)


async def refused(error: type[ViaductError], call: Any) -> dict[str, Any]:
    """The details with which it is refused."""
    with pytest.raises(error) as refusal:
        await call
    return refusal.value.details


async def test_group_is_made_with_its_default_rules_and_changed(guarded: Guarded) -> None:
    api, uuid = guarded.client.security_group, uuid4()
    group = await api.create(name="web", uuid=uuid)
    assert [(one.direction, one.ip_version, one.remote_group_uuid) for one in group.rules] == [
        ("ingress", 4, uuid),
        ("ingress", 6, uuid),
        ("egress", 4, None),
        ("egress", 6, None),
    ]
    assert {(one.default, one.priority, one.action) for one in group.rules} == {(True, DEFAULT_PRIORITY, "allow")}
    changed = await api.update(uuid=uuid, description="of the web", revision=group.revision)
    assert (changed.name, changed.description, changed.revision) == ("web", "of the web", group.revision + 1)
    await refused(Conflict, api.update(uuid=uuid, name="other", revision=group.revision))
    await refused(AlreadyExists, api.create(name="web", uuid=uuid))
    assert [one.uuid for one in (await api.query(filters={"uuid": uuid})).items] == [uuid]
    assert (await api.delete(uuid=uuid)) is not None
    assert (await api.delete(uuid=uuid)) is None
    await refused(NotFound, api.get(uuid=uuid))
    await refused(NotFound, api.update(uuid=uuid, name="other"))


async def test_rules_are_added_changed_and_removed(guarded: Guarded) -> None:
    api, group = guarded.client.security_group, await guarded.group()
    rule = await guarded.rule(group.uuid, cidrs=["10.0.0.0/8"], priority=7)
    after = await api.update_rule(rule_uuid=rule, enabled=False, action="drop", priority=3, description="no")
    [first] = [one for one in after.rules if one.uuid == rule]
    assert after.rules[0] == first
    assert (first.enabled, first.action, first.priority, first.description) == (False, "drop", 3, "no")
    assert (after.revision, after.updated_at > group.updated_at) == (group.revision + 2, True)
    removed = await api.remove_rules(security_group_uuid=group.uuid, rule_uuids=[rule, uuid4()])
    assert [one.default for one in removed.rules] == [True] * 4
    again = await api.remove_rules(security_group_uuid=group.uuid, rule_uuids=[rule])
    assert again.revision == removed.revision


async def test_default_rules_are_switched_and_described_only(guarded: Guarded) -> None:
    api, group = guarded.client.security_group, await guarded.group()
    rule = group.rules[0].uuid
    changed = await api.update_rule(rule_uuid=rule, enabled=False, description="off")
    [off] = [one for one in changed.rules if one.uuid == rule]
    assert (off.enabled, off.description) == (False, "off")
    assert (await refused(InvalidRequest, api.update_rule(rule_uuid=rule, priority=1)))["field"] == "priority"
    assert (await refused(InvalidRequest, api.update_rule(rule_uuid=rule, action="drop")))["field"] == "action"
    removing = api.remove_rules(security_group_uuid=group.uuid, rule_uuids=[uuid4(), rule])
    assert (await refused(PreconditionFailed, removing))["field"] == "ruleUuids.1"


async def test_rules_that_are_wrong_are_refused_all(guarded: Guarded) -> None:
    api, group = guarded.client.security_group, await guarded.group()

    def add(*rules: dict[str, Any]) -> Any:
        return api.add_rules(security_group_uuid=group.uuid, rules=list(rules))

    details = await refused(InvalidRequest, add(SSH, {**SSH, "ports": []}))
    assert details["field"] == "rules.1.ports"
    details = await refused(NotFound, add(SSH, {**SSH, "remote_group_uuid": uuid4()}))
    assert details["field"] == "rules.1.remoteGroupUuid"
    missing = api.add_rules(security_group_uuid=uuid4(), rules=[SSH])
    assert (await refused(NotFound, missing))["field"] == "securityGroupUuid"
    assert (await refused(NotFound, api.update_rule(rule_uuid=uuid4())))["field"] == "ruleUuid"
    assert (await api.get(uuid=group.uuid)).revision == group.revision


async def test_rule_that_is_there_already_is_named(guarded: Guarded) -> None:
    api, group = guarded.client.security_group, await guarded.group()
    rule = await guarded.rule(group.uuid, ports=[{"start": 80, "end": 90}, {"start": 91}])
    same = {**SSH, "ports": [{"start": 80, "end": 91}], "priority": 9}
    details = await refused(AlreadyExists, api.add_rules(security_group_uuid=group.uuid, rules=[SSH, same]))
    assert (details["field"], details["ruleUuid"]) == ("rules.1", str(rule))
    details = await refused(AlreadyExists, api.add_rules(security_group_uuid=group.uuid, rules=[SSH, SSH]))
    assert (details["field"], details["sameAs"]) == ("rules.1", "rules.0")
    drop = await guarded.rule(group.uuid, ports=same["ports"], action="drop")
    details = await refused(AlreadyExists, api.update_rule(rule_uuid=drop, action="allow"))
    assert (details["field"], details["ruleUuid"]) == ("action", str(rule))


async def test_group_has_so_many_rules_at_most(guarded: Guarded) -> None:
    api, group = guarded.client.security_group, await guarded.group()
    ports = iter(range(1, MAX_RULES * 2))
    room = MAX_RULES - 4
    for count in (200, 200, room - 400):
        rules = [{**SSH, "ports": [{"start": next(ports)}]} for _ in range(count)]
        await api.add_rules(security_group_uuid=group.uuid, rules=rules)
    one_more = api.add_rules(security_group_uuid=group.uuid, rules=[{**SSH, "ports": [{"start": next(ports)}]}])
    assert (await refused(Exhausted, one_more))["limit"] == MAX_RULES


async def test_of_two_that_add_the_same_rule_one_gets_through(guarded: Guarded) -> None:
    api, group = guarded.client.security_group, await guarded.group()
    adding = [api.add_rules(security_group_uuid=group.uuid, rules=[SSH]) for _ in range(8)]
    outcomes = await asyncio.gather(*adding, return_exceptions=True)
    assert sum(isinstance(one, AlreadyExists) for one in outcomes) == 7
    assert len((await api.get(uuid=group.uuid)).rules) == 5


async def test_group_is_attached_where_the_service_is(guarded: Guarded) -> None:
    api, group = guarded.client.security_group, await guarded.group()
    served, bare = await guarded.l3(), await guarded.l3(served=False)

    def attach(*l3s: Any, group_uuid: Any = group.uuid) -> Any:
        return api.attach_l3(security_group_uuid=group_uuid, l3_network_uuids=list(l3s))

    assert (await refused(PreconditionFailed, attach(served, bare)))["field"] == "l3NetworkUuids.1"
    assert (await refused(NotFound, attach(served, uuid4())))["field"] == "l3NetworkUuids.1"
    assert (await refused(NotFound, attach(served, group_uuid=uuid4())))["field"] == "securityGroupUuid"
    attached = await attach(served)
    assert attached.l3_network_uuids == [served]
    assert (await attach(served)).revision == attached.revision
    assert [one.uuid for one in (await api.query(filters={"l3_network_uuid": served})).items] == [group.uuid]
    detached = await api.detach_l3(security_group_uuid=group.uuid, l3_network_uuids=[served, bare])
    assert detached.l3_network_uuids == []
    again = await api.detach_l3(security_group_uuid=group.uuid, l3_network_uuids=[served])
    assert again.revision == detached.revision


async def test_nics_join_where_they_may(guarded: Guarded) -> None:
    agent, l3, bare = await guarded.join(), await guarded.l3(), await guarded.l3(served=False)
    group, elsewhere = await guarded.group(l3), await guarded.group()
    nic, unserved = await guarded.nic(agent, l3), await guarded.nic(agent, bare)
    assert (await refused(NotFound, guarded.add(group.uuid, nic.uuid, uuid4())))["field"] == "nicUuids.1"
    assert (await refused(NotFound, guarded.add(uuid4(), nic.uuid)))["field"] == "securityGroupUuid"
    details = await refused(PreconditionFailed, guarded.add(group.uuid, nic.uuid, unserved.uuid))
    assert (details["field"], details["l3NetworkUuid"]) == ("nicUuids.1", str(bare))
    details = await refused(PreconditionFailed, guarded.add(elsewhere.uuid, nic.uuid))
    assert (details["field"], details["securityGroupUuid"]) == ("nicUuids.0", str(elsewhere.uuid))
    assert (await guarded.policy(nic.uuid)).security_group_uuids == []
    await guarded.add(group.uuid, nic.uuid, nic.uuid)
    await guarded.add(group.uuid, nic.uuid)
    assert (await guarded.policy(nic.uuid)).security_group_uuids == [group.uuid]
    found = await guarded.client.security_group.query(filters={"nic_uuid": nic.uuid})
    assert [one.uuid for one in found.items] == [group.uuid]
    await guarded.remove(group.uuid, nic.uuid)
    await guarded.remove(group.uuid, nic.uuid, uuid4())
    assert (await refused(NotFound, guarded.remove(uuid4(), nic.uuid)))["field"] == "securityGroupUuid"
    assert (await guarded.policy(nic.uuid)).security_group_uuids == []


async def test_policies_of_a_nic(guarded: Guarded) -> None:
    agent, l3 = await guarded.join(), await guarded.l3()
    nic = await guarded.nic(agent, l3)
    before = await guarded.policy(nic.uuid)
    assert (before.ingress_policy, before.egress_policy) == ("drop", "allow")
    changed = await guarded.client.nic.set_security_policy(nic_uuid=nic.uuid, egress_policy="drop")
    assert (changed.ingress_policy, changed.egress_policy) == ("drop", "drop")
    changed = await guarded.client.nic.set_security_policy(nic_uuid=nic.uuid, ingress_policy="allow")
    assert (changed.ingress_policy, changed.egress_policy) == ("allow", "drop")
    missing = guarded.client.nic.set_security_policy(nic_uuid=uuid4(), ingress_policy="allow")
    assert (await refused(NotFound, missing))["field"] == "nicUuid"
    assert (await refused(NotFound, guarded.policy(uuid4())))["field"] == "nicUuid"


async def test_what_is_in_use_stays(guarded: Guarded) -> None:
    """A group with members, or that a rule names; where members are; and the service there."""
    agent, l3 = await guarded.join(), await guarded.l3()
    group, naming, vm = await guarded.group(l3), await guarded.group(), uuid4()
    nic = await guarded.nic(agent, l3, group.uuid, vm=vm)
    rule = await guarded.rule(naming.uuid, remote_group_uuid=group.uuid)
    api = guarded.client.security_group
    details = await refused(InUse, api.delete(uuid=group.uuid))
    assert (details["nicUuids"], details["ruleUuids"]) == ([str(nic.uuid)], [str(rule)])
    details = await refused(InUse, api.detach_l3(security_group_uuid=group.uuid, l3_network_uuids=[l3]))
    assert (details["field"], details["nicUuids"]) == ("l3NetworkUuids", [str(nic.uuid)])
    assert (await refused(InUse, guarded.unserve(l3)))["nicUuids"] == [str(nic.uuid)]
    await guarded.vms.release(vm)
    assert (await refused(InUse, api.delete(uuid=group.uuid)))["ruleUuids"] == [str(rule)]
    await api.remove_rules(security_group_uuid=naming.uuid, rule_uuids=[rule])
    await guarded.unserve(l3)
    await api.detach_l3(security_group_uuid=group.uuid, l3_network_uuids=[l3])
    assert await api.delete(uuid=group.uuid) is not None


async def test_vm_is_refused_groups_that_its_nics_cannot_be_in(guarded: Guarded) -> None:
    agent, l3, bare = await guarded.join(), await guarded.l3(), await guarded.l3(served=False)
    group, elsewhere = await guarded.group(l3), await guarded.group()
    for uuid, network, error in (
        (uuid4(), l3, NotFound),
        (elsewhere.uuid, l3, PreconditionFailed),
        (group.uuid, bare, PreconditionFailed),
    ):
        wanted = [{"l3_network_uuid": l3}, {"l3_network_uuid": network, "security_group_uuids": [uuid]}]
        details = await refused(error, guarded.vms.prepare(uuid4(), agent, wanted))
        assert details["field"] == "nics.1.securityGroupUuids"
    assert await guarded.vms.nics(l3_network_uuid=[l3, bare]) == []


async def test_whoever_is_first_wins(guarded: Guarded) -> None:
    """A NIC joins, and the group is deleted or detached, or the service: never both."""
    agent, l3 = await guarded.join(), await guarded.l3()
    nic = await guarded.nic(agent, l3)
    api = guarded.client.security_group
    for _ in range(12):
        group = await guarded.group(l3)
        away = (
            lambda uuid=group.uuid: api.delete(uuid=uuid),
            lambda uuid=group.uuid: api.detach_l3(security_group_uuid=uuid, l3_network_uuids=[l3]),
            lambda: guarded.unserve(l3),
        )
        for go in away:
            joined, gone = await asyncio.gather(guarded.add(group.uuid, nic.uuid), go(), return_exceptions=True)
            for one in (joined, gone):
                assert not isinstance(one, BaseException) or isinstance(one, InUse | NotFound | PreconditionFailed)
            assert isinstance(joined, BaseException) != isinstance(gone, BaseException)
            if not isinstance(joined, BaseException):
                await guarded.remove(group.uuid, nic.uuid)
            await guarded.serve(l3)
            if isinstance(joined, NotFound):
                break
            await api.attach_l3(security_group_uuid=group.uuid, l3_network_uuids=[l3])
