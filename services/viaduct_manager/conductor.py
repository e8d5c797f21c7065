"""Moves operations on: the shell around `model.moves`.

Every function here runs in a transaction that holds the lock on its operation (or has just created it), so that of all
managers one at a time moves it, and rows, commands and answers are committed together.
"""

from collections.abc import Sequence
from uuid import UUID

from viaduct_common.errors import DeadlineExceeded, HostUnreachable, ViaductError
from viaduct_common.messages.base import ErrorBody, ErrorReply
from viaduct_common.messages.host import HostInventory
from viaduct_common.messages.l2 import L2NetworkInventory
from viaduct_common.messages.operation import OperationFinished
from viaduct_common.postgres.idempotency import ok_reply
from viaduct_common.postgres.pool import Connection
from viaduct_manager import announce, answers, changes, peers
from viaduct_manager.model import moves
from viaduct_manager.model.moves import Move, next_move
from viaduct_manager.model.tunnels import Cidr
from viaduct_manager.model.vm_moves import VM_OPERATIONS
from viaduct_manager.store import (
    clusters,
    hosts,
    l2_networks,
    operations,
    realizations,
    revocations,
    service_marks,
    steps,
)
from viaduct_manager.store.operations import Operation
from viaduct_manager.store.realizations import Ordered
from viaduct_manager.store.steps import NewStep

# A rollback has to get through even when the operation's own time is up.
ROLLBACK_SECONDS = 30.0


async def advance(connection: Connection, operation_uuid: UUID) -> None:
    """Do whatever is to be done now, until the operation has to wait for a host or has ended."""
    while (operation := await operations.lock(connection, operation_uuid)) is not None:
        if operation.type in VM_OPERATIONS or operation.type == moves.AWAIT_SERVICES:
            return  # `VmWorker` sees to it, or `ServiceWaits`
        match next_move(operation.standing):
            case Move.WAIT:
                return
            case Move.REALIZE:
                await _realize(connection, operation, moves.REALIZE)
            case Move.RELEASE:
                await _release(connection, operation, moves.RELEASE)
            case Move.ROLL_BACK:
                await _roll_back(connection, operation)
            case Move.SUCCEED:
                await _succeed(connection, operation)
            case Move.FAIL:
                await _fail(connection, operation)


async def inquire(
    connection: Connection,
    operation: Operation,
    network: L2NetworkInventory,
    *,
    phase: str,
    action: str,
    host_states: dict[UUID, str],
    joining: UUID | None = None,
    cidr: Cidr | None = None,
) -> None:
    """Begin a phase of questions: ask every host that is connected; note the others as skipped.

    Args:
        joining: the cluster that the network would be attached to.
        cidr: of that attach.
    """
    asked = [host_uuid for host_uuid, state in host_states.items() if state == "connected"]
    ids = await announce.inquiries(
        connection,
        asked,
        network,
        action,
        lifetime_seconds=operation.seconds_left,
        operation_uuid=operation.uuid,
        forced=operation.forced,
        joining=joining,
        cidr=cidr,
    )
    begun = [
        NewStep(host_uuid, "pending" if host_uuid in ids else "skipped", ids.get(host_uuid))
        for host_uuid in host_states
    ]
    await steps.begin_phase(connection, operation.uuid, phase, begun)


async def skip_host(connection: Connection, host_uuid: UUID, reason: str) -> None:
    """A host went away, or into maintenance: whoever waits for it waits no longer; it converges when it returns."""
    error = HostUnreachable(reason, hostUuid=str(host_uuid)).to_body()
    for operation_uuid in sorted(await steps.of_host(connection, host_uuid)):
        operation = await operations.lock(connection, operation_uuid)
        if operation is not None:
            state = "failed" if operation.type in moves.OF_ONE_HOST else "skipped"
            await steps.end_step(connection, operation_uuid, host_uuid, state, error=error)
            await advance(connection, operation_uuid)


