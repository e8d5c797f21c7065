"""Clusters: groups of hosts of one hypervisor type; L2 networks are attached to clusters."""

from typing import ClassVar, Literal
from uuid import UUID

from pydantic import AwareDatetime

from viaduct_common.messages.base import Page, QueryBody, Request, Role, StrictModel, WireModel
from viaduct_common.messages.fields import Description, Name, OneOrMany, Revision


class ClusterInventory(WireModel):
    uuid: UUID
    zone_uuid: UUID
    name: str
    description: str | None = None
    hypervisor_type: str
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
    """Change name or description; with `revision`, only if nobody changed it since."""

    message_type: ClassVar[str] = "cluster.update"

    uuid: UUID
    name: Name | None = None
    description: Description | None = None
    revision: Revision | None = None


class DeleteCluster(Request[ClusterInventory | None]):
    """Delete a cluster that has neither hosts nor L2 networks."""

    message_type: ClassVar[str] = "cluster.delete"

    uuid: UUID
