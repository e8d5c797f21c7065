"""Commands to agents about service instances, their completions, and reports of drift."""

from typing import Any, ClassVar, Literal
from uuid import UUID

from pydantic import Field

from viaduct_common.messages.agent import Outcome
from viaduct_common.messages.base import Command, ErrorBody, Report, WireModel
from viaduct_common.messages.fields import Generation
from viaduct_common.messages.l2 import Difference


class ServiceDesired(WireModel):
    """The whole desired state of one service instance on one host. `kind` names the backend, which knows what `spec`
    is; for a removal it may be empty."""

    service_uuid: UUID
    kind: str
    generation: Generation
    spec: dict[str, Any] = Field(default_factory=dict)


class ApplyServicesCommand(Command):
    """Make each instance so; applying the same generation again changes nothing."""

    message_type: ClassVar[str] = "service.apply"

    items: list[ServiceDesired]


class RemoveServicesCommand(Command):
    """Take each instance away; what is gone already is no error."""

    message_type: ClassVar[str] = "service.remove"

    items: list[ServiceDesired]


class CheckServicesCommand(Command):
    """Compare and plan; strictly read-only."""

    message_type: ClassVar[str] = "service.check"

    items: list[ServiceDesired]


class SyncServicesCommand(Command):
    """The full desired set of a host: apply what is missing or drifted, remove what is not listed. `listed` are
    instances that are to stay though they are not among `items`."""

    message_type: ClassVar[str] = "service.sync"

    items: list[ServiceDesired]
    listed: list[UUID] = Field(default_factory=list)


class ServiceResult(WireModel):
    """What became of one item. `status`, `differences` and `steps` answer a check only."""

    service_uuid: UUID
    generation: Generation
    outcome: Outcome
    changes: list[str] = Field(default_factory=list)
    took_ms: float = 0.0
    error: ErrorBody | None = None
    status: Literal["ok", "missing", "drifted"] | None = None
    differences: list[Difference] = Field(default_factory=list)
    steps: list[str] = Field(default_factory=list)


class ServiceCompletion(Report):
    """The answer to one command about services; `removed` is what a sync took away because it was not listed."""

    message_type: ClassVar[str] = "service.completion"

    command: str
    command_id: UUID
    items: list[ServiceResult]
    removed: list[UUID] = Field(default_factory=list)


class ServiceDrift(Report):
    """A service instance was changed by another hand, or a program of it ended, and whether it was repaired."""

    message_type: ClassVar[str] = "service.drift"

    session_id: UUID
    service_uuid: UUID
    generation: Generation
    differences: list[Difference]
    repaired: bool
    error: ErrorBody | None = None
