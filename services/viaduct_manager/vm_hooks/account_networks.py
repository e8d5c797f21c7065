"""Networks with a VNI range: each account gets a VNI of its own, when its first VM comes.

What it gets is an L2 network of its own, which names the one that it is of in `parentUuid`. It is realised where the
account's VMs are, and given up with the last of their NICs.
"""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

from viaduct_common.errors import Exhausted
from viaduct_common.messages.l2 import L2_VXLAN, L2NetworkInventory
from viaduct_common.postgres.pool import Connection
from viaduct_manager.l2_types.vxlan import L2VxlanType
from viaduct_manager.store import account_networks, l2_networks
from viaduct_manager.vm_hooks.api import VmPlan, VmRelease

MAX_NAME = 255


class AccountNetworks:
    """Built in, and registered as any other hook."""

    name: str = "account-networks"

    def __init__(self) -> None:
        self._type = L2VxlanType()

    async def pre_before_instantiate(self, plan: VmPlan, connection: Connection) -> None:
        """No objection: whether a VNI is left is known when it is drawn."""

    async def pre_instantiate(self, plan: VmPlan, connection: Connection) -> VmPlan:
        """Raises:
        Exhausted: every VNI of the range is another account's, or is still being released somewhere.
        """
        of_account: dict[UUID, UUID] = {}
        # In one order for all, so that two VMs on the same two networks never wait for each other.
        for uuid in sorted({nic.l2_uuid for nic in plan.nics}):
            parent = plan.networks.get(uuid)
            if parent is not None and parent.type == L2_VXLAN and self._type.at_vm_time(parent.own_fields()):
                of_account[uuid] = await self._ensure(connection, parent, plan.account_uuid)
        nics = tuple(replace(nic, l2_uuid=of_account.get(nic.l2_uuid, nic.l2_uuid)) for nic in plan.nics)
        return replace(plan, nics=nics)

    async def pre_release(self, release: VmRelease, connection: Connection) -> None:
        """The VNI is kept until the last NIC on it is gone; that is seen to then."""

    async def _ensure(self, connection: Connection, parent: L2NetworkInventory, account_uuid: UUID) -> UUID:
        await account_networks.lock(connection, parent.uuid)
        former = await account_networks.find(connection, parent.uuid, account_uuid)
        if former is not None:
            return former
        vnis = parent.own_fields()["vniRange"]
        vni = await account_networks.free_vni(connection, parent.uuid, vnis["startVni"], vnis["endVni"])
        if vni is None:
            raise Exhausted(
                f"no VNI of L2 network {parent.name} is left", l2NetworkUuid=str(parent.uuid), vniRange=vnis
            )
        network = self._network(parent, account_uuid, vni)
        # Whether it is tunnelled is its parent's to say.
        await l2_networks.create(connection, network, tunnelled=False, at_vm_time=False)
        await account_networks.own(
            connection, network.uuid, parent_uuid=parent.uuid, account_uuid=account_uuid, vni=vni
        )
        return network.uuid

    def _network(self, parent: L2NetworkInventory, account_uuid: UUID, vni: int) -> L2NetworkInventory:
        own_fields = {**parent.own_fields(), "vniRange": None, "vni": vni}
        now = datetime.now(UTC)  # the row's own times replace it
        return L2NetworkInventory.model_validate(
            {
                "uuid": uuid4(),
                "name": f"{parent.name}/{account_uuid}"[-MAX_NAME:],
                "zone_uuid": parent.zone_uuid,
                "physical_interface": parent.physical_interface,
                "type": parent.type,
                "mtu": parent.mtu,
                "bridge_name": self._type.bridge_name(parent.physical_interface, own_fields),
                "device_names": self._type.device_names(parent.physical_interface, own_fields),
                "parent_uuid": parent.uuid,
                "owner_account_uuid": account_uuid,
                "created_at": now,
                "updated_at": now,
                **own_fields,
            }
        )
