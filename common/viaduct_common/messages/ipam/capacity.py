"""How full L3 networks are."""

from typing import Any, ClassVar
from uuid import UUID

from viaduct_common.messages.base import Request, Role, WireModel
from viaduct_common.messages.ipam.terms import IpamRequestMixin, UuidList


class IpCapacity(WireModel):
    """`total` counts what can ever be handed out; `cooling` what was released and rests before it is given to another
    owner; `reserved` what is reserved and neither. `total = used + cooling + reserved + available`."""

    total: int
    used: int
    reserved: int
    available: int
    cooling: int = 0


class GetIpCapacity(IpamRequestMixin, Request[IpCapacity]):
    """The sum over the named L3 networks, ranges or zones (exactly one of the three lists)."""

    message_type: ClassVar[str] = "ip.capacity"
    required_role: ClassVar[Role] = "reader"
    mutating: ClassVar[bool] = False

    l3_network_uuids: UuidList | None = None
    range_uuids: UuidList | None = None
    zone_uuids: UuidList | None = None


class ScopeFill(WireModel):
    """How full an L3 network is, of one IP version: the level it crossed (0, 80, 95 or 100 %) and the numbers."""

    l3_network_uuid: UUID
    l2_network_uuid: UUID
    zone_uuid: UUID
    ip_version: int
    level: int
    capacity: IpCapacity


class IpamEvent(WireModel):
    """The body of all of IPAM's events: `range.*`, `scope.deleted`, `scope.filled`, `scope.relieved`, `ip.expired`."""

    subject: dict[str, Any]
