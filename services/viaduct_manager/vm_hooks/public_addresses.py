"""NICs that go leave their EIPs and forwarded ports behind; those that move keep them."""

from viaduct_common.errors import PreconditionFailed
from viaduct_common.postgres.pool import Connection
from viaduct_manager import announce
from viaduct_manager.store import eips, port_forwardings, target_nics
from viaduct_manager.vm_hooks.api import VmPlan, VmRelease


class PublicAddresses:
    """Built in, and registered as any other hook. Whoever releases NICs tells the network services of them."""

    name: str = "public-addresses"

    async def pre_before_instantiate(self, plan: VmPlan, connection: Connection) -> None:
        """Raises:
        PreconditionFailed: a NIC is to move where its EIP is not to be had.
        """
        if plan.reason != "migrate":
            return
        lacking = await eips.lacking_on(connection, [nic.uuid for nic in plan.nics], plan.host.cluster_uuid)
        if lacking:
            raise PreconditionFailed(
                f"the cluster of host {plan.host.name} does not have the L2 networks of the VM's EIPs",
                field="hostUuid",
                eipUuids=sorted(str(uuid) for uuid in lacking),
                l2NetworkUuids=sorted({str(uuid) for uuid in lacking.values()}),
            )

    async def pre_instantiate(self, plan: VmPlan, connection: Connection) -> VmPlan:
        """A NIC has none before it is ready."""
        return plan

    async def pre_release(self, release: VmRelease, connection: Connection) -> None:
        if release.reason != "release":
            return
        uuids = [nic.uuid for nic in release.nics]
        await target_nics.lock(connection, uuids)
        for eip in await eips.leave_nics(connection, uuids):
            await announce.event(connection, "eip.updated", eip)
        for rule in await port_forwardings.leave_nics(connection, uuids):
            await announce.event(connection, "portForwarding.updated", rule)