async def time_out(connection: Connection, operation_uuid: UUID) -> None:
    """The deadline has passed: what was asked first has failed; what cleans up is left to convergence."""
    operation = await operations.lock(connection, operation_uuid)
    if operation is None or operation.seconds_left > 0:
        return
    cleaning = operation.phase in {moves.SERVICES, moves.RELEASE, moves.ROLLBACK}
    error = DeadlineExceeded("the host did not answer within the operation's time").to_body()
    await steps.end_all_steps(connection, operation_uuid, "skipped" if cleaning else "failed", error)
    await advance(connection, operation_uuid)


# ---- phases ------------------------------------------------------------------------------------------------------


async def _realize(connection: Connection, operation: Operation, phase: str) -> None:
    if operation.type in moves.CHANGES:
        await _order(connection, operation, phase, await changes.apply(connection, operation))
        return
    l2_uuid, cluster_uuid = _subject(operation)
    await clusters.lock(connection, cluster_uuid)
    ordered = await realizations.desire_on_cluster(connection, l2_uuid, cluster_uuid)
    await _order(connection, operation, phase, ordered)


async def release_host(connection: Connection, operation: Operation, host: HostInventory) -> None:
    """A host that is removed releases all that it has, if it is there."""
    asked = []
    if host.state == "connected":
        asked = [
            NewStep(host.uuid, "pending", await announce.sync(connection, host.uuid, operation_uuid=operation.uuid))
        ]
    await steps.begin_phase(connection, operation.uuid, moves.RELEASE, asked)


async def _release(connection: Connection, operation: Operation, phase: str) -> None:
    if operation.type == moves.DELETE_HOST and operation.host_uuid is not None:
        await release_host(connection, operation, await hosts.get(connection, operation.host_uuid))
        return
    l2_uuid, cluster_uuid = _subject(operation)
    await clusters.lock(connection, cluster_uuid)
    ordered = await realizations.undesire_on_cluster(connection, l2_uuid, cluster_uuid, forced=operation.forced)
    await _order(connection, operation, phase, ordered)
    await _release_of_accounts(connection, operation)


async def _order(connection: Connection, operation: Operation, phase: str, ordered: Sequence[Ordered]) -> None:
    ids = await announce.orders(
        connection, ordered, lifetime_seconds=operation.seconds_left, operation_uuid=operation.uuid
    )
    begun = [
        NewStep(
            order.host_uuid,
            "pending" if order.reachable else "skipped",
            ids.get(order.host_uuid),
            order.generation,
        )
        for order in ordered
    ]
    await steps.begin_phase(connection, operation.uuid, phase, begun)
    if operation.l2_uuid is not None:
        await peers.mark_stale(connection, [operation.l2_uuid], at_once=True)


async def _release_of_accounts(connection: Connection, operation: Operation) -> None:
    """What accounts still have there of a network with a VNI range goes with it: only a forced detach comes here with
    any. Nobody waits for it, convergence does it."""
    l2_uuid, cluster_uuid = _subject(operation)
    for child_uuid in await l2_networks.of_accounts(connection, l2_uuid, cluster_uuid):
        ordered = await realizations.undesire_on_cluster(connection, child_uuid, cluster_uuid, forced=operation.forced)
        await announce.orders(connection, ordered)
        await peers.mark_stale(connection, [child_uuid], at_once=True)


async def _roll_back(connection: Connection, operation: Operation) -> None:
    await operations.set_error(connection, operation.uuid, await _first_error(connection, operation))
    await operations.extend_deadline(connection, operation.uuid, ROLLBACK_SECONDS)
    if operation.type in moves.CHANGES:
        await _order(connection, operation, moves.ROLLBACK, await changes.revert(connection, operation))
        return
    l2_uuid, cluster_uuid = _subject(operation)
    if operation.type == moves.ATTACH:
        await l2_networks.set_attachment(connection, l2_uuid, cluster_uuid, "undoing", operation.uuid)
        await _release(connection, operation, moves.ROLLBACK)
    else:
        await l2_networks.set_attachment(connection, l2_uuid, cluster_uuid, "attached", operation.uuid)
        await _realize(connection, operation, moves.ROLLBACK)


# ---- ends --------------------------------------------------------------------------------------------------------


