"""Operations and their waiters in Postgres."""

from dataclasses import dataclass, fields
from uuid import UUID

from viaduct_common.errors import NotFound, ViaductError
from viaduct_common.messages.base import ErrorBody, Page
from viaduct_common.messages.operation import OperationInventory, QueryOperations
from viaduct_common.postgres.paging import Column, Listing, list_page
from viaduct_common.postgres.pool import Connection
from viaduct_manager.model.moves import Standing
from viaduct_manager.store import steps

KIND = "operation"

_INSERT = """
    INSERT INTO operation (uuid, type, state, phase, l2_uuid, cluster_uuid, host_uuid, on_failure, forced, action,
                           deadline_at)
    VALUES ($1, $2, 'running', $3, $4, $5, $6, $7, $8, $9, now() + make_interval(secs => $10))
"""
_SELECT = "SELECT *, l2_uuid AS l2_network_uuid FROM operation"
_GET = _SELECT + " WHERE uuid = $1"
_LOCK = """
    SELECT *, extract(epoch FROM deadline_at - now())::float8 AS seconds_left FROM operation WHERE uuid = $1 FOR UPDATE
"""
# As long again as the operation was given, so that its caller, who waits twice its time, hears of the end.
_EXTEND = """
    UPDATE operation
    SET deadline_at = greatest(deadline_at, now() + least(make_interval(secs => $2), deadline_at - created_at))
    WHERE uuid = $1
"""
_OVERDUE = "SELECT uuid FROM operation WHERE state = 'running' AND deadline_at < now() ORDER BY deadline_at LIMIT 64"
_SET_ERROR = "UPDATE operation SET error = $2 WHERE uuid = $1"
_FINISH = (
    "UPDATE operation SET state = $2, phase = 'ended', error = $3, pending = 0, finished_at = now() WHERE uuid = $1"
)
_ADD_WAITER = """
    INSERT INTO operation_waiter (operation_uuid, reply_to, correlation_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
"""
_TAKE_WAITERS = "DELETE FROM operation_waiter WHERE operation_uuid = $1 RETURNING reply_to, correlation_id"
_STORE_ANSWER = "UPDATE request SET answer = $2 WHERE operation_uuid = $1 AND answer IS NULL"
_RUNNING_OF_NETWORK = """
    SELECT uuid FROM operation WHERE state = 'running' AND l2_uuid = $1 AND type = ANY($2::text[]) LIMIT 1
"""
_FORGET = "DELETE FROM operation WHERE state <> 'running' AND created_at < now() - make_interval(days => 14)"
_FORGET_INQUIRIES = """
    DELETE FROM operation
    WHERE state <> 'running' AND type IN ('l2.check', 'l2.plan', 'host.orphans', 'service.check', 'service.await')
      AND created_at < now() - make_interval(hours => 1)
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
        "vmUuid": Column(_OR_NONE.format("vm_uuid"), "uuid", "vm_uuid = ANY({})"),
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
    return OperationInventory.model_validate({**dict(row), "steps": await steps.list_steps(connection, uuid)})


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


async def running_of_network(connection: Connection, l2_uuid: UUID, types: list[str]) -> UUID | None:
    """One that runs and is about this network; the caller has locked the network, so none begins meanwhile."""
    uuid: UUID | None = await connection.fetchval(_RUNNING_OF_NETWORK, l2_uuid, types)
    return uuid


async def extend_deadline(connection: Connection, uuid: UUID, seconds: float) -> None:
    """A rollback gets time of its own: at most `seconds`."""
    await connection.execute(_EXTEND, uuid, seconds)


async def overdue(connection: Connection) -> list[UUID]:
    return [row["uuid"] for row in await connection.fetch(_OVERDUE)]


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
