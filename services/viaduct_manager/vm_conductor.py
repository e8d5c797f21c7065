"""Moves operations about VMs' networks on: the shell around `model.vm_moves`.

As in `conductor`, everything runs in a transaction that holds the lock on its operation.
"""

from collections import defaultdict
from collections.abc import Iterable
from uuid import UUID

from viaduct_common.errors import DeadlineExceeded, PreconditionFailed, ViaductError
from viaduct_common.messages.base import ErrorBody, ErrorReply
from viaduct_common.messages.vm import NicInventory
from viaduct_common.postgres.idempotency import ok_reply
from viaduct_common.postgres.pool import Connection
from viaduct_manager import announce, answers, conductor, peers, vm_departures
from viaduct_manager.l2_types.registry import L2Types
from viaduct_manager.model import vm_moves
from viaduct_manager.model.vm_moves import VmMove, VmStanding, next_move
from viaduct_manager.network_services.api import Change
from viaduct_manager.network_services.registry import Marked, NetworkServices
from viaduct_manager.nic_inventories import NicInventories
from viaduct_manager.store import (
    l3_services,
    nic_addresses,
    nics,
    operations,
    service_waits,
    steps,
    vm_networks,
    vm_operations,
)
from viaduct_manager.store.nics import Nic
from viaduct_manager.store.operations import Operation
from viaduct_manager.vm_hooks.api import VmRelease
from viaduct_manager.vm_hooks.registry import VmHooks

# As `conductor.ROLLBACK_SECONDS`: IPAM is given so much time, then it is told without anybody waiting.
ROLLBACK_SECONDS = 30.0


