"""From rows to the model's values, and from masks to Postgres' bit strings."""

from collections.abc import Mapping
from typing import Any

import asyncpg

from viaduct_ipam.model.blocks import BLOCK_SIZE
from viaduct_ipam.model.ranges import Bounds, Range
from viaduct_ipam.model.reservations import Reservation
from viaduct_ipam.store.api import Scope, UsedIp

Row = Mapping[str, Any]

# For SELECTs that join ip_range AS r; `range_of` reads these names.
RANGE_COLUMNS = """
    r.uuid AS range_uuid, r.name AS range_name, r.type AS range_type, r.l3_network_uuid, r.start_ip, r.end_ip,
    r.prefix_length, r.gateway, r.used_count, r.last_given, r.created_at AS range_created_at
"""


def scope_of(row: Row) -> Scope:
    last_given = {4: row["last_given_v4"], 6: row["last_given_v6"]}
    return Scope(
        l3_network_uuid=row["l3_network_uuid"],
        l2_network_uuid=row["l2_network_uuid"],
        zone_uuid=row["zone_uuid"],
        strategy=row["strategy"],
        last_given={version: ip for version, ip in last_given.items() if ip is not None},
        created_at=row["created_at"],
    )


def range_of(row: Row) -> Range:
    return Range(
        uuid=row["range_uuid"],
        l3_network_uuid=row["l3_network_uuid"],
        name=row["range_name"],
        bounds=Bounds(row["range_type"], row["start_ip"], row["end_ip"], row["prefix_length"], row["gateway"]),
        used_count=row["used_count"],
        last_given=row["last_given"],
        created_at=row["range_created_at"],
    )


def reservation_of(row: Row) -> Reservation:
    return Reservation(
        uuid=row["uuid"],
        l3_network_uuid=row["l3_network_uuid"],
        first=row["start_ip"],
        last=row["end_ip"],
        reason=row["reason"],
        created_at=row["created_at"],
    )


def used_ip_of(row: Row) -> UsedIp:
    return UsedIp(row["uuid"], row["ip"], range_of(row), row["owner"], row["allocated_at"])


def bit_string(mask: int) -> asyncpg.BitString:
    """Bit k of the mask is the k-th from the left."""
    return asyncpg.BitString.from_int(mask, BLOCK_SIZE, bitorder="little")


def mask_of_bits(bits: asyncpg.BitString) -> int:
    mask: int = bits.to_int(bitorder="little")
    return mask
