"""Operations, their steps and their waiters in Postgres."""

from dataclasses import dataclass, fields
from typing import Any
from uuid import UUID

from viaduct_common.errors import NotFound, ViaductError
from viaduct_common.messages.agent import ItemResult
from viaduct_common.messages.base import ErrorBody, Page
from viaduct_common.messages.operation import OperationInventory, OperationStep, QueryOperations
from viaduct_common.postgres.paging import Column, Listing, list_page
from viaduct_common.postgres.pool import Connection
from viaduct_manager.model.moves import Standing

KIND = "operation"

_INSERT = """
    INSERT INTO operation (uuid, type, state, phase, l2_uuid, cluster_uuid, host_uuid, on_failure, forced, action,
                           deadline_at)
    VALUES ($1, $2, 'running', $3, $4, $5, $6, $7, $8, $9, now() + make_interval(secs => $10))
"""
_SELECT = "SELECT *, l2_uuid AS l2_network_uuid FROM operation"
_GET = _SELECT + " WHERE uuid = $1"
_STEPS = "SELECT * FROM operation_step WHERE operation_uuid = $1 ORDER BY started_at, host_uuid"
_LOCK = """
    SELECT *, extract(epoch FROM deadline_at - now())::float8 AS seconds_left FROM operation WHERE uuid = $1 FOR UPDATE
"""
_ADD_STEPS = """
    INSERT INTO operation_step (operation_uuid, host_uuid, phase, state, command_id, generation, finished_at)
    SELECT $1, host_uuid, $2, state, command_id, generation, CASE state WHEN 'skipped' THEN now() END
    FROM unnest($3::uuid[], $4::text[], $5::uuid[], $6::bigint[]) AS t(host_uuid, state, command_id, generation)
"""
_BEGIN_PHASE = "UPDATE operation SET phase = $2, pending = $3, failed = 0 WHERE uuid = $1"
# As long again as the operation was given, so that its caller, who waits twice its time, hears of the end.
_EXTEND = """
    UPDATE operation
    SET deadline_at = greatest(deadline_at, now() + least(make_interval(secs => $2), deadline_at - created_at))
    WHERE uuid = $1
"""
_OF_COMMAND = """
    SELECT DISTINCT operation_uuid FROM operation_step WHERE host_uuid = $1 AND command_id = $2 AND state = 'pending'
"""
_OF_GENERATIONS = """
    SELECT DISTINCT operation_uuid FROM operation_step
    WHERE host_uuid = $1 AND generation = ANY($2::bigint[]) AND state = 'pending'
"""
_OF_HOST = "SELECT DISTINCT operation_uuid FROM operation_step WHERE host_uuid = $1 AND state = 'pending'"
# Steps that wait for a host which is away or was removed.
_WAITING_FOR_NOBODY = """
    SELECT DISTINCT operation_step.host_uuid
    FROM operation_step LEFT JOIN host ON host.uuid = operation_step.host_uuid
    WHERE operation_step.state = 'pending' AND (host.uuid IS NULL OR host.state <> 'connected')
"""
_OVERDUE = "SELECT uuid FROM operation WHERE state = 'running' AND deadline_at < now() ORDER BY deadline_at LIMIT 64"
_END_STEP = """
    UPDATE operation_step SET state = $3, result = $4, error = $5, finished_at = now()
    WHERE operation_uuid = $1 AND host_uuid = $2 AND state = 'pending'
      AND ($6::uuid IS NULL OR command_id = $6) AND ($7::bigint IS NULL OR generation = $7)
    RETURNING phase
"""
_END_ALL_STEPS = """
    UPDATE operation_step SET state = $2, error = $3, finished_at = now()
    WHERE operation_uuid = $1 AND state = 'pending'
"""
_COUNT = """
    UPDATE operation SET pending = pending - $2, failed = failed + $3 WHERE uuid = $1
"""
_FIRST_FAILURE = """
    SELECT host_uuid, error FROM operation_step WHERE operation_uuid = $1 AND state = 'failed'
    ORDER BY finished_at, host_uuid LIMIT 1
"""
_RESULTS = "SELECT host_uuid, state, result, error FROM operation_step WHERE operation_uuid = $1 AND phase = $2"
_SET_ERROR = "UPDATE operation SET error = $2 WHERE uuid = $1"
_FINISH = (
    "UPDATE operation SET state = $2, phase = 'ended', error = $3, pending = 0, finished_at = now() WHERE uuid = $1"
)
_ADD_WAITER = """
    INSERT INTO operation_waiter (operation_uuid, reply_to, correlation_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
"""
_TAKE_WAITERS = "DELETE FROM operation_waiter WHERE operation_uuid = $1 RETURNING reply_to, correlation_id"
_STORE_ANSWER = "UPDATE request SET answer = $2 WHERE operation_uuid = $1 AND answer IS NULL"
_FORGET = "DELETE FROM operation WHERE state <> 'running' AND created_at < now() - make_interval(days => 14)"
_FORGET_INQUIRIES = """
    DELETE FROM operation
    WHERE state <> 'running' AND type IN ('l2.check', 'l2.plan') AND created_at < now() - make_interval(hours => 1)
"""
# An operation about a host has neither; a page cannot be continued after a null.
_OR_NONE = "coalesce({}, '00000000-0000-0000-0000-000000000000')"
_LISTING = Listing(
    select=_SELECT,
    columns={
        "uuid": Column("uuid", "uuid"),
        "state": Column("state", "text"),
        "type": Column("type", "text"),
        "l2NetworkUuid": Column(_OR_NONE.format("l2_uuid"), "uuid", "l2_uuid = ANY({})"),
        "clusterUuid": Column(_OR_NONE.format("cluster_uuid"), "uuid", "cluster_uuid = ANY({})"),
        "createdAt": Column("created_at", "timestamptz"),
    },
    key=Column("uuid", "uuid"),
    default_sort="-createdAt",
)


