"""`vm.prepareNetworks`, `.releaseNetworks`, `.migrateNetworks`: record the intent; `VmWorker` does the rest."""

from dataclasses import replace
from typing import Any
from uuid import UUID

from viaduct_common.bus import RequestContext
from viaduct_common.errors import Conflict, InvalidRequest, NotFound
from viaduct_common.messages.host import HostInventory
from viaduct_common.messages.vm import MigrateVmNetworks, PrepareVmNetworks, ReleaseVmNetworks
from viaduct_common.postgres.idempotency import Pending
from viaduct_common.postgres.pool import Connection
from viaduct_manager import announce, peers, vm_departures, vm_sites
from viaduct_manager.handlers.new import fresh_uuid
from viaduct_manager.handlers.vm_plans import candidates, held, new_nic, planned_nics, refuse_disabled, require_same_vm
from viaduct_manager.model import vm_moves
from viaduct_manager.model.macs import derived_mac
from viaduct_manager.model.migration import Migration, decide_migration
from viaduct_manager.model.nic_defaults import choose_default
from viaduct_manager.model.nic_matching import free_indexes, match
from viaduct_manager.nic_inventories import NicInventories
from viaduct_manager.store import nic_addresses, nics, steps, vm_networks, vm_operations
from viaduct_manager.store.nics import MAC_ATTEMPTS, NewNic, Nic
from viaduct_manager.store.operations import Operation
from viaduct_manager.store.steps import NewStep
from viaduct_manager.vm_conductor import VmConductor
from viaduct_manager.vm_hooks.api import PlannedNic, VmPlan, VmRelease
from viaduct_manager.vm_hooks.registry import VmHooks


