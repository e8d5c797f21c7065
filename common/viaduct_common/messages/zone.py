"""Zones: the outermost grouping; an L2 network and the clusters it is attached to lie in one zone."""

from typing import ClassVar
from uuid import UUID

from pydantic import AwareDatetime

from viaduct_common.messages.base import Page, QueryBody, Request, Role, StrictModel, WireModel
from viaduct_common.messages.fields import Description, Name, OneOrMany, Revision


class ZoneInventory(WireModel):
    uuid: UUID
    name: str
    description: str | None = None
    revision: int
    created_at: AwareDatetime
    updated_at: AwareDatetime


class ZoneFilters(StrictModel):
    uuid: OneOrMany[UUID] | None = None
    name: OneOrMany[Name] | None = None


class CreateZone(Request[ZoneInventory]):
    """Create a zone."""

    message_type: ClassVar[str] = "zone.create"

    name: Name
    description: Description | None = None
    uuid: UUID | None = None


class GetZone(Request[ZoneInventory]):
    """Get one zone."""

    message_type: ClassVar[str] = "zone.get"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    uuid: UUID


class QueryZones(Request[Page[ZoneInventory]], QueryBody):
    """Zones by filters."""

    message_type: ClassVar[str] = "zone.query"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    filters: ZoneFilters = ZoneFilters()


class UpdateZone(Request[ZoneInventory]):
    """Change name or description; with `revision`, only if nobody changed it since."""

    message_type: ClassVar[str] = "zone.update"

    uuid: UUID
    name: Name | None = None
    description: Description | None = None
    revision: Revision | None = None


class DeleteZone(Request[ZoneInventory | None]):
    """Delete an empty zone; the value is what was deleted, null if there was none."""

    message_type: ClassVar[str] = "zone.delete"

    uuid: UUID
