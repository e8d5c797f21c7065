"""Scopes: the L3 networks that IPAM knows."""

from typing import ClassVar
from uuid import UUID

from pydantic import AwareDatetime

from viaduct_common.messages.base import Page, QueryBody, Request, Role, StrictModel, WireModel
from viaduct_common.messages.fields import (
    OneOrMany,
)
from viaduct_common.messages.ipam.terms import (
    CoolingSeconds,
    IpamRequestMixin,
    Strategy,
)


class ScopeInventory(WireModel):
    """What IPAM knows of an L3 network."""

    l3_network_uuid: UUID
    l2_network_uuid: UUID
    zone_uuid: UUID
    strategy: Strategy
    cooling_seconds: int = 0
    created_at: AwareDatetime


class RegisterScope(IpamRequestMixin, Request[ScopeInventory]):
    """Make an L3 network known; the manager calls it inside `l3.create`.

    The same registration again is no error, and changes the strategy and the cooling time if it names them; at first
    they are `firstAvailable` and 0. A released address is given to nobody but its former owner until the cooling time
    is over."""

    message_type: ClassVar[str] = "scope.register"

    l3_network_uuid: UUID
    l2_network_uuid: UUID
    zone_uuid: UUID
    strategy: Strategy | None = None
    cooling_seconds: CoolingSeconds | None = None


class GetScope(IpamRequestMixin, Request[ScopeInventory]):
    """Get one scope."""

    message_type: ClassVar[str] = "scope.get"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    l3_network_uuid: UUID


class ScopeFilters(StrictModel):
    l3_network_uuid: OneOrMany[UUID] | None = None
    l2_network_uuid: OneOrMany[UUID] | None = None
    zone_uuid: OneOrMany[UUID] | None = None


class QueryScopes(IpamRequestMixin, Request[Page[ScopeInventory]], QueryBody):
    """Scopes by filters."""

    message_type: ClassVar[str] = "scope.query"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    filters: ScopeFilters = ScopeFilters()


class DeleteScope(IpamRequestMixin, Request[ScopeInventory | None]):
    """Forget an L3 network with its ranges and reservations; `IN_USE` while an address is allocated."""

    message_type: ClassVar[str] = "scope.delete"

    l3_network_uuid: UUID
