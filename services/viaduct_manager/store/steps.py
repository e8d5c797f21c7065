"""The steps of operations in Postgres: one per host and phase.

The functions that end steps count them in their operation, which the caller has locked.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from viaduct_common.messages.agent import ItemResult, Orphan
from viaduct_common.messages.base import ErrorBody, WireModel
from viaduct_common.messages.operation import OperationStep
from viaduct_common.postgres.pool import Connection

_STEPS = "SELECT * FROM operation_step WHERE operation_uuid = $1 ORDER BY started_at, host_uuid"
_BEGIN_PHASE = """
    WITH begun AS (
        INSERT INTO operation_step (operation_uuid, host_uuid, phase, state, command_id, generation, finished_at)
        SELECT $1, host_uuid, $2, state, command_id, generation, CASE state WHEN 'skipped' THEN now() END
        FROM unnest($3::uuid[], $4::text[], $5::uuid[], $6::bigint[]) AS t(host_uuid, state, command_id, generation)
    )
    UPDATE operation SET phase = $2, pending = $7, failed = 0 WHERE uuid = $1
"""
_OF_HOST = "SELECT DISTINCT operation_uuid FROM operation_step WHERE host_uuid = $1 AND state = 'pending'"
_CHANGING_HOST = """
    SELECT DISTINCT operation.uuid
    FROM operation_step JOIN operation ON operation.uuid = operation_step.operation_uuid
    WHERE operation_step.host_uuid = $1 AND operation_step.state = 'pending' AND operation.type <> ALL($2::text[])
    ORDER BY operation.uuid
"""
# Steps that wait for a host which is away or was removed.
_WAITING_FOR_NOBODY = """
    SELECT DISTINCT operation_step.host_uuid
    FROM operation_step LEFT JOIN host ON host.uuid = operation_step.host_uuid
    WHERE operation_step.state = 'pending' AND (host.uuid IS NULL OR host.state <> 'connected')
"""
_END_STEP = """
    WITH ended AS (
        UPDATE operation_step SET state = $3, result = $4, error = $5, finished_at = now()
        WHERE operation_uuid = $1 AND host_uuid = $2 AND state = 'pending'
          AND ($6::uuid IS NULL OR command_id = $6) AND ($7::bigint IS NULL OR generation = $7)
        RETURNING state
    ), counted AS (SELECT count(*) AS ended, count(*) FILTER (WHERE state = 'failed') AS failed FROM ended)
    UPDATE operation SET pending = pending - counted.ended, failed = operation.failed + counted.failed
    FROM counted WHERE operation.uuid = $1 AND counted.ended > 0
    RETURNING operation.pending, operation.failed
"""
_END_ALL_STEPS = """
    UPDATE operation_step SET state = $2, error = $3, finished_at = now()
    WHERE operation_uuid = $1 AND state = 'pending'
"""
_COUNT = """
    UPDATE operation SET pending = pending - $2, failed = failed + $3 WHERE uuid = $1 RETURNING pending, failed
"""
_FIRST_FAILURE = """
    SELECT host_uuid, error FROM operation_step WHERE operation_uuid = $1 AND state = 'failed'
    ORDER BY finished_at, host_uuid LIMIT 1
"""
_RESULTS = "SELECT host_uuid, state, result, error FROM operation_step WHERE operation_uuid = $1 AND phase = $2"


class FoundOrphans(WireModel):
    """What the step of a question after orphans ended with."""

    orphans: list[Orphan]


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


@dataclass(frozen=True)
class Count:
    """How many steps of an operation's phase run, and how many failed."""

    pending: int
    failed: int = 0


async def begin_phase(connection: Connection, uuid: UUID, phase: str, steps: list[NewStep]) -> Count:
    count = Count(pending=sum(step.state == "pending" for step in steps))
    await connection.execute(
        _BEGIN_PHASE,
        uuid,
        phase,
        [step.host_uuid for step in steps],
        [step.state for step in steps],
        [step.command_id for step in steps],
        [step.generation for step in steps],
        count.pending,
    )
    return count


async def of_host(connection: Connection, host_uuid: UUID) -> list[UUID]:
    return [row["operation_uuid"] for row in await connection.fetch(_OF_HOST, host_uuid)]


async def changing_host(connection: Connection, host_uuid: UUID, inquiries: Collection[str]) -> list[UUID]:
    """Operations that wait for the host, but for those of the types `inquiries`."""
    return [row["uuid"] for row in await connection.fetch(_CHANGING_HOST, host_uuid, list(inquiries))]


async def waited_for_in_vain(connection: Connection) -> list[UUID]:
    """Hosts that pending steps wait for, and that are not connected."""
    return [row["host_uuid"] for row in await connection.fetch(_WAITING_FOR_NOBODY)]


async def end_step(
    connection: Connection,
    uuid: UUID,
    host_uuid: UUID,
    state: str,
    *,
    result: WireModel | None = None,
    error: ErrorBody | None = None,
    command_id: UUID | None = None,
    generation: int | None = None,
) -> Count | None:
    """End a host's pending step; return the count that this leaves, None if there is no step that matches."""
    row = await connection.fetchrow(
        _END_STEP,
        uuid,
        host_uuid,
        state,
        None if result is None else result.model_dump(mode="json"),
        None if error is None else error.model_dump(mode="json"),
        command_id,
        generation,
    )
    return None if row is None else Count(row["pending"], row["failed"])


async def end_all_steps(connection: Connection, uuid: UUID, state: str, error: ErrorBody) -> Count:
    """The time is up for all that are pending."""
    status = await connection.execute(_END_ALL_STEPS, uuid, state, error.model_dump(mode="json"))
    ended = int(status.split()[-1])
    row = await connection.fetchrow(_COUNT, uuid, ended, ended if state == "failed" else 0)
    return Count(row["pending"], row["failed"])


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


async def orphans(connection: Connection, uuid: UUID) -> list[Orphan]:
    """What the host answered; nothing where it did not."""
    found: list[Orphan] = []
    for row in await connection.fetch(_RESULTS, uuid, "check"):
        if row["result"] is not None:
            found += FoundOrphans.model_validate(row["result"]).orphans
    return found


async def list_steps(connection: Connection, operation_uuid: UUID) -> list[OperationStep]:
    """In the order in which they began."""
    return [_step(row) for row in await connection.fetch(_STEPS, operation_uuid)]


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
