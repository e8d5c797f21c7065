"""Hosts: one agent each, its own queue, its own broker user."""

from typing import Annotated, Any, ClassVar
from uuid import UUID

from pydantic import AwareDatetime, Field

from viaduct_common.messages.agent import Orphan
from viaduct_common.messages.base import Page, QueryBody, Request, Role, StrictModel, WireModel
from viaduct_common.messages.fields import (
    Description,
    FilterText,
    IpAddress,
    Label,
    Name,
    OneOrMany,
    Revision,
    TimeoutSeconds,
)

Labels = Annotated[dict[Label, Label], Field(max_length=64)]


class HostCredentials(WireModel):
    """How the agent of a host logs in to the broker; shown in the answer to `host.create` only."""

    username: str
    password: str = Field(repr=False)
    queue: str


class HostInventory(WireModel):
    """`state` is `connecting`, `connected` or `disconnected`, by heartbeats on the database's clock."""

    uuid: UUID
    cluster_uuid: UUID
    name: str
    description: str | None = None
    tunnel_ip: IpAddress | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    maintenance: bool = False
    state: str
    agent_version: str | None = None
    capabilities: list[str] = Field(default_factory=list)
    interfaces: list[dict[str, Any]] = Field(default_factory=list)
    health: list[dict[str, Any]] = Field(default_factory=list)
    last_seen_at: AwareDatetime | None = None
    credentials: HostCredentials | None = None
    revision: int
    created_at: AwareDatetime
    updated_at: AwareDatetime


class HostFilters(StrictModel):
    uuid: OneOrMany[UUID] | None = None
    name: OneOrMany[Name] | None = None
    cluster_uuid: OneOrMany[UUID] | None = None
    state: OneOrMany[FilterText] | None = None


class CreateHost(Request[HostInventory]):
    """Register a host: its queue is declared, its broker user made, its credentials are in the answer."""

    message_type: ClassVar[str] = "host.create"
    required_role: ClassVar[Role] = "admin"

    cluster_uuid: UUID
    name: Name
    description: Description | None = None
    tunnel_ip: IpAddress | None = None
    labels: Labels = Field(default_factory=dict)
    uuid: UUID | None = None


class GetHost(Request[HostInventory]):
    """Get one host."""

    message_type: ClassVar[str] = "host.get"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    uuid: UUID


class QueryHosts(Request[Page[HostInventory]], QueryBody):
    """Hosts by filters."""

    message_type: ClassVar[str] = "host.query"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    filters: HostFilters = HostFilters()


class UpdateHost(Request[HostInventory]):
    """Change name, description, labels or the tunnels' address; with `revision`, only if nobody changed it since."""

    message_type: ClassVar[str] = "host.update"

    uuid: UUID
    name: Name | None = None
    description: Description | None = None
    labels: Labels | None = None
    tunnel_ip: IpAddress | None = None
    revision: Revision | None = None


class SetHostMaintenance(Request[HostInventory]):
    """In maintenance a host gets no new work and blocks none; it catches up when maintenance ends."""

    message_type: ClassVar[str] = "host.setMaintenance"

    uuid: UUID
    maintenance: bool


class MoveHost(Request[HostInventory]):
    """Move a host to another cluster of its zone: it releases what only the old one has, and realises what the new has.

    Refused while VMs' NICs are on the host, unless the new cluster has their networks, too.
    """

    message_type: ClassVar[str] = "host.move"
    required_role: ClassVar[Role] = "admin"

    uuid: UUID
    cluster_uuid: UUID
    wait: bool = True
    timeout_seconds: TimeoutSeconds = 60


class ListOrphans(Request[list[Orphan]]):
    """What a connected host has with our mark and should not have, and the wanted names that are taken there."""

    message_type: ClassVar[str] = "host.orphans"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    uuid: UUID
    timeout_seconds: TimeoutSeconds = 30


class SweepOrphans(Request[list[Orphan]]):
    """Release what a connected host has with our mark and should not have; with `force` also what is in use."""

    message_type: ClassVar[str] = "host.sweepOrphans"

    uuid: UUID
    force: bool = False
    timeout_seconds: TimeoutSeconds = 60


class DeleteHost(Request[HostInventory | None]):
    """Remove a host: what it realised is released first if it is connected; then its queue and user go."""

    message_type: ClassVar[str] = "host.delete"
    required_role: ClassVar[Role] = "admin"

    uuid: UUID
    timeout_seconds: int = Field(default=60, strict=True, ge=1, le=3600)
