"""What a request for a VM's networks comes to: the NICs that it asks for, and what stands against them."""

from uuid import UUID

from viaduct_common import naming
from viaduct_common.bus import RequestContext
from viaduct_common.errors import Conflict, PreconditionFailed
from viaduct_common.messages.vm import PrepareVmNetworks
from viaduct_manager.handlers.new import fresh_uuid
from viaduct_manager.model.nic_defaults import Candidate
from viaduct_manager.model.nic_matching import HeldNic, required_ips
from viaduct_manager.store.nics import NewNic, Nic
from viaduct_manager.vm_hooks.api import PlannedNic, VmPlan
from viaduct_manager.vm_sites import Site


def planned_nics(request: PrepareVmNetworks, context: RequestContext) -> list[PlannedNic]:
    """The NICs that are asked for, in order; their L2 networks are yet to be found.

    Raises:
        InvalidRequest: one contradicts itself.
    """
    planned = []
    for index, one in enumerate(request.nics):
        place = f"nics.{index}"
        planned.append(
            PlannedNic(
                uuid=fresh_uuid(None, context, f"nic {index}"),
                place=place,
                l3_uuid=one.l3_network_uuid,
                l2_uuid=one.l3_network_uuid,
                mac=one.mac,
                ips=tuple(required_ips(one, place)),
                security_group_uuids=tuple(dict.fromkeys(one.security_group_uuids)),
            )
        )
    return planned


def candidates(has: list[Nic], missing: list[PlannedNic], indexes: list[int]) -> list[Candidate]:
    """All NICs that the VM is to have, in the order of their places; `indexes` are those of the new ones."""
    places = [(nic.device_index, Candidate(nic.uuid, nic.l3_uuid, nic.default)) for nic in has]
    places += [(index, Candidate(nic.uuid, nic.l3_uuid)) for index, nic in zip(indexes, missing, strict=True)]
    return [one for _, one in sorted(places, key=lambda place: place[0])]


def refuse_disabled(missing: list[PlannedNic], site: Site) -> None:
    """Raises:
    PreconditionFailed: an L3 network gets no new NIC.
    """
    for nic in missing:
        if nic.l3_uuid in site.disabled:
            raise PreconditionFailed(
                f"{nic.place}.l3NetworkUuid: L3 network {nic.l3_uuid} is disabled",
                field=f"{nic.place}.l3NetworkUuid",
                l3NetworkUuid=str(nic.l3_uuid),
            )


def require_same_vm(request: PrepareVmNetworks, has: list[Nic]) -> None:
    """Raises:
    Conflict: the VM has NICs on another host, or of another account; or it is being moved.
    """
    for nic in has:
        if nic.host_uuid != request.host_uuid:
            raise Conflict(
                f"VM {request.vm_uuid} has NICs on host {nic.host_uuid}: move them by vm.migrateNetworks",
                field="hostUuid",
                hostUuid=str(nic.host_uuid),
                nicUuids=[str(one.uuid) for one in has],
            )
        if nic.migrating_to_host_uuid is not None:
            raise Conflict(
                f"VM {request.vm_uuid} is being moved: finish or abort that first",
                field="vmUuid",
                migratingToHostUuid=str(nic.migrating_to_host_uuid),
            )
        if nic.account_uuid != request.account_uuid:
            raise Conflict(
                f"VM {request.vm_uuid} has NICs of account {nic.account_uuid}",
                field="accountUuid",
                accountUuid=str(nic.account_uuid),
            )


def new_nic(
    plan: VmPlan, nic: PlannedNic, index: int, operation_uuid: UUID, host_name: str | None, *, default: bool
) -> NewNic:
    return NewNic(
        uuid=nic.uuid,
        vm_uuid=plan.vm_uuid,
        host_uuid=plan.host.uuid,
        account_uuid=plan.account_uuid,
        l3_uuid=nic.l3_uuid,
        l2_uuid=nic.l2_uuid,
        device_index=index,
        device_name=naming.nic_device_name(nic.uuid),
        operation_uuid=operation_uuid,
        required_ips=nic.ips,
        default=default,
        host_name=host_name,
    )


def held(nic: Nic) -> HeldNic:
    return HeldNic(nic.uuid, nic.l3_uuid, nic.device_index, nic.mac, frozenset(one.ip for one in nic.ips))