@dataclass(frozen=True)
class Operation:
    """An operation, locked until the transaction ends."""

    uuid: UUID
    type: str
    state: str
    phase: str
    l2_uuid: UUID | None
    cluster_uuid: UUID | None
    host_uuid: UUID | None
    on_failure: str
    action: str | None
    forced: bool
    pending: int
    failed: int
    error: ErrorBody | None
    seconds_left: float

    @property
    def standing(self) -> Standing:
        return Standing(self.type, self.phase, self.on_failure, self.pending, self.failed)


@dataclass(frozen=True)
class NewStep:
    """`state` is `pending`, or `skipped` for a host that is not asked now."""

    host_uuid: UUID
    state: str = "pending"
    command_id: UUID | None = None
    generation: int | None = None


@dataclass(frozen=True)
class StepResult:
    host_uuid: UUID
    state: str
    result: ItemResult | None
    error: ErrorBody | None


async def create(
    connection: Connection,
    uuid: UUID,
    type_: str,
    *,
    phase: str,
    timeout_seconds: float,
    l2_uuid: UUID | None = None,
    cluster_uuid: UUID | None = None,
    host_uuid: UUID | None = None,
    on_failure: str = "rollback",
    forced: bool = False,
    action: str | None = None,
) -> Operation:
    """A new operation, running, locked by whoever made it."""
    await connection.execute(
        _INSERT, uuid, type_, phase, l2_uuid, cluster_uuid, host_uuid, on_failure, forced, action, timeout_seconds
    )
    created = await lock(connection, uuid)
    if created is None:
        raise ViaductError(f"operation {uuid} vanished while it was made")
    return created


async def get(connection: Connection, uuid: UUID) -> OperationInventory:
    """Raises:
    NotFound: there is none.
    """
    row = await connection.fetchrow(_GET, uuid)
    if row is None:
        raise NotFound.of(KIND, uuid)
    steps = [_step(step) for step in await connection.fetch(_STEPS, uuid)]
    return OperationInventory.model_validate({**dict(row), "steps": steps})


async def query(connection: Connection, request: QueryOperations) -> Page[OperationInventory]:
    page = await list_page(connection, _LISTING, request, request.filters)
    return Page(items=[OperationInventory.model_validate(dict(row)) for row in page.rows], after=page.after)


async def lock(connection: Connection, uuid: UUID) -> Operation | None:
    """The operation if it still runs, locked: whoever ends steps of it takes turns here."""
    row = await connection.fetchrow(_LOCK, uuid)
    if row is None or row["state"] != "running":
        return None
    values = {field.name: row[field.name] for field in fields(Operation)}
    if values["error"] is not None:
        values["error"] = ErrorBody.model_validate(values["error"])
    return Operation(**values)


async def begin_phase(connection: Connection, uuid: UUID, phase: str, steps: list[NewStep]) -> None:
    await connection.execute(
        _ADD_STEPS,
        uuid,
        phase,
        [step.host_uuid for step in steps],
        [step.state for step in steps],
        [step.command_id for step in steps],
        [step.generation for step in steps],
    )
    await connection.execute(_BEGIN_PHASE, uuid, phase, sum(step.state == "pending" for step in steps))


