"""Clusters: groups of hosts of one hypervisor type; L2 networks are attached to clusters."""

from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

from viaduct_common.messages.base import Page, QueryBody, Request, Role, StrictModel, WireModel
from viaduct_common.messages.fields import Description, FilterText, Name, OneOrMany, Revision

# By L2 type the backend that builds it on the cluster's hosts; a type that is not named has its usual one.
Backends = Annotated[dict[FilterText, FilterText], Field(max_length=64)]


class ClusterInventory(WireModel):
    uuid: UUID
    zone_uuid: UUID
    name: str
    description: str | None = None
    hypervisor_type: str
    backends: dict[str, str] = Field(default_factory=dict)
    revision: int
    created_at: AwareDatetime
    updated_at: AwareDatetime


class ClusterFilters(StrictModel):
    uuid: OneOrMany[UUID] | None = None
    name: OneOrMany[Name] | None = None
    zone_uuid: OneOrMany[UUID] | None = None


class CreateCluster(Request[ClusterInventory]):
    """Create a cluster in a zone."""

    message_type: ClassVar[str] = "cluster.create"

    zone_uuid: UUID
    name: Name
    description: Description | None = None
    hypervisor_type: Literal["KVM"] = "KVM"
    backends: Backends = Field(default_factory=dict)
    uuid: UUID | None = None


class GetCluster(Request[ClusterInventory]):
    """Get one cluster."""

    message_type: ClassVar[str] = "cluster.get"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    uuid: UUID


class QueryClusters(Request[Page[ClusterInventory]], QueryBody):
    """Clusters by filters."""

    message_type: ClassVar[str] = "cluster.query"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    filters: ClusterFilters = ClusterFilters()


class UpdateCluster(Request[ClusterInventory]):
    """Change name, description or backends; with `revision`, only if nobody changed it since.

    The backend of a type of which a network is attached to the cluster cannot be changed.
    """

    message_type: ClassVar[str] = "cluster.update"

    uuid: UUID
    name: Name | None = None
    description: Description | None = None
    backends: Backends | None = None
    revision: Revision | None = None


class DeleteCluster(Request[ClusterInventory | None]):
    """Delete a cluster that has neither hosts nor L2 networks."""

    message_type: ClassVar[str] = "cluster.delete"

    uuid: UUID
