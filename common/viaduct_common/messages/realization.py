"""Realizations: one row per (L2 network, host), desired and observed."""

from typing import ClassVar
from uuid import UUID

from pydantic import AwareDatetime

from viaduct_common.messages.base import ErrorBody, Page, QueryBody, Request, Role, StrictModel, WireModel
from viaduct_common.messages.fields import FilterText, OneOrMany


class RealizationInventory(WireModel):
    """`desired` is `present` or `absent`; `state` is `pending`, `realizing`, `realized`, `failed` or `releasing`."""

    l2_network_uuid: UUID
    host_uuid: UUID
    desired: str
    generation: int
    observed_generation: int | None = None
    state: str
    error: ErrorBody | None = None
    since: AwareDatetime


class RealizationFilters(StrictModel):
    l2_network_uuid: OneOrMany[UUID] | None = None
    host_uuid: OneOrMany[UUID] | None = None
    state: OneOrMany[FilterText] | None = None


class QueryRealizations(Request[Page[RealizationInventory]], QueryBody):
    """Rows of desired and observed state."""

    message_type: ClassVar[str] = "realization.query"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    filters: RealizationFilters = RealizationFilters()
