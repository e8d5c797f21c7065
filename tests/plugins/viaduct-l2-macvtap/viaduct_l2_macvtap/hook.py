"""The manager's say when a VM comes: no more NICs on a host than its physical interface has room for."""

from viaduct_common.errors import Exhausted
from viaduct_common.postgres.pool import Connection
from viaduct_l2_macvtap.fields import L2_MACVTAP
from viaduct_manager.vm_hooks.api import VmPlan, VmRelease

# Another VM's NIC that is on its way to the host counts as well.
_OTHERS = """
    SELECT count(*) FROM nic
    WHERE l2_uuid = $1 AND (host_uuid = $2 OR migrating_to_host_uuid = $2) AND uuid <> ALL ($3::uuid[])
"""


class MacvtapRoom:
    """Implements `viaduct_manager.vm_hooks.api.VmNetworkHook`."""

    name: str = "macvtap-room"

    async def pre_before_instantiate(self, plan: VmPlan, connection: Connection) -> None:
        """The host is locked, so that of two VMs at once the second counts the first.

        Raises:
            Exhausted: the VM is not made here; its NICs, addresses and networks are as they were.
        """
        for network in plan.networks.values():
            room = network.own_fields()["maxNicsPerHost"] if network.type == L2_MACVTAP else None
            if room is None:
                continue
            planned = [nic.uuid for nic in plan.nics if nic.l2_uuid == network.uuid]
            others: int = await connection.fetchval(_OTHERS, network.uuid, plan.host.uuid, planned)
            if others + len(planned) > room:
                raise Exhausted(
                    f"{plan.host.name} has room for {room} NICs of L2 network {network.name}",
                    l2NetworkUuid=str(network.uuid),
                    hostUuid=str(plan.host.uuid),
                    maxNicsPerHost=room,
                )

    async def pre_instantiate(self, plan: VmPlan, connection: Connection) -> VmPlan:
        """Nothing more than what was asked for."""
        return plan

    async def pre_release(self, release: VmRelease, connection: Connection) -> None:
        """Nothing is kept that would have to be given back."""
