"""`securityGroup.*` but rules and members: what groups there are, and where NICs may be in them."""

from uuid import UUID

from viaduct_common.bus import RequestContext
from viaduct_common.errors import InUse, NotFound, PreconditionFailed
from viaduct_common.messages.base import Page
from viaduct_common.messages.services.security_groups import (
    AttachSecurityGroup,
    CreateSecurityGroup,
    DeleteSecurityGroup,
    DetachSecurityGroup,
    GetSecurityGroup,
    QuerySecurityGroups,
    SecurityGroupInventory,
    UpdateSecurityGroup,
)
from viaduct_common.postgres.pool import Connection
from viaduct_manager import announce
from viaduct_manager.handlers.new import fresh_uuid
from viaduct_manager.model.security_rules import default_rules
from viaduct_manager.network_services.api import Change
from viaduct_manager.network_services.registry import NetworkServices
from viaduct_manager.store import l3_networks, security_groups, security_rules


class SecurityGroupHandlers:
    def __init__(self, services: NetworkServices) -> None:
        self._services = services

    async def create(
        self, request: CreateSecurityGroup, connection: Connection, context: RequestContext
    ) -> SecurityGroupInventory:
        uuid = fresh_uuid(request.uuid, context, security_groups.KIND)
        await security_groups.create(connection, uuid, request)
        await security_rules.add(connection, uuid, default_rules(uuid), default=True)
        group = await security_groups.get(connection, uuid)
        await announce.event(connection, "securityGroup.created", group)
        return group

    async def get(
        self, request: GetSecurityGroup, connection: Connection, context: RequestContext
    ) -> SecurityGroupInventory:
        return await security_groups.get(connection, request.uuid)

    async def query(
        self, request: QuerySecurityGroups, connection: Connection, context: RequestContext
    ) -> Page[SecurityGroupInventory]:
        return await security_groups.query(connection, request)

    async def update(
        self, request: UpdateSecurityGroup, connection: Connection, context: RequestContext
    ) -> SecurityGroupInventory:
        group = await security_groups.update(connection, request)
        await announce.event(connection, "securityGroup.updated", group)
        return group

    async def delete(
        self, request: DeleteSecurityGroup, connection: Connection, context: RequestContext
    ) -> SecurityGroupInventory | None:
        group = await security_groups.find_locked(connection, request.uuid)
        if group is None:
            return None
        nic_uuids, rule_uuids = await security_groups.users(connection, group.uuid)
        if nic_uuids or rule_uuids:
            raise InUse(
                f"security group {group.name} is in use",
                field="uuid",
                nicUuids=[str(uuid) for uuid in nic_uuids],
                ruleUuids=[str(uuid) for uuid in rule_uuids],
            )
        named = {rule.remote_group_uuid for rule in group.rules if rule.remote_group_uuid is not None}
        await self._services.changed(connection, Change(subjects=frozenset({group.uuid, *named})))
        await security_groups.delete(connection, group.uuid)
        await announce.event(connection, "securityGroup.deleted", group)
        return group

    async def attach(
        self, request: AttachSecurityGroup, connection: Connection, context: RequestContext
    ) -> SecurityGroupInventory:
        known, served = await security_groups.hold_l3s(connection, request.l3_network_uuids)
        await security_groups.lock(connection, request.security_group_uuid, field="securityGroupUuid")
        for index, uuid in enumerate(request.l3_network_uuids):
            field = f"l3NetworkUuids.{index}"
            if uuid not in known:
                missing = NotFound.of(l3_networks.KIND, uuid)
                missing.details["field"] = field
                raise missing
            if uuid not in served:
                raise PreconditionFailed(
                    f"{field}: L3 network {uuid} does not have the service SecurityGroup",
                    field=field,
                    l3NetworkUuid=str(uuid),
                )
        if not await security_groups.attach(connection, request.security_group_uuid, set(request.l3_network_uuids)):
            return await security_groups.get(connection, request.security_group_uuid)
        return await self._updated(connection, request.security_group_uuid)

    async def detach(
        self, request: DetachSecurityGroup, connection: Connection, context: RequestContext
    ) -> SecurityGroupInventory:
        uuid = request.security_group_uuid
        await security_groups.lock(connection, uuid, field="securityGroupUuid")
        attached = await security_groups.lock_attached(connection, uuid, request.l3_network_uuids)
        if not attached:
            return await security_groups.get(connection, uuid)
        members = await security_groups.members_on(connection, uuid, attached)
        if members:
            raise InUse(
                f"NICs on these L3 networks are in security group {uuid}",
                field="l3NetworkUuids",
                nicUuids=[str(one) for one in members],
            )
        await security_groups.detach(connection, uuid, attached)
        return await self._updated(connection, uuid)

    async def _updated(self, connection: Connection, uuid: UUID) -> SecurityGroupInventory:
        group = await security_groups.touch(connection, uuid)
        await announce.event(connection, "securityGroup.updated", group)
        return group
