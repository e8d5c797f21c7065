"""Requests to IPAM, the service `ipam`."""

from viaduct_common.messages.ipam.addresses import (
    AllocateIp,
    CheckIp,
    GetFreeIps,
    GetIp,
    IpAvailability,
    QueryIps,
    ReleaseIp,
    RenewIps,
    UsedIpFilters,
    UsedIpInventory,
)
from viaduct_common.messages.ipam.capacity import GetIpCapacity, IpamEvent, IpCapacity, ScopeFill
from viaduct_common.messages.ipam.holdings import AuditIps, HoldingFilters, IpAudit, IpHolding, QueryHistory, ReclaimIps
from viaduct_common.messages.ipam.ranges import (
    CreateRange,
    DeleteRange,
    GetRange,
    QueryRanges,
    RangeFilters,
    RangeInventory,
)
from viaduct_common.messages.ipam.reservations import (
    CreateReservation,
    DeleteReservation,
    QueryReservations,
    ReservationFilters,
    ReservationInventory,
)
from viaduct_common.messages.ipam.scopes import (
    DeleteScope,
    GetScope,
    QueryScopes,
    RegisterScope,
    ScopeFilters,
    ScopeInventory,
)
from viaduct_common.messages.ipam.terms import AddressMode, IpamRequestMixin, Strategy, UnavailableReason

__all__ = [
    "AddressMode",
    "AllocateIp",
    "AuditIps",
    "CheckIp",
    "CreateRange",
    "CreateReservation",
    "DeleteRange",
    "DeleteReservation",
    "DeleteScope",
    "GetFreeIps",
    "GetIp",
    "GetIpCapacity",
    "GetRange",
    "GetScope",
    "HoldingFilters",
    "IpAudit",
    "IpAvailability",
    "IpCapacity",
    "IpHolding",
    "IpamEvent",
    "IpamRequestMixin",
    "QueryHistory",
    "QueryIps",
    "QueryRanges",
    "QueryReservations",
    "QueryScopes",
    "RangeFilters",
    "RangeInventory",
    "ReclaimIps",
    "RegisterScope",
    "ReleaseIp",
    "RenewIps",
    "ReservationFilters",
    "ReservationInventory",
    "ScopeFill",
    "ScopeFilters",
    "ScopeInventory",
    "Strategy",
    "UnavailableReason",
    "UsedIpFilters",
    "UsedIpInventory",
]
