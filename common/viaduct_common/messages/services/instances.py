"""Service instances: what a provider has running on hosts, asked for and waited on like realizations."""

from typing import ClassVar, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

from viaduct_common.messages.base import ErrorBody, Page, QueryBody, Request, Role, StrictModel, WireModel
from viaduct_common.messages.fields import FilterText, OneOrMany, TimeoutSeconds
from viaduct_common.messages.l2 import Difference


class ServiceInventory(WireModel):
    """One service instance on one host: a router, the rules of a security group, ...

    `subject_uuid` is what it is for: an L3 network, a NIC, a security group. `desired` is `present` or `absent`;
    `state` is `pending`, `applying`, `applied`, `failed` or `removing`. `host_uuid` is null while no host can have it;
    `error` says why.
    """

    service_uuid: UUID
    kind: str
    provider: str
    subject_uuid: UUID
    host_uuid: UUID | None
    desired: str
    generation: int
    observed_generation: int | None = None
    state: str
    error: ErrorBody | None = None
    since: AwareDatetime


class ServiceFilters(StrictModel):
    service_uuid: OneOrMany[UUID] | None = None
    kind: OneOrMany[FilterText] | None = None
    provider: OneOrMany[FilterText] | None = None
    subject_uuid: OneOrMany[UUID] | None = None
    host_uuid: OneOrMany[UUID] | None = None
    state: OneOrMany[FilterText] | None = None


class QueryServices(Request[Page[ServiceInventory]], QueryBody):
    """Service instances, desired and observed."""

    message_type: ClassVar[str] = "service.query"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    filters: ServiceFilters = ServiceFilters()


class ServiceCheck(WireModel):
    """What a host says of one instance. `differences` are those to what it should be; `steps` what would be done."""

    service_uuid: UUID
    kind: str
    host_uuid: UUID
    status: Literal["ok", "missing", "drifted", "unreachable", "failed"]
    differences: list[Difference] = Field(default_factory=list)
    steps: list[str] = Field(default_factory=list)
    error: ErrorBody | None = None


class CheckServices(Request[list[ServiceCheck]]):
    """Compare service instances with what their hosts have; strictly read-only. At least one filter is wanted.

    `subject_uuid` is as that of `service.await`.
    """

    message_type: ClassVar[str] = "service.check"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    service_uuid: UUID | None = None
    subject_uuid: UUID | None = None
    host_uuid: UUID | None = None
    timeout_seconds: TimeoutSeconds = 30


class AwaitServices(Request[list[ServiceInventory]]):
    """Wait until everything that was asked for about a subject is on its hosts; answers how it stands then.

    `subject_uuid` is an L3 network, a NIC, a security group, a VIP, an EIP or a port forwarding. It is answered once no
    change is on its way: with the instances, failed ones among them, or with `TIMEOUT`.
    """

    message_type: ClassVar[str] = "service.await"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    subject_uuid: UUID
    timeout_seconds: TimeoutSeconds = 30
