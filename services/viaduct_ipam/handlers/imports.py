"""`import.*`: rows wait in tables of their own until all of them are applied, or none."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

from viaduct_common import topology
from viaduct_common.bus import Outgoing, RequestContext
from viaduct_common.errors import InvalidRequest
from viaduct_common.messages.base import Page
from viaduct_common.messages.ipam import (
    AddToImport,
    ApplyImport,
    CreateImport,
    DeleteImport,
    GetImportProblems,
    ImportAdded,
    ImportInventory,
    ImportProblem,
    ImportResult,
    IpamEvent,
)
from viaduct_common.postgres.outbox import enqueue
from viaduct_common.postgres.pool import Connection
from viaduct_ipam.handlers.inventories import range_inventory
from viaduct_ipam.model.imports import StagedRow, read_row
from viaduct_ipam.model.ranges import Range
from viaduct_ipam.store import import_checks, import_writes, imports

Handler = Callable[[Any, Connection, RequestContext], Awaitable[Any]]

# So many problems stand in the answer itself; the others are asked for by page.
FIRST_PROBLEMS = 100
# Reading so many rows takes a millisecond or two.
ROWS_AT_ONCE = 100


def handlers() -> dict[str, Handler]:
    """By message type. They work on whole tables, so they get the connection itself."""
    return {
        CreateImport.message_type: create_import,
        AddToImport.message_type: add_to_import,
        ApplyImport.message_type: apply_import,
        GetImportProblems.message_type: get_import_problems,
        DeleteImport.message_type: delete_import,
    }


async def create_import(_request: CreateImport, connection: Connection, _context: RequestContext) -> ImportInventory:
    return await imports.create(connection)


async def add_to_import(request: AddToImport, connection: Connection, _context: RequestContext) -> ImportAdded:
    """Raises:
    InvalidRequest: a line is in it twice.
    NotFound: no such import.
    Conflict: it was applied already; or a line is there already with other values, `details.line` names it.
    """
    if len({one.line for one in request.rows}) < len(request.rows):
        raise InvalidRequest.of_field("rows", "each line once")
    await imports.share(connection, request.import_uuid)
    rows: dict[int, StagedRow] = {}
    problems: list[ImportProblem] = []
    for number, one in enumerate(request.rows, start=1):
        if number % ROWS_AT_ONCE == 0:
            await asyncio.sleep(0)  # let others have the process between
        read = read_row(one.line, one.values)
        if isinstance(read, StagedRow):
            rows[one.line] = read
        else:
            problems += read
    await imports.stage(connection, request.import_uuid, request.rows, rows, problems)
    return ImportAdded(lines=len(request.rows), problem_count=len(problems))


async def apply_import(request: ApplyImport, connection: Connection, context: RequestContext) -> ImportResult:
    """Everything is checked first, without a change to what is there; so a dry run is the first half of this.

    Raises:
        NotFound: no such import.
        IpRangeConflict: a range was added to the L2 network meanwhile, in an L3 network that is just being made.
    """
    former = await imports.lock(connection, request.import_uuid)
    if former is not None:
        return former
    if not request.dry_run:
        await import_writes.lock_scopes(connection, request.import_uuid)
    await imports.forget_problems_of_apply(connection, request.import_uuid)
    await import_checks.check(connection, request.import_uuid)
    problem_count = await imports.problem_count(connection, request.import_uuid)
    applied = not request.dry_run and problem_count == 0
    counts = await imports.counts(connection, request.import_uuid)
    if applied:
        await _put_into_effect(connection, request.import_uuid, context)
        await import_writes.tell_planner(connection, counts.get("allocation", 0))
    result = ImportResult(
        applied=applied,
        ranges=counts.get("range", 0),
        reservations=counts.get("reservation", 0),
        allocations=counts.get("allocation", 0),
        problem_count=problem_count,
        problems=(await imports.problems_page(connection, request.import_uuid, FIRST_PROBLEMS)).items,
    )
    if applied:
        await imports.set_result(connection, request.import_uuid, result)
    return result


async def get_import_problems(
    request: GetImportProblems, connection: Connection, _context: RequestContext
) -> Page[ImportProblem]:
    """One that is gone has no problems.

    Raises:
        InvalidRequest: the cursor is not ours.
    """
    return await imports.problems_page(connection, request.import_uuid, request.limit, request.after)


async def delete_import(
    request: DeleteImport, connection: Connection, _context: RequestContext
) -> ImportInventory | None:
    """One that is gone already is no error."""
    return await imports.delete(connection, request.import_uuid)


async def _put_into_effect(connection: Connection, import_uuid: UUID, context: RequestContext) -> None:
    async for added in import_writes.add_ranges(connection, import_uuid):
        await enqueue(connection, _created(added))
    await import_writes.add_reservations(connection, import_uuid)
    await import_writes.add_allocations(connection, import_uuid, context.sender, context.message_id)
    await import_writes.finish(connection, import_uuid)


def _created(ranges: Sequence[Range]) -> list[Outgoing]:
    """The events that `range.create` would have sent."""
    bodies = (IpamEvent(subject=range_inventory(one).model_dump(mode="json")).to_json() for one in ranges)
    return [
        Outgoing(topology.EVENTS, routing_key="range.created", type="range.created", body=body, mandatory=False)
        for body in bodies
    ]
