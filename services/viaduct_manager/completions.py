"""What hosts say that they have done: noted in their realizations and in the steps of whoever waits, which go on."""

from uuid import UUID

import structlog

from viaduct_common.messages.agent import Completion, ItemResult, ListOrphansCommand, Outcome, SyncHostCommand
from viaduct_common.messages.base import ErrorBody
from viaduct_common.postgres.pool import Connection
from viaduct_manager import conductor
from viaduct_manager.model.retries import retry_after_seconds
from viaduct_manager.store import l2_networks, operations, realizations, steps
from viaduct_manager.store.operations import Operation

log = structlog.get_logger()


async def completed(connection: Connection, host_uuid: UUID, completion: Completion) -> None:
    """Note all that a command came to, and move on who waits for it."""
    items = [*completion.items, *await _as_items(connection, host_uuid, completion)]
    items.sort(key=lambda item: item.l2_network_uuid)  # the order in which all lock a host's realizations
    generations = [item.generation for item in items]
    running = await operations.awaiting(connection, host_uuid, generations, completion.command_id)
    if completion.command != "l2.check":
        for item in items:
            await observe(connection, host_uuid, item)
    for operation in running:
        await conductor.advance(connection, await _end_steps(connection, operation, host_uuid, completion, items))
    log.info(
        "completion",
        command=completion.command,
        done=sum(item.outcome == "done" for item in items),
        failed=sum(item.outcome == "failed" for item in items),
    )


async def _as_items(connection: Connection, host_uuid: UUID, completion: Completion) -> list[ItemResult]:
    """What a sync or a sweep released because it was not listed, or could not release, as the releases that the
    host was told of."""
    gone: dict[UUID, ErrorBody | None] = dict.fromkeys(completion.released)
    for orphan in completion.orphans:
        if orphan.swept or orphan.error is not None:
            gone[orphan.l2_network_uuid] = None if orphan.swept else orphan.error
    items = []
    for l2_uuid, error in gone.items():
        generation = await realizations.find_absent(connection, host_uuid, l2_uuid)
        if generation is not None:
            outcome: Outcome = "done" if error is None else "failed"
            items.append(ItemResult(l2_network_uuid=l2_uuid, generation=generation, outcome=outcome, error=error))
    return items


async def observe(connection: Connection, host_uuid: UUID, item: ItemResult) -> None:
    """Note what the host has now of one network; an outdated order's outcome changes nothing."""
    if item.outcome == "done":
        await realizations.observe_done(connection, host_uuid, item.l2_network_uuid, item.generation)
        await l2_networks.note_host(connection, item.l2_network_uuid, host_uuid, good=True)
    elif item.outcome == "failed" and item.error is not None:
        failing = await realizations.find_failing(connection, host_uuid, item.l2_network_uuid, item.generation)
        if failing is not None:
            desired, attempts = failing
            pause = retry_after_seconds(item.error, attempts, releasing=desired == "absent")
            await realizations.observe_failure(
                connection, host_uuid, item.l2_network_uuid, item.generation, error=item.error, retry_seconds=pause
            )
            await l2_networks.note_host(connection, item.l2_network_uuid, host_uuid, good=False)


async def _end_steps(
    connection: Connection,
    operation: Operation,
    host_uuid: UUID,
    completion: Completion,
    items: list[ItemResult],
) -> Operation:
    for item in items:
        by_command = completion.command == "l2.check"
        # A check that was answered with an error says: this host would refuse.
        state = "failed" if by_command and item.error is not None else item.outcome
        operation = await conductor.end_step(
            connection,
            operation,
            host_uuid,
            state,
            result=item,
            error=item.error,
            command_id=completion.command_id if by_command else None,
            generation=None if by_command else item.generation,
        )
    if not items or completion.command in {SyncHostCommand.message_type, ListOrphansCommand.message_type}:
        # A step of the whole host, which has no network of its own: it is removed, moved, or asked after orphans.
        error = completion.error or next((item.error for item in items if item.outcome == "failed"), None)
        operation = await conductor.end_step(
            connection,
            operation,
            host_uuid,
            "done" if error is None else "failed",
            result=steps.FoundOrphans(orphans=completion.orphans),
            error=error,
            command_id=completion.command_id,
        )
    return operation
