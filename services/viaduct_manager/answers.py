"""What the end of an operation is answered with."""

from viaduct_common.errors import HostUnreachable
from viaduct_common.messages.agent import Orphan
from viaduct_common.messages.base import ErrorBody, WireModel
from viaduct_common.messages.host import HostInventory
from viaduct_common.messages.l2 import HostCheck, HostPlan, L2Plan
from viaduct_common.messages.operation import OperationInventory
from viaduct_common.messages.services.instances import ServiceCheck
from viaduct_common.postgres.pool import Connection
from viaduct_manager.model import moves
from viaduct_manager.store import hosts, service_inquiries, steps
from viaduct_manager.store.operations import Operation
from viaduct_manager.store.steps import StepResult

# An error names every host's step; beyond this many only those that failed, so that it fits into one message.
MOST_STEPS_IN_AN_ERROR = 500


async def value_of(
    connection: Connection, operation: Operation, deleted_host: HostInventory | None
) -> WireModel | list[HostCheck] | list[Orphan] | list[ServiceCheck] | None:
    """The value of a success; None for those that are answered with the operation itself."""
    match operation.type:
        case moves.CHECK:
            return [_check(step) for step in await steps.results(connection, operation.uuid, operation.phase)]
        case moves.PLAN:
            asked = await steps.results(connection, operation.uuid, operation.phase)
            return L2Plan(action=operation.action or "", hosts=[_plan(step) for step in asked])
        case moves.DELETE_HOST:
            return deleted_host
        case moves.MOVE_HOST if operation.host_uuid is not None:
            return await hosts.get(connection, operation.host_uuid)
        case moves.ORPHANS | moves.SWEEP:
            return await steps.orphans(connection, operation.uuid)
        case _:
            is_check = operation.type == moves.CHECK_SERVICES
            return await service_inquiries.answers(connection, operation.uuid) if is_check else None


def with_operation(error: ErrorBody, operation: OperationInventory) -> ErrorBody:
    """The error of an operation: the first failing host's, with every host's step."""
    shown = operation.steps
    if len(shown) > MOST_STEPS_IN_AN_ERROR:
        shown = [step for step in shown if step.state == "failed"][:MOST_STEPS_IN_AN_ERROR]
    whole = operation.model_copy(update={"steps": shown})
    return error.model_copy(update={"details": {**error.details, "operation": whole.model_dump(mode="json")}})


def _check(step: StepResult) -> HostCheck:
    if step.result is None or step.result.status is None:
        return HostCheck(host_uuid=step.host_uuid, status="unreachable", error=step.error or _unreachable(step))
    return HostCheck(
        host_uuid=step.host_uuid,
        status=step.result.status,
        differences=step.result.differences,
        error=step.error,
    )


def _plan(step: StepResult) -> HostPlan:
    if step.result is None:
        return HostPlan(host_uuid=step.host_uuid, error=step.error or _unreachable(step))
    return HostPlan(host_uuid=step.host_uuid, steps=step.result.steps, error=step.error)


def _unreachable(step: StepResult) -> ErrorBody:
    return HostUnreachable("the host is not connected", hostUuid=str(step.host_uuid)).to_body()
