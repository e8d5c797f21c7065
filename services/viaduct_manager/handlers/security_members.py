"""`securityGroup.addNics`, `removeNics`; `nic.getSecurityPolicy`, `setSecurityPolicy`.

Locked are, in this order for all: the L3 networks, the NICs, the group.
"""

from uuid import UUID

from viaduct_common.bus import RequestContext
from viaduct_common.errors import NotFound
from viaduct_common.messages.services.security_groups import (
    AddNicsToSecurityGroup,
    GetNicSecurityPolicy,
    NicSecurityPolicy,
    RemoveNicsFromSecurityGroup,
    SecurityGroupInventory,
    SetNicSecurityPolicy,
)
from viaduct_common.postgres.pool import Connection
from viaduct_manager import announce
from viaduct_manager.model.security_membership import Joining, refuse_joining
from viaduct_manager.network_services.api import Change
from viaduct_manager.network_services.registry import NetworkServices
from viaduct_manager.store import security_groups, security_members


class SecurityMemberHandlers:
    def __init__(self, services: NetworkServices) -> None:
        self._services = services

    async def add(
        self, request: AddNicsToSecurityGroup, connection: Connection, context: RequestContext
    ) -> SecurityGroupInventory:
        uuid = request.security_group_uuid
        nics = await security_members.lock_nics(connection, request.nic_uuids)
        grounds = await security_members.hold_grounds(connection, [uuid], {nic.l3_uuid for nic in nics.values()})
        if uuid not in grounds.groups:
            raise _missing(security_groups.KIND, uuid, "securityGroupUuid")
        joining: dict[UUID, Joining] = {}
        for index, nic_uuid in enumerate(request.nic_uuids):
            nic = nics.get(nic_uuid)
            if nic is None:
                raise _missing("NIC", nic_uuid, f"nicUuids.{index}")
            if uuid not in nic.groups:
                field = f"nicUuids.{index}"
                joining[nic_uuid] = Joining(nic_uuid, nic.l3_uuid, uuid, field, len(nic.groups))
        if not joining:
            return await security_groups.get(connection, uuid)
        refuse_joining(joining.values(), grounds)
        await security_members.add(
            connection, [(one.nic_uuid, one.group_uuid, one.l3_uuid) for one in joining.values()]
        )
        await self._services.changed(connection, Change(nic_uuids=frozenset(joining)))
        return await _updated(connection, uuid)

    async def remove(
        self, request: RemoveNicsFromSecurityGroup, connection: Connection, context: RequestContext
    ) -> SecurityGroupInventory:
        uuid = request.security_group_uuid
        nics = await security_members.lock_nics(connection, request.nic_uuids)
        if not await security_groups.hold(connection, [uuid]):
            raise _missing(security_groups.KIND, uuid, "securityGroupUuid")
        leaving = frozenset(await security_members.present(connection, uuid, nics))
        if not leaving:
            return await security_groups.get(connection, uuid)
        await self._services.changed(connection, Change(nic_uuids=leaving))  # while it can be seen of what they were
        await security_members.remove(connection, uuid, leaving)
        return await _updated(connection, uuid)

    async def get_policy(
        self, request: GetNicSecurityPolicy, connection: Connection, context: RequestContext
    ) -> NicSecurityPolicy:
        return await _policy(connection, request.nic_uuid)

    async def set_policy(
        self, request: SetNicSecurityPolicy, connection: Connection, context: RequestContext
    ) -> NicSecurityPolicy:
        if request.nic_uuid not in await security_members.lock_nics(connection, [request.nic_uuid]):
            raise _missing("NIC", request.nic_uuid, "nicUuid")
        before = await _policy(connection, request.nic_uuid)
        await security_members.set_policy(connection, request)
        policy = await _policy(connection, request.nic_uuid)
        if policy != before:
            # The NIC's uuid as a subject: of its groups nothing changes.
            await self._services.changed(connection, Change(subjects=frozenset({request.nic_uuid})))
            await announce.event(connection, "nic.securityPolicyChanged", policy)
        return policy


async def _updated(connection: Connection, uuid: UUID) -> SecurityGroupInventory:
    """Who is in it is no part of a group, so its revision stays; whoever listens hears that something changed."""
    group = await security_groups.get(connection, uuid)
    await announce.event(connection, "securityGroup.updated", group)
    return group


async def _policy(connection: Connection, nic_uuid: UUID) -> NicSecurityPolicy:
    found = await security_members.policy(connection, nic_uuid)
    if found is None:
        raise _missing("NIC", nic_uuid, "nicUuid")
    return found


def _missing(kind: str, uuid: UUID, field: str) -> NotFound:
    missing = NotFound.of(kind, uuid)
    missing.details["field"] = field
    return missing
