"""NICs of a VM are in their security groups before the VM is made: so they are never without their rules."""

from dataclasses import replace

from viaduct_common.postgres.pool import Connection
from viaduct_manager.model.security_membership import Joining, refuse_joining
from viaduct_manager.store import security_members
from viaduct_manager.vm_hooks.api import VmPlan, VmRelease


class SecurityGroups:
    """Built in, and registered as any other hook."""

    name: str = "security-groups"

    async def pre_before_instantiate(self, plan: VmPlan, connection: Connection) -> None:
        """Raises:
        NotFound: there is no such group.
        PreconditionFailed: the L3 network does not have the service, or the group is not attached to it.
        """
        joining = _joining(plan)
        if joining:
            grounds = await security_members.hold_grounds(
                connection, {one.group_uuid for one in joining}, {one.l3_uuid for one in joining}
            )
            refuse_joining(joining, grounds)

    async def pre_instantiate(self, plan: VmPlan, connection: Connection) -> VmPlan:
        joining = _joining(plan)
        if not joining:
            return plan
        await security_members.add(connection, [(one.nic_uuid, one.group_uuid, one.l3_uuid) for one in joining])
        return replace(plan, nics=tuple(replace(nic, security_group_uuids=()) for nic in plan.nics))

    async def pre_release(self, release: VmRelease, connection: Connection) -> None:
        """What is being released counts no more, and its memberships go with it."""


def _joining(plan: VmPlan) -> list[Joining]:
    return [
        Joining(nic.uuid, nic.l3_uuid, group_uuid, f"{nic.place}.securityGroupUuids", others)
        for nic in plan.nics
        for others, group_uuid in enumerate(nic.security_group_uuids)
    ]
