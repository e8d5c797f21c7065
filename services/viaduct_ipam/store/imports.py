"""Imports in Postgres: the rows that wait, and what is wrong with them."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import structlog

from viaduct_common.bus.failures import StoreUnavailable
from viaduct_common.errors import Conflict, InvalidRequest, NotFound
from viaduct_common.messages.base import Page
from viaduct_common.messages.ipam import ImportInventory, ImportLine, ImportProblem, ImportResult
from viaduct_common.postgres.pool import Connection, Pool, transaction
from viaduct_ipam.model.imports import StagedRow, digest_of

log = structlog.get_logger()

# A statement of an import handles so many rows, however many there are: none of them runs for long, and the process
# holds no more than these.
CHUNK_ROWS = 5_000
# Deleting a million rows, and counting what is reserved of a full network, are single statements all the same.
PATIENCE_SECONDS = 300
KEEP_HOURS = 24

COLUMNS: Mapping[str, str] = {
    "kind": "text",
    "l3_network_uuid": "uuid",
    "start_ip": "inet",
    "end_ip": "inet",
    "prefix_length": "smallint",
    "gateway": "inet",
    "type": "text",
    "address_mode": "text",
    "name": "text",
    "reason": "text",
    "owner": "text",
    "mac": "text",
    "allocated_at": "timestamptz",
    "expires_at": "timestamptz",
    "uuid": "uuid",
}

_CREATE = "INSERT INTO import_job DEFAULT VALUES RETURNING uuid, created_at"
_SHARE = "SELECT result FROM import_job WHERE uuid = $1 FOR SHARE"
_LOCK = "SELECT result FROM import_job WHERE uuid = $1 FOR UPDATE"
_SET_RESULT = "UPDATE import_job SET result = $2 WHERE uuid = $1"
_DELETE = "DELETE FROM import_job WHERE uuid = $1 RETURNING uuid, created_at"
_OVERDUE = """
    DELETE FROM import_job WHERE uuid = (
        SELECT uuid FROM import_job WHERE created_at < now() - make_interval(hours => $1)
        ORDER BY created_at LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING uuid
"""
_NAMES = ", ".join(COLUMNS)
_ARRAYS = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(COLUMNS.values(), start=4))
_STAGE = f"""
    INSERT INTO import_row (import_uuid, line, digest, {_NAMES})
    SELECT $1, line, digest, {_NAMES.replace("mac", "mac::macaddr")}
    FROM unnest($2::integer[], $3::bytea[], {_ARRAYS}) AS new (line, digest, {_NAMES})
    ON CONFLICT (import_uuid, line) DO NOTHING
    RETURNING line
"""
_OTHER_CONTENT = """
    SELECT it.line FROM import_row AS it
    JOIN unnest($2::integer[], $3::bytea[]) AS new (line, digest) ON new.line = it.line
    WHERE it.import_uuid = $1 AND it.digest <> new.digest
    ORDER BY it.line LIMIT 1
"""
_ADD_PROBLEMS = """
    INSERT INTO import_problem (import_uuid, line, of_apply, field, code, message)
    SELECT $1, line, $2, field, code, message
    FROM unnest($3::integer[], $4::text[], $5::text[], $6::text[]) AS new (line, field, code, message)
"""
_FORGET_PROBLEMS = "DELETE FROM import_problem WHERE import_uuid = $1 AND of_apply"
_PROBLEM_COUNT = "SELECT count(*) FROM import_problem WHERE import_uuid = $1"
_PROBLEMS = """
    SELECT id, line, field, code, message FROM import_problem
    WHERE import_uuid = $1 AND (line, id) > ($2, $3)
    ORDER BY line, id LIMIT $4
"""
_COUNTS = "SELECT kind, count(*) FROM import_row WHERE import_uuid = $1 GROUP BY kind"


async def create(connection: Connection) -> ImportInventory:
    return ImportInventory(**dict(await connection.fetchrow(_CREATE)))


async def delete(connection: Connection, import_uuid: UUID) -> ImportInventory | None:
    await be_patient(connection)
    row = await connection.fetchrow(_DELETE, import_uuid, timeout=PATIENCE_SECONDS)
    return ImportInventory(**dict(row)) if row else None


async def purge_imports(pool: Pool, *, every_seconds: float = 600.0) -> None:
    """Forget imports that are older than a day, for ever."""
    while True:
        try:
            await purge_overdue(pool)
        except StoreUnavailable as error:
            log.warning("purge_of_imports_postponed", reason=str(error))
        await asyncio.sleep(every_seconds)


async def purge_overdue(pool: Pool) -> None:
    """Forget imports that are older than a day; one that another process is at is left to it.

    Raises:
        StoreUnavailable: the database is away.
    """
    found = True
    while found:
        async with transaction(pool) as connection:
            await be_patient(connection)
            found = await connection.fetchval(_OVERDUE, KEEP_HOURS, timeout=PATIENCE_SECONDS) is not None


async def share(connection: Connection, import_uuid: UUID) -> None:
    """Keep the import from being applied or deleted meanwhile.

    Raises:
        NotFound: there is none.
        Conflict: it was applied.
    """
    row = await connection.fetchrow(_SHARE, import_uuid)
    if row is None:
        raise NotFound.of("import", import_uuid)
    if row["result"] is not None:
        raise Conflict(f"import {import_uuid} was applied already")


async def lock(connection: Connection, import_uuid: UUID) -> ImportResult | None:
    """Have the import for oneself; what it has done, if it was applied.

    Raises:
        NotFound: there is none.
    """
    await be_patient(connection)
    row = await connection.fetchrow(_LOCK, import_uuid)
    if row is None:
        raise NotFound.of("import", import_uuid)
    return ImportResult.model_validate(row["result"]) if row["result"] is not None else None


async def be_patient(connection: Connection) -> None:
    """Let single statements of this transaction take longer than others may.

    They are run once per chunk, and to the planner each looks dear enough to be compiled (JIT), which takes ten times
    as long as to run it.
    """
    await connection.execute(f"SET LOCAL statement_timeout = '{PATIENCE_SECONDS}s'; SET LOCAL jit = off")


# ---- rows ------------------------------------------------------------------------------------------------------------


async def stage(
    connection: Connection,
    import_uuid: UUID,
    lines: Sequence[ImportLine],
    read: Mapping[int, StagedRow],
    problems: Sequence[ImportProblem],
) -> None:
    """Store lines; those that are in `read` with their columns. What is stored already stays as it is.

    Raises:
        Conflict: a line is stored already, with other values.
    """
    numbers, digests = [one.line for one in lines], [digest_of(one.values) for one in lines]
    rows = [read.get(number) for number in numbers]
    arrays = [[getattr(row, name, None) for row in rows] for name in COLUMNS]
    new = {row["line"] for row in await connection.fetch(_STAGE, import_uuid, numbers, digests, *arrays)}
    if len(new) < len(lines):
        other = await connection.fetchval(_OTHER_CONTENT, import_uuid, numbers, digests)
        if other is not None:
            raise Conflict(f"line {other} is there already, with other values", line=other)
    await add_problems(connection, import_uuid, [one for one in problems if one.line in new], of_apply=False)


async def counts(connection: Connection, import_uuid: UUID) -> dict[str, int]:
    """How many rows there are of each kind."""
    rows = await connection.fetch(_COUNTS, import_uuid, timeout=PATIENCE_SECONDS)
    return {row["kind"]: row["count"] for row in rows if row["kind"] is not None}


async def set_result(connection: Connection, import_uuid: UUID, result: ImportResult) -> None:
    await connection.execute(_SET_RESULT, import_uuid, result)


# ---- problems --------------------------------------------------------------------------------------------------------


async def add_problems(
    connection: Connection, import_uuid: UUID, problems: Sequence[ImportProblem], *, of_apply: bool
) -> None:
    if problems:
        columns: list[list[Any]] = [
            [getattr(one, name) for one in problems] for name in ("line", "field", "code", "message")
        ]
        await connection.execute(_ADD_PROBLEMS, import_uuid, of_apply, *columns)


async def forget_problems_of_apply(connection: Connection, import_uuid: UUID) -> None:
    await connection.execute(_FORGET_PROBLEMS, import_uuid, timeout=PATIENCE_SECONDS)


async def problem_count(connection: Connection, import_uuid: UUID) -> int:
    found: int = await connection.fetchval(_PROBLEM_COUNT, import_uuid, timeout=PATIENCE_SECONDS)
    return found


async def problems_page(
    connection: Connection, import_uuid: UUID, limit: int, after: str | None = None
) -> Page[ImportProblem]:
    """Raises:
    InvalidRequest: the cursor is not ours.
    """
    line, id_ = _position(after)
    rows = await connection.fetch(_PROBLEMS, import_uuid, line, id_, limit + 1)
    items = [
        ImportProblem(line=row["line"], field=row["field"], code=row["code"], message=row["message"]) for row in rows
    ]
    last = rows[limit - 1] if len(rows) > limit else None
    return Page[ImportProblem](items=items[:limit], after=f"{last['line']}.{last['id']}" if last else None)


def _position(after: str | None) -> tuple[int, int]:
    if after is None:
        return 0, 0
    line, dot, id_ = after.partition(".")
    if not (dot and line.isascii() and line.isdigit() and id_.isascii() and id_.isdigit()):
        raise InvalidRequest.of_field("after", "not a cursor of this query")
    if int(line) >= 2**31 or int(id_) >= 2**63:
        raise InvalidRequest.of_field("after", "not a cursor of this query")
    return int(line), int(id_)