class VmNetworkHandlers:
    def __init__(self, inventories: NicInventories, hooks: VmHooks, conductor: VmConductor) -> None:
        self._inventories = inventories
        self._hooks = hooks
        self._conductor = conductor

    async def prepare(self, request: PrepareVmNetworks, connection: Connection, context: RequestContext) -> Any:
        wanted = planned_nics(request, context)
        await vm_operations.lock_vm(connection, request.vm_uuid)
        has = [nic for nic in await nics.of_vm(connection, request.vm_uuid) if nic.state != "releasing"]
        require_same_vm(request, has)
        found = match([(one, nic.ips) for one, nic in zip(request.nics, wanted, strict=True)], list(map(held, has)))
        missing = [nic for nic, uuid in zip(wanted, found, strict=True) if uuid is None]
        answered = [uuid or nic.uuid for nic, uuid in zip(wanted, found, strict=True)]
        indexes = free_indexes([nic.device_index for nic in has], len(missing))
        default = choose_default(request.default_l3_network_uuid, candidates(has, missing, indexes))
        if not missing:
            await self._set_default(connection, has, default)
            return self._inventories.of_all(await nics.get(connection, answered))
        _require_deferral(context)
        site = await vm_sites.enter(connection, request.host_uuid, [nic.l3_uuid for nic in wanted])
        plan = VmPlan(
            reason="prepare",
            vm_uuid=request.vm_uuid,
            account_uuid=request.account_uuid,
            host=site.host,
            nics=tuple(replace(nic, l2_uuid=site.l2_by_l3[nic.l3_uuid]) for nic in missing),
            networks=site.networks,
        )
        refuse_disabled(missing, site)
        plan = await self._hooks.plan(plan, connection)
        for nic in plan.nics:
            if nic.security_group_uuids:
                raise InvalidRequest.of_field(f"{nic.place}.securityGroupUuids", "nobody here keeps security groups")
        operation = await self._begin(connection, context, request, type_=vm_moves.PREPARE, answered=answered)
        names = {nic.uuid: one.host_name for nic, one in zip(wanted, request.nics, strict=True)}
        await self._set_default(connection, has, default)
        for index, nic in zip(indexes, plan.nics, strict=True):
            new = new_nic(plan, nic, index, operation.uuid, names[nic.uuid], default=nic.uuid == default)
            await _record(connection, nic, new)
        await self._realize(connection, operation, site.host, [nic.l2_uuid for nic in plan.nics])
        return Pending(operation.uuid)

    async def release(self, request: ReleaseVmNetworks, connection: Connection, context: RequestContext) -> Any:
        await vm_operations.lock_vm(connection, request.vm_uuid)
        named = None if request.nic_uuids is None else set(request.nic_uuids)
        leaving = [nic for nic in await nics.of_vm(connection, request.vm_uuid) if named is None or nic.uuid in named]
        if not leaving:
            return []
        _require_deferral(context)
        released = self._inventories.of_all(leaving)
        for host_uuid in sorted({nic.host_uuid for nic in leaving}):
            there = tuple(one for one in released if one.host_uuid == host_uuid)
            await self._hooks.before_release(VmRelease("release", request.vm_uuid, host_uuid, there), connection)
        uuids = [nic.uuid for nic in leaving]
        operation = await vm_operations.create(
            connection,
            fresh_uuid(None, context, "operation"),
            vm_moves.RELEASE_NICS,
            vm_uuid=request.vm_uuid,
            host_uuid=leaving[0].host_uuid,
            phase=vm_moves.RELEASE,
            timeout_seconds=request.timeout_seconds,
            nic_uuids=uuids,
            released=[one.model_dump(mode="json") for one in released],
        )
        await nic_addresses.release(connection, uuids, operation.uuid)
        staying = set(await nics.heal_default(connection, request.vm_uuid))
        await self._conductor.tell_services(connection, leaving)
        if staying:
            await self._conductor.tell_services(connection, await nics.get(connection, sorted(staying)))
        await vm_departures.leave(connection, vm_departures.places(leaving))
        return Pending(operation.uuid)

    async def migrate(self, request: MigrateVmNetworks, connection: Connection, context: RequestContext) -> Any:
        await vm_operations.lock_vm(connection, request.vm_uuid)
        moving = [nic for nic in await nics.of_vm(connection, request.vm_uuid) if nic.state == "ready"]
        if not moving:
            raise NotFound(f"VM {request.vm_uuid} has no NIC", kind="VM", uuid=str(request.vm_uuid))
        uuids = [nic.uuid for nic in moving]
        what = decide_migration(
            request.action,
            at=moving[0].host_uuid,
            moving_to=moving[0].migrating_to_host_uuid,
            destination=request.host_uuid,
        )
        match what:
            case Migration.ANSWER:
                begun = request.action == "begin"
                return self._inventories.of_all(await nics.get(connection, uuids, at_destination=begun))
            case Migration.FINISH:
                return await self._conductor.move(connection, uuids)
            case Migration.ABORT:
                await self._conductor.stay(connection, moving)
                return self._inventories.of_all(await nics.get(connection, uuids))
        _require_deferral(context)
        return await self._begin_migration(request, connection, context, moving)

    async def _begin_migration(
        self, request: MigrateVmNetworks, connection: Connection, context: RequestContext, moving: list[Nic]
    ) -> Pending:
        site = await vm_sites.enter(connection, request.host_uuid, [nic.l3_uuid for nic in moving])
        planned = tuple(
            PlannedNic(
                uuid=nic.uuid,
                place=f"nics.{nic.device_index}",
                l3_uuid=nic.l3_uuid,
                l2_uuid=nic.l2_uuid,
                mac=nic.mac,
                ips=tuple(one.ip for one in nic.ips),
            )
            for nic in moving
        )
        plan = VmPlan("migrate", request.vm_uuid, moving[0].account_uuid, site.host, planned, site.networks)
        plan = await self._hooks.plan(plan, connection)
        uuids = [nic.uuid for nic in moving]
        operation = await self._begin(
            connection, context, request, type_=vm_moves.MIGRATE, answered=uuids, action=request.action
        )
        await nics.begin_migration(connection, uuids, request.host_uuid, operation.uuid)
        l2_uuids = [nic.l2_uuid for nic in plan.nics]
        await self._realize(connection, operation, site.host, l2_uuids)
        return Pending(operation.uuid)

    # ---- parts ---------------------------------------------------------------------------------------------------

    async def _set_default(self, connection: Connection, has: list[Nic], default: UUID) -> None:
        """Of the NICs that the VM has already this one, or none, carries its default route from here on."""
        if all(nic.default == (nic.uuid == default) for nic in has):
            return
        await nics.set_default(connection, has[0].vm_uuid, default)
        await self._conductor.tell_services(connection, has)

    async def _begin(
        self,
        connection: Connection,
        context: RequestContext,
        request: PrepareVmNetworks | MigrateVmNetworks,
        *,
        type_: str,
        answered: list[UUID],
        action: str | None = None,
    ) -> Operation:
        return await vm_operations.create(
            connection,
            fresh_uuid(None, context, "operation"),
            type_,
            vm_uuid=request.vm_uuid,
            host_uuid=request.host_uuid,
            phase=vm_moves.REALIZE,
            timeout_seconds=request.timeout_seconds,
            nic_uuids=answered,
            action=action,
        )

    async def _realize(
        self, connection: Connection, operation: Operation, host: HostInventory, l2_uuids: list[UUID]
    ) -> None:
        """Order what the host has not; what it is doing already is waited for as well."""
        ordered = await vm_networks.desire(connection, host.uuid, list(set(l2_uuids)))
        ids = await announce.orders(
            connection, ordered, lifetime_seconds=operation.seconds_left, operation_uuid=operation.uuid
        )
        await peers.mark_stale(connection, [order.l2_uuid for order in ordered], at_once=True)
        step = NewStep(host.uuid, "pending", ids.get(host.uuid))
        await steps.begin_phase(connection, operation.uuid, vm_moves.REALIZE, [step])


async def _record(connection: Connection, nic: PlannedNic, new: NewNic) -> None:
    """Raises:
    Conflict: the MAC that it must have is another NIC's on this L2 network, or its host name on the L3 network.
    """
    macs = [nic.mac] if nic.mac else [derived_mac(nic.uuid, attempt) for attempt in range(MAC_ATTEMPTS)]
    try:
        given = await nics.add(connection, new, macs)
    except Conflict as error:
        if "hostName" in error.details:
            error.details["field"] = f"{nic.place}.hostName"
        raise
    if given is None:
        raise Conflict(
            f"{nic.place}.mac: {macs[0]} is another NIC's on this L2 network",
            field=f"{nic.place}.mac",
            mac=macs[0],
            l2NetworkUuid=str(nic.l2_uuid),
        )


def _require_deferral(context: RequestContext) -> None:
    """Raises:
    InvalidRequest: inside a batch, where nothing can be waited for.
    """
    if not context.may_defer:
        raise InvalidRequest.of_field("type", "VMs' networks cannot be prepared, released or moved inside a batch")
