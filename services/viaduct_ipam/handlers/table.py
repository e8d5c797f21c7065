"""Which function answers which request type."""

from collections.abc import Awaitable, Callable
from typing import Any

from viaduct_common.messages import ipam
from viaduct_ipam.handlers import addresses, capacity, holdings, ranges, reservations, scopes
from viaduct_ipam.store.api import Store

Handler = Callable[[Any, Store], Awaitable[Any]]


def handlers() -> dict[str, Handler]:
    """By message type; what the engine does (`viaduct_ipam.engine`: allocations, audits) is not among them."""
    return {
        ipam.RegisterScope.message_type: scopes.register_scope,
        ipam.GetScope.message_type: scopes.get_scope,
        ipam.QueryScopes.message_type: scopes.query_scopes,
        ipam.DeleteScope.message_type: scopes.delete_scope,
        ipam.CreateRange.message_type: ranges.create_range,
        ipam.GetRange.message_type: ranges.get_range,
        ipam.QueryRanges.message_type: ranges.query_ranges,
        ipam.DeleteRange.message_type: ranges.delete_range,
        ipam.CreateReservation.message_type: reservations.create_reservation,
        ipam.QueryReservations.message_type: reservations.query_reservations,
        ipam.DeleteReservation.message_type: reservations.delete_reservation,
        ipam.ReleaseIp.message_type: addresses.release_ip,
        ipam.RenewIps.message_type: addresses.renew_ips,
        ipam.GetIp.message_type: addresses.get_ip,
        ipam.QueryIps.message_type: addresses.query_ips,
        ipam.CheckIp.message_type: addresses.check_ip,
        ipam.GetFreeIps.message_type: addresses.get_free_ips,
        ipam.QueryHistory.message_type: holdings.query_history,
        ipam.GetIpCapacity.message_type: capacity.get_ip_capacity,
    }
