"""What hosts are asked to compare, and what they say, in Postgres."""

from collections.abc import Iterable, Mapping
from uuid import UUID

from viaduct_common.errors import HostUnreachable
from viaduct_common.messages.base import ErrorBody
from viaduct_common.messages.services.commands import ServiceResult
from viaduct_common.messages.services.instances import ServiceCheck
from viaduct_common.postgres.pool import Connection
from viaduct_manager.store.services import ServiceOrder

_ADD = """
    INSERT INTO service_inquiry (operation_uuid, service_uuid, host_uuid, kind, command_id)
    SELECT $1, service_uuid, host_uuid, kind, command_id
    FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::uuid[]) AS t(service_uuid, host_uuid, kind, command_id)
"""
_OF_COMMAND = "SELECT DISTINCT operation_uuid FROM service_inquiry WHERE host_uuid = $1 AND command_id = $2"
_RECORD = """
    UPDATE service_inquiry SET result = t.result
    FROM unnest($3::uuid[], $4::jsonb[]) AS t(service_uuid, result)
    WHERE operation_uuid = $1 AND host_uuid = $2 AND service_inquiry.service_uuid = t.service_uuid
"""
_OPEN = "SELECT EXISTS (SELECT FROM service_inquiry WHERE operation_uuid = $1 AND host_uuid = $2 AND result IS NULL)"
_ANSWERS = """
    SELECT service_uuid, service_inquiry.host_uuid, kind, service_inquiry.result, operation_step.error
    FROM service_inquiry LEFT JOIN operation_step
        ON operation_step.operation_uuid = service_inquiry.operation_uuid
           AND operation_step.host_uuid = service_inquiry.host_uuid
    WHERE service_inquiry.operation_uuid = $1 ORDER BY service_uuid, host_uuid
"""


async def add(
    connection: Connection,
    operation_uuid: UUID,
    asked: Iterable[ServiceOrder],
    commands: Mapping[tuple[UUID, UUID], UUID],
) -> None:
    """Args:
    commands: that ask, by (host, instance); none for a host that is away.
    """
    rows = list(asked)
    await connection.execute(
        _ADD,
        operation_uuid,
        [one.service_uuid for one in rows],
        [one.host_uuid for one in rows],
        [one.kind for one in rows],
        [commands.get((one.host_uuid, one.service_uuid)) for one in rows],
    )


async def of_command(connection: Connection, host_uuid: UUID, command_id: UUID) -> list[UUID]:
    return [row["operation_uuid"] for row in await connection.fetch(_OF_COMMAND, host_uuid, command_id)]


async def record(
    connection: Connection, operation_uuid: UUID, host_uuid: UUID, results: Iterable[ServiceResult]
) -> bool:
    """Keep what the host says; true if it has said all that it was asked."""
    said = list(results)
    await connection.execute(
        _RECORD,
        operation_uuid,
        host_uuid,
        [one.service_uuid for one in said],
        [one.model_dump(mode="json") for one in said],
    )
    return not await connection.fetchval(_OPEN, operation_uuid, host_uuid)


async def answers(connection: Connection, operation_uuid: UUID) -> list[ServiceCheck]:
    return [
        _check(row["service_uuid"], row["kind"], row["host_uuid"], row["result"], row["error"])
        for row in await connection.fetch(_ANSWERS, operation_uuid)
    ]


def _check(service_uuid: UUID, kind: str, host_uuid: UUID, result: object, error: object) -> ServiceCheck:
    if result is None:
        away = HostUnreachable("the host is not connected", hostUuid=str(host_uuid)).to_body()
        why = away if error is None else ErrorBody.model_validate(error)
        return ServiceCheck(service_uuid=service_uuid, kind=kind, host_uuid=host_uuid, status="unreachable", error=why)
    said = ServiceResult.model_validate(result)
    return ServiceCheck(
        service_uuid=service_uuid,
        kind=kind,
        host_uuid=host_uuid,
        status=said.status if said.status is not None and said.error is None else "failed",
        differences=said.differences,
        steps=said.steps,
        error=said.error,
    )
