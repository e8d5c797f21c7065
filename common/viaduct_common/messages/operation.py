"""Operations: long requests, with one step per host, that end in a true state whatever dies meanwhile."""

from typing import ClassVar
from uuid import UUID

from pydantic import AwareDatetime, Field

from viaduct_common.messages.base import ErrorBody, Event, Page, QueryBody, Request, Role, StrictModel, WireModel
from viaduct_common.messages.fields import FilterText, OneOrMany


class OperationStep(WireModel):
    """One host's part: `phase` is when it was asked (`preflight`, `check`, `realize`, `release`, `rollback`);
    `state` is `pending`, `done`, `failed`, `skipped` (the host was away; it converges when it returns) or
    `superseded`."""

    host_uuid: UUID
    phase: str
    state: str
    generation: int | None = None
    changes: list[str] = Field(default_factory=list)
    error: ErrorBody | None = None
    started_at: AwareDatetime
    finished_at: AwareDatetime | None = None


class OperationInventory(WireModel):
    """`state` is `running`, `succeeded` or `failed`; `phase` says what is going on: `preflight`, `realize`,
    `allocate`, `release`, `rollback`, `ended`."""

    uuid: UUID
    type: str
    state: str
    phase: str
    l2_network_uuid: UUID | None = None
    cluster_uuid: UUID | None = None
    host_uuid: UUID | None = None
    vm_uuid: UUID | None = None
    error: ErrorBody | None = None
    steps: list[OperationStep] = Field(default_factory=list)
    created_at: AwareDatetime
    deadline_at: AwareDatetime
    finished_at: AwareDatetime | None = None


class OperationFilters(StrictModel):
    uuid: OneOrMany[UUID] | None = None
    state: OneOrMany[FilterText] | None = None
    type: OneOrMany[FilterText] | None = None
    l2_network_uuid: OneOrMany[UUID] | None = None
    cluster_uuid: OneOrMany[UUID] | None = None
    vm_uuid: OneOrMany[UUID] | None = None


class GetOperation(Request[OperationInventory]):
    """State, per-host steps, errors and timings of one operation."""

    message_type: ClassVar[str] = "operation.get"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    uuid: UUID


class QueryOperations(Request[Page[OperationInventory]], QueryBody):
    """Operations by filters, without their steps."""

    message_type: ClassVar[str] = "operation.query"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    filters: OperationFilters = OperationFilters()


class OperationFinished(Event):
    message_type: ClassVar[str] = "operation.finished"

    operation: OperationInventory