async def extend_deadline(connection: Connection, uuid: UUID, seconds: float) -> None:
    """A rollback gets time of its own: at most `seconds`."""
    await connection.execute(_EXTEND, uuid, seconds)


async def of_command(connection: Connection, host_uuid: UUID, command_id: UUID) -> list[UUID]:
    return [row["operation_uuid"] for row in await connection.fetch(_OF_COMMAND, host_uuid, command_id)]


async def of_generations(connection: Connection, host_uuid: UUID, generations: list[int]) -> list[UUID]:
    return [row["operation_uuid"] for row in await connection.fetch(_OF_GENERATIONS, host_uuid, generations)]


async def of_host(connection: Connection, host_uuid: UUID) -> list[UUID]:
    return [row["operation_uuid"] for row in await connection.fetch(_OF_HOST, host_uuid)]


async def waited_for_in_vain(connection: Connection) -> list[UUID]:
    """Hosts that pending steps wait for, and that are not connected."""
    return [row["host_uuid"] for row in await connection.fetch(_WAITING_FOR_NOBODY)]


async def overdue(connection: Connection) -> list[UUID]:
    return [row["uuid"] for row in await connection.fetch(_OVERDUE)]


async def end_step(
    connection: Connection,
    uuid: UUID,
    host_uuid: UUID,
    state: str,
    *,
    result: ItemResult | None = None,
    error: ErrorBody | None = None,
    command_id: UUID | None = None,
    generation: int | None = None,
) -> bool:
    """End a host's pending step; False if there is none that matches."""
    ended = await connection.fetch(
        _END_STEP,
        uuid,
        host_uuid,
        state,
        None if result is None else result.model_dump(mode="json"),
        None if error is None else error.model_dump(mode="json"),
        command_id,
        generation,
    )
    if ended:
        await connection.execute(_COUNT, uuid, len(ended), len(ended) if state == "failed" else 0)
    return bool(ended)


async def end_all_steps(connection: Connection, uuid: UUID, state: str, error: ErrorBody) -> None:
    """The time is up for all that are pending."""
    status = await connection.execute(_END_ALL_STEPS, uuid, state, error.model_dump(mode="json"))
    ended = int(status.split()[-1])
    await connection.execute(_COUNT, uuid, ended, ended if state == "failed" else 0)


async def first_failure(connection: Connection, uuid: UUID) -> tuple[UUID, ErrorBody] | None:
    row = await connection.fetchrow(_FIRST_FAILURE, uuid)
    return None if row is None else (row["host_uuid"], ErrorBody.model_validate(row["error"]))


async def results(connection: Connection, uuid: UUID, phase: str) -> list[StepResult]:
    return [
        StepResult(
            row["host_uuid"],
            row["state"],
            None if row["result"] is None else ItemResult.model_validate(row["result"]),
            None if row["error"] is None else ErrorBody.model_validate(row["error"]),
        )
        for row in await connection.fetch(_RESULTS, uuid, phase)
    ]


async def set_error(connection: Connection, uuid: UUID, error: ErrorBody) -> None:
    await connection.execute(_SET_ERROR, uuid, error.model_dump(mode="json"))


async def finish(connection: Connection, uuid: UUID, state: str, error: ErrorBody | None) -> None:
    await connection.execute(_FINISH, uuid, state, None if error is None else error.model_dump(mode="json"))


async def add_waiter(connection: Connection, uuid: UUID, reply_to: str, correlation_id: str) -> None:
    await connection.execute(_ADD_WAITER, uuid, reply_to, correlation_id)


async def take_waiters(connection: Connection, uuid: UUID) -> list[tuple[str, str]]:
    """(reply_to, correlation_id) of all who wait; from here on nobody does."""
    rows = await connection.fetch(_TAKE_WAITERS, uuid)
    return [(row["reply_to"], row["correlation_id"]) for row in rows]


async def store_answer(connection: Connection, uuid: UUID, answer: bytes) -> None:
    """Whoever repeats the request gets this answer."""
    await connection.execute(_STORE_ANSWER, uuid, answer)


async def forget_old(connection: Connection) -> None:
    await connection.execute(_FORGET)
    await connection.execute(_FORGET_INQUIRIES)


def _step(row: Any) -> OperationStep:
    result = row["result"] or {}
    return OperationStep(
        host_uuid=row["host_uuid"],
        phase=row["phase"],
        state=row["state"],
        generation=row["generation"],
        changes=result.get("changes", []),
        error=row["error"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
    )
