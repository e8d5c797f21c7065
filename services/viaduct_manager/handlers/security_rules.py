"""`securityGroup.addRules`, `updateRule`, `removeRules`."""

from collections.abc import Sequence
from uuid import UUID

from viaduct_common.bus import RequestContext
from viaduct_common.errors import Exhausted, InvalidRequest, NotFound, PreconditionFailed
from viaduct_common.messages.services.security_groups import (
    AddSecurityGroupRules,
    NewRule,
    RemoveSecurityGroupRules,
    SecurityGroupInventory,
    UpdateSecurityGroupRule,
)
from viaduct_common.postgres.pool import Connection
from viaduct_manager import announce
from viaduct_manager.model.security_rules import MAX_RULES, StoredRule, check_rule, refuse_duplicates
from viaduct_manager.network_services.api import Change
from viaduct_manager.network_services.registry import NetworkServices
from viaduct_manager.store import security_groups, security_rules


class SecurityRuleHandlers:
    def __init__(self, services: NetworkServices) -> None:
        self._services = services

    async def add(
        self, request: AddSecurityGroupRules, connection: Connection, context: RequestContext
    ) -> SecurityGroupInventory:
        for index, rule in enumerate(request.rules):
            check_rule(rule, f"rules.{index}")
        uuid = request.security_group_uuid
        present = await self._lock(connection, uuid)
        refuse_duplicates(request.rules, present)
        if len(present) + len(request.rules) > MAX_RULES:
            raise Exhausted(
                f"security group {uuid} would have more than {MAX_RULES} rules",
                field="rules",
                limit=MAX_RULES,
                present=len(present),
            )
        await _require_remotes(connection, request.rules)
        await security_rules.add(connection, uuid, request.rules)
        return await self._changed(connection, uuid, request.rules)

    async def update(
        self, request: UpdateSecurityGroupRule, connection: Connection, context: RequestContext
    ) -> SecurityGroupInventory:
        uuid = await security_rules.group_of(connection, request.rule_uuid)
        present = await self._lock(connection, uuid)
        await security_rules.group_of(connection, request.rule_uuid)  # removed while we waited?
        [rule] = [one for one in present if one.uuid == request.rule_uuid]
        for field, value in (("priority", request.priority), ("action", request.action)):
            if rule.default and value is not None:
                raise InvalidRequest.of_field(field, "a default rule's cannot be changed", ruleUuid=str(rule.uuid))
        await security_rules.update(connection, request)
        return await self._changed(connection, uuid, [rule.rule])

    async def remove(
        self, request: RemoveSecurityGroupRules, connection: Connection, context: RequestContext
    ) -> SecurityGroupInventory:
        uuid = request.security_group_uuid
        by_uuid = {one.uuid: one for one in await self._lock(connection, uuid)}
        for index, rule_uuid in enumerate(request.rule_uuids):
            if rule_uuid in by_uuid and by_uuid[rule_uuid].default:
                raise PreconditionFailed(
                    f"rule {rule_uuid} is a default one: it can be switched off, not removed",
                    field=f"ruleUuids.{index}",
                    ruleUuid=str(rule_uuid),
                )
        going = [by_uuid[one] for one in dict.fromkeys(request.rule_uuids) if one in by_uuid]
        if not going:
            return await security_groups.get(connection, uuid)
        await security_rules.remove(connection, [one.uuid for one in going])
        return await self._changed(connection, uuid, [one.rule for one in going])

    async def _lock(self, connection: Connection, uuid: UUID) -> list[StoredRule]:
        """The group's rules, which nobody else changes until the transaction ends."""
        await security_groups.lock(connection, uuid, field="securityGroupUuid")
        return (await security_rules.of(connection, [uuid])).get(uuid, [])

    async def _changed(self, connection: Connection, uuid: UUID, rules: Sequence[NewRule]) -> SecurityGroupInventory:
        """These rules came, went or are others: the members of groups that they name may be wanted elsewhere."""
        named = {one.remote_group_uuid for one in rules if one.remote_group_uuid is not None}
        await self._services.changed(connection, Change(subjects=frozenset({uuid, *named})))
        group = await security_groups.touch(connection, uuid)
        await announce.event(connection, "securityGroup.updated", group)
        return group


async def _require_remotes(connection: Connection, rules: Sequence[NewRule]) -> None:
    """Raises:
    NotFound: a rule names a group that does not exist.
    """
    asked = {one.remote_group_uuid for one in rules if one.remote_group_uuid is not None}
    known = await security_groups.hold(connection, asked)
    for index, rule in enumerate(rules):
        if rule.remote_group_uuid is not None and rule.remote_group_uuid not in known:
            missing = NotFound.of(security_groups.KIND, rule.remote_group_uuid)
            missing.details["field"] = f"rules.{index}.remoteGroupUuid"
            raise missing