async def _succeed(connection: Connection, operation: Operation) -> None:
    deleted_host = None
    if operation.type == moves.ATTACH:
        l2_uuid, cluster_uuid = _subject(operation)
        await l2_networks.set_attachment(connection, l2_uuid, cluster_uuid, "attached", None)
        await announce.event(connection, "l2.attached", await l2_networks.get(connection, l2_uuid))
    elif operation.type == moves.DETACH:
        l2_uuid, cluster_uuid = _subject(operation)
        await l2_networks.remove_attachment(connection, l2_uuid, cluster_uuid)
        await announce.event(connection, "l2.detached", await l2_networks.get(connection, l2_uuid))
    elif operation.type in moves.CHANGES:
        await changes.close(connection, operation, changed=True)
    elif operation.type == moves.DELETE_HOST and operation.host_uuid is not None:
        deleted_host = await hosts.find_locked(connection, operation.host_uuid)
        if deleted_host is not None:  # None: another request removed it first
            await service_marks.mark_of_host(connection, operation.host_uuid)
            await hosts.delete(connection, operation.host_uuid)
            await revocations.add(connection, operation.host_uuid)
            await announce.event(connection, "host.deleted", deleted_host)
    # The inquiries' answer is made of the steps of the phase that ends now.
    value = await answers.value_of(connection, operation, deleted_host)
    await operations.finish(connection, operation.uuid, "succeeded", None)
    if value is None and operation.type != moves.DELETE_HOST:
        value = await operations.get(connection, operation.uuid)
    await tell(connection, operation, ok_reply(value))


async def _fail(connection: Connection, operation: Operation) -> None:
    error = operation.error or await _first_error(connection, operation)
    if operation.type in moves.CHANGES:
        await changes.close(connection, operation, changed=False)
    elif operation.type in {moves.ATTACH, moves.DETACH}:
        await _fail_attachment(connection, operation)
    await operations.finish(connection, operation.uuid, "failed", error)
    inventory = await operations.get(connection, operation.uuid)
    await tell(connection, operation, ErrorReply(error=answers.with_operation(error, inventory)).to_json())


async def _fail_attachment(connection: Connection, operation: Operation) -> None:
    l2_uuid, cluster_uuid = _subject(operation)
    await clusters.lock(connection, cluster_uuid)  # or a host that joins just now is wanted for ever, or never
    if operation.type == moves.DETACH:
        # Whoever joined while it was on its way out has to have it after all.
        await l2_networks.set_attachment(connection, l2_uuid, cluster_uuid, "attached", None)
        await announce.orders(connection, await realizations.desire_on_cluster(connection, l2_uuid, cluster_uuid))
    elif operation.phase == moves.REALIZE:  # on_failure = keep
        await l2_networks.set_attachment(connection, l2_uuid, cluster_uuid, "degraded", None)
    else:
        if operation.phase == moves.PREFLIGHT:
            # Only a host that joined meanwhile can have been told.
            orphans = await realizations.undesire_on_cluster(connection, l2_uuid, cluster_uuid)
            await announce.orders(connection, orphans)
        await l2_networks.remove_attachment(connection, l2_uuid, cluster_uuid)
    await peers.mark_stale(connection, [l2_uuid], at_once=True)


async def tell(connection: Connection, operation: Operation, answer: bytes) -> None:
    """The operation has ended: keep the answer, give it to all who wait, and tell the world."""
    # The order matters: a repeated request either finds the answer, or was noted as a waiter before this.
    await operations.store_answer(connection, operation.uuid, answer)
    await announce.answer(connection, await operations.take_waiters(connection, operation.uuid), answer)
    if operation.type not in moves.INQUIRIES:
        finished = OperationFinished(operation=await operations.get(connection, operation.uuid))
        await announce.event(connection, finished.message_type, finished)


async def _first_error(connection: Connection, operation: Operation) -> ErrorBody:
    found = await steps.first_failure(connection, operation.uuid)
    if found is None:
        return ViaductError("the operation failed without a failing host").to_body()
    host_uuid, error = found
    return error.model_copy(update={"details": {**error.details, "hostUuid": str(host_uuid)}})


def _subject(operation: Operation) -> tuple[UUID, UUID]:
    if operation.l2_uuid is None or operation.cluster_uuid is None:
        raise ValueError(f"operation {operation.uuid} ({operation.type}) has no L2 network or cluster")
    return operation.l2_uuid, operation.cluster_uuid
