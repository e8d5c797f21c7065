"""Operations that wait for service instances, in Postgres.

An instance that many change all the time is never quite at rest. So nobody waits for that: first for the looks at the
marks that there are now; then for what hosts were told by those looks, or by later ones.
"""

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from viaduct_common.messages.base import ErrorBody
from viaduct_common.postgres.pool import Connection

_ADD = "INSERT INTO service_wait (operation_uuid, service_uuids, mark) VALUES ($1, $2, $3)"
# Hosts that are away, or in maintenance, follow when they are back; a removal that failed is tried again with nobody
# waiting. What another command has overtaken counts when a generation that is newer than the looks has been done.
_UNSETTLED = """
    EXISTS (
        SELECT FROM service_on_host JOIN host ON host.uuid = service_on_host.host_uuid
        WHERE service_uuid = ANY(service_wait.service_uuids)
          AND (service_on_host.state IN ('pending', 'applying') OR service_on_host.state = 'removing' AND attempts = 0)
          AND host.state = 'connected' AND NOT host.maintenance AND NOT host.deleting
          AND coalesce(observed_generation <= service_wait.floor, true))
"""
_UNSEEN = """
    EXISTS (SELECT FROM stale_service
            WHERE service_uuid = ANY(service_wait.service_uuids) AND id <= service_wait.mark)
"""
# Not of what hosts have all the same: a part that cannot be had fails nobody who waits for the rest.
_HAS_PROBLEM = "problem IS NOT NULL AND NOT coalesce(problem #> '{details,partial}' = 'true', false)"
# An instance with a problem, or that failed somewhere, is at rest, too.
_TROUBLED = f"""
    EXISTS (SELECT FROM service WHERE uuid = ANY(service_wait.service_uuids) AND {_HAS_PROBLEM})
    OR EXISTS (
        SELECT FROM service_on_host JOIN host ON host.uuid = service_on_host.host_uuid
        WHERE service_uuid = ANY(service_wait.service_uuids) AND service_on_host.state = 'failed'
          AND host.state = 'connected' AND NOT host.maintenance)
"""
# For who ends as soon as it is known that it will not come.
DUE = f"NOT {_UNSEEN} AND (service_wait.floor IS NULL OR NOT {_UNSETTLED} OR {_TROUBLED})"
# For who wants to know how all of it stands in the end.
_AWAITED = f"""
    SELECT operation.uuid,
           operation.deadline_at <= now() OR NOT {_UNSEEN} AND (floor IS NULL OR NOT {_UNSETTLED}) AS due
    FROM operation JOIN service_wait ON service_wait.operation_uuid = operation.uuid
    WHERE operation.state = 'running' AND operation.vm_uuid IS NULL
    ORDER BY due DESC LIMIT $1
"""
_AWAITED_BY = "SELECT service_uuids FROM service_wait WHERE operation_uuid = $1"
_LOOK = f"SELECT service_uuids, {_UNSEEN} AS unseen FROM service_wait WHERE operation_uuid = $1"
_SET_FLOOR = """
    UPDATE service_wait SET floor = coalesce(floor, nextval('generation')) WHERE operation_uuid = $1
"""
_STANDS = f"SELECT {_UNSETTLED} AS unsettled FROM service_wait WHERE operation_uuid = $1"
_TROUBLE = f"""
    SELECT service_uuid, kind, host_uuid, error FROM (
        SELECT service.uuid AS service_uuid, service.kind, NULL::uuid AS host_uuid, service.problem AS error
        FROM service WHERE service.uuid = ANY($1::uuid[]) AND {_HAS_PROBLEM}
        UNION ALL
        SELECT service.uuid, service.kind, service_on_host.host_uuid, service_on_host.error
        FROM service JOIN service_on_host ON service_uuid = service.uuid JOIN host ON host.uuid = host_uuid
        WHERE service.uuid = ANY($1::uuid[]) AND service_on_host.state = 'failed' AND host.state = 'connected'
          AND NOT host.maintenance
    ) AS found
    ORDER BY service_uuid, host_uuid LIMIT 1
"""


@dataclass(frozen=True)
class WaitStanding:
    """How what an operation waits for stands. `trouble` is why it will not come, as far as anybody knows."""

    unsettled: bool
    trouble: ErrorBody | None


async def add(connection: Connection, operation_uuid: UUID, service_uuids: Collection[UUID], mark: int) -> None:
    """The operation waits for these instances, as they are to be after the looks at marks up to this one."""
    await connection.execute(_ADD, operation_uuid, list(service_uuids), mark)


async def look(connection: Connection, operation_uuid: UUID) -> WaitStanding:
    row = await connection.fetchrow(_LOOK, operation_uuid)
    if row is None:
        return WaitStanding(False, None)
    if row["unseen"]:
        return WaitStanding(True, None)
    await connection.execute(_SET_FLOOR, operation_uuid)
    # By a statement of its own: what the looks wrote was committed with the end of the marks.
    unsettled = await connection.fetchval(_STANDS, operation_uuid)
    found = await connection.fetchrow(_TROUBLE, row["service_uuids"])
    if found is None:
        return WaitStanding(unsettled, None)
    error = ErrorBody.model_validate(found["error"])
    where = {"serviceUuid": str(found["service_uuid"]), "kind": found["kind"]}
    if found["host_uuid"] is not None:
        where["hostUuid"] = str(found["host_uuid"])
    return WaitStanding(unsettled, error.model_copy(update={"details": {**error.details, **where}}))


async def awaited(connection: Connection, limit: int) -> tuple[bool, list[UUID]]:
    """Whether anybody waits for services alone, and which operations of those are to be looked at."""
    rows = await connection.fetch(_AWAITED, limit)
    return bool(rows), [row["uuid"] for row in rows if row["due"]]


async def awaited_by(connection: Connection, operation_uuid: UUID) -> list[UUID]:
    """The instances that an operation waits for."""
    found: list[UUID] = await connection.fetchval(_AWAITED_BY, operation_uuid)
    return found
