"""From stored values to what stands on the wire."""

from viaduct_common.messages.ipam import RangeInventory, ReservationInventory, ScopeInventory, UsedIpInventory
from viaduct_ipam.model.ranges import Range
from viaduct_ipam.model.reservations import Reservation
from viaduct_ipam.store.api import Scope, UsedIp


def scope_inventory(scope: Scope) -> ScopeInventory:
    return ScopeInventory.model_validate(
        {
            "l3_network_uuid": scope.l3_network_uuid,
            "l2_network_uuid": scope.l2_network_uuid,
            "zone_uuid": scope.zone_uuid,
            "strategy": scope.strategy,
            "cooling_seconds": scope.cooling_seconds,
            "created_at": scope.created_at,
        }
    )


def range_inventory(one: Range) -> RangeInventory:
    bounds = one.bounds
    return RangeInventory(
        uuid=one.uuid,
        name=one.name,
        type=bounds.type,
        l3_network_uuid=one.l3_network_uuid,
        start_ip=bounds.first,
        end_ip=bounds.last,
        netmask=bounds.network.netmask,
        prefix_length=bounds.prefix_length,
        gateway=bounds.gateway,
        network_cidr=str(bounds.network),
        ip_version=bounds.version,
        address_mode=bounds.address_mode,
        created_at=one.created_at,
    )


def reservation_inventory(one: Reservation) -> ReservationInventory:
    return ReservationInventory(
        uuid=one.uuid,
        l3_network_uuid=one.l3_network_uuid,
        start_ip=one.first,
        end_ip=one.last,
        reason=one.reason,
        owner=one.owner,
        mac=one.mac,
        created_at=one.created_at,
    )


def used_ip_inventory(used: UsedIp) -> UsedIpInventory:
    bounds = used.range.bounds
    return UsedIpInventory(
        uuid=used.uuid,
        ip=used.ip,
        ip_version=used.ip.version,
        l3_network_uuid=used.range.l3_network_uuid,
        range_uuid=used.range.uuid,
        netmask=bounds.network.netmask,
        prefix_length=bounds.prefix_length,
        gateway=bounds.gateway,
        owner=used.owner,
        mac=used.mac,
        allocated_at=used.allocated_at,
        expires_at=used.expires_at,
    )