class VmConductor:
    def __init__(self, l2_types: L2Types, hooks: VmHooks, services: NetworkServices) -> None:
        self._inventories = NicInventories(l2_types)
        self._hooks = hooks
        self._services = services

    async def advance(self, connection: Connection, operation_uuid: UUID) -> None:
        """Do whatever is to be done now, until the operation has to wait or has ended."""
        while (operation := await operations.lock(connection, operation_uuid)) is not None:
            touched = await nics.of_operation(connection, operation_uuid)
            error = await self._trouble(connection, operation, touched)
            to_serve = False
            if operation.phase == vm_moves.SERVICES:
                served = await service_waits.look(connection, operation.uuid)
                to_serve, error = served.unsettled, served.trouble
            to_realize = await self._to_realize(connection, operation, touched)
            at = VmStanding(
                operation.type,
                operation.phase,
                overdue=operation.seconds_left <= 0,
                to_realize=to_realize,
                failed=error is not None,
                at_ipam=sum(nic.todo is not None for nic in touched),
                to_serve=to_serve,
            )
            match next_move(at):
                case VmMove.WAIT:
                    return
                case VmMove.ALLOCATE:
                    await self._realized(connection, operation)
                    await nic_addresses.allocate(connection, operation.uuid)
                    await steps.begin_phase(connection, operation.uuid, vm_moves.ALLOCATE, [])
                case VmMove.SERVE:
                    if not await self._serve(connection, operation, touched):
                        await self._succeed(connection, operation, touched)
                case VmMove.UNDO:
                    await self._undo(connection, operation, touched, error or _overdue(operation.phase))
                case VmMove.SUCCEED:
                    await self._succeed(connection, operation, touched)
                case VmMove.FAIL:
                    await self._fail(connection, operation, operation.error or _overdue(operation.phase))

    async def move(self, connection: Connection, uuids: list[UUID]) -> list[NicInventory]:
        """The destination is theirs from here on; the source gives up what it had for their sake."""
        before = await nics.get(connection, uuids)
        for host_uuid in sorted({nic.host_uuid for nic in before}):
            leaving = tuple(self._inventories.of(nic) for nic in before if nic.host_uuid == host_uuid)
            release = VmRelease("migrate", before[0].vm_uuid, host_uuid, leaving)
            await self._hooks.before_release(release, connection)
        await nics.move(connection, uuids)
        sources = {nic.host_uuid: {one.l2_uuid for one in before if one.host_uuid == nic.host_uuid} for nic in before}
        await self.tell_services(connection, before)
        await vm_departures.leave(connection, sources)
        moved = self._inventories.of_all(await nics.get(connection, uuids))
        for one in moved:
            await announce.event(connection, "nic.moved", one)
        return moved

    async def stay(self, connection: Connection, touched: list[Nic]) -> None:
        """They are not moved after all; the destination gives up what it had for their sake."""
        await nics.stay(connection, [nic.uuid for nic in touched])
        await self.tell_services(connection, touched)
        await vm_departures.leave(connection, vm_departures.destinations(touched))

    async def tell_services(self, connection: Connection, changed: Iterable[Nic]) -> None:
        """These NICs come, go or move in this transaction: whatever serves them has to follow.

        NICs of L3 networks without services cost one look, and none get services meanwhile.
        """
        nics_by_l3: dict[UUID, set[UUID]] = defaultdict(set)
        for nic in changed:
            nics_by_l3[nic.l3_uuid].add(nic.uuid)
        served = await l3_services.hold_served(connection, nics_by_l3.keys())
        if served:
            uuids = frozenset().union(*(nics_by_l3[uuid] for uuid in served))
            await self._services.changed(connection, Change(nic_uuids=uuids))

    # ---- where it stands -----------------------------------------------------------------------------------------

    async def _to_realize(self, connection: Connection, operation: Operation, touched: list[Nic]) -> int:
        """How many networks the host has yet to realise."""
        if operation.phase != vm_moves.REALIZE or operation.host_uuid is None:
            return 0
        there = await vm_networks.on_host(connection, operation.host_uuid, _l2_uuids(touched))
        return sum(one.state != "realized" for one in there)

    async def _trouble(self, connection: Connection, operation: Operation, touched: list[Nic]) -> ErrorBody | None:
        """Why the present phase cannot succeed; None while it can."""
        if operation.phase == vm_moves.REALIZE and operation.host_uuid is not None:
            for step in await steps.results(connection, operation.uuid, vm_moves.REALIZE):
                if step.state in {"failed", "skipped"}:
                    return step.error
            for one in await vm_networks.on_host(connection, operation.host_uuid, _l2_uuids(touched)):
                if one.state == "failed" or one.state is None:
                    error = one.error or PreconditionFailed("the network was detached meanwhile").to_body()
                    where = {"l2NetworkUuid": str(one.l2_uuid), "hostUuid": str(operation.host_uuid)}
                    return error.model_copy(update={"details": {**error.details, **where}})
        if operation.phase == vm_moves.ALLOCATE:
            for nic in touched:
                if nic.error is not None:
                    error = ErrorBody.model_validate(nic.error)
                    details = {"l3NetworkUuid": str(nic.l3_uuid), **error.details}
                    return error.model_copy(update={"details": details})
        return None

    # ---- moves ---------------------------------------------------------------------------------------------------

    async def _realized(self, connection: Connection, operation: Operation) -> None:
        if operation.host_uuid is not None:
            await steps.end_step(connection, operation.uuid, operation.host_uuid, "done")

    async def _serve(self, connection: Connection, operation: Operation, touched: list[Nic]) -> bool:
        """The NICs count for services from here on; true if the operation has to wait for these.

        What serves their networks was read after what counts of them was committed: whoever attaches services just now
        sees them.
        """
        served = frozenset(nic.uuid for nic in touched if nic.served)
        marked = await self._services.changed(connection, Change(nic_uuids=served)) if served else Marked()
        if not marked.service_uuids:
            return False
        await self._realized(connection, operation)
        await steps.begin_phase(connection, operation.uuid, vm_moves.SERVICES, [])
        await service_waits.add(connection, operation.uuid, marked.service_uuids, marked.last)
        return True

    async def _undo(self, connection: Connection, operation: Operation, touched: list[Nic], error: ErrorBody) -> None:
        await operations.set_error(connection, operation.uuid, error)
        await operations.extend_deadline(connection, operation.uuid, ROLLBACK_SECONDS)
        if operation.host_uuid is not None:
            await steps.end_step(connection, operation.uuid, operation.host_uuid, "failed", error=error)
        if operation.type == vm_moves.PREPARE:
            await nic_addresses.release(connection, [nic.uuid for nic in touched], operation.uuid)
            await nics.heal_default(connection, touched[0].vm_uuid)
            await self.tell_services(connection, touched)
            await vm_departures.leave(connection, vm_departures.places(touched))
        else:
            await self.stay(connection, touched)
        await steps.begin_phase(connection, operation.uuid, vm_moves.ROLLBACK, [])

    async def _succeed(self, connection: Connection, operation: Operation, touched: list[Nic]) -> None:
        uuids, released = await vm_operations.get(connection, operation.uuid)
        if operation.type == vm_moves.PREPARE:
            await nics.mark_ready(connection, operation.uuid)
            answer = self._inventories.of_all(await nics.get(connection, uuids))
            fresh = {nic.uuid for nic in touched}
            for one in answer:
                if one.uuid in fresh:
                    await announce.event(connection, "nic.prepared", one)
            await peers.mark_stale(connection, _l2_uuids(touched))
        elif operation.type == vm_moves.MIGRATE:
            await self._realized(connection, operation)
            await nics.end_operation(connection, operation.uuid)
            if operation.action == "begin":
                answer = self._inventories.of_all(await nics.get(connection, uuids, at_destination=True))
            else:
                answer = await self.move(connection, uuids)
        else:
            answer = [NicInventory.model_validate(one) for one in released or []]
            for one in answer:
                await announce.event(connection, "nic.released", one)
        await operations.finish(connection, operation.uuid, "succeeded", None)
        await conductor.tell(connection, operation, ok_reply(answer))

    async def _fail(self, connection: Connection, operation: Operation, error: ErrorBody) -> None:
        await nics.end_operation(connection, operation.uuid)
        await operations.finish(connection, operation.uuid, "failed", error)
        inventory = await operations.get(connection, operation.uuid)
        await conductor.tell(
            connection, operation, ErrorReply(error=answers.with_operation(error, inventory)).to_json()
        )


def _l2_uuids(touched: list[Nic]) -> list[UUID]:
    return sorted({nic.l2_uuid for nic in touched})


def _overdue(phase: str) -> ErrorBody:
    who = {vm_moves.REALIZE: "the host", vm_moves.SERVICES: "hosts with services of these NICs"}.get(phase, "IPAM")
    error: ViaductError = DeadlineExceeded(f"{who} did not answer within the operation's time")
    return error.to_body()
