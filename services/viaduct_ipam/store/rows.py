"""From rows to the model's values, and from masks to Postgres' bit strings."""

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from socket import inet_ntoa
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
    r.prefix_length, r.gateway, r.address_mode, r.used_count, r.cooling_count, r.taken_reserved_count, r.last_given,
    r.created_at AS range_created_at
"""

# For SELECTs from used_ip AS u; `used_ip_of` reads these and RANGE_COLUMNS.
USED_COLUMNS = "u.uuid, u.ip, u.owner, u.mac, u.allocated_at, u.expires_at"


def scope_of(row: Row) -> Scope:
    last_given = {4: row["last_given_v4"], 6: row["last_given_v6"]}
    return Scope(
        l3_network_uuid=row["l3_network_uuid"],
        l2_network_uuid=row["l2_network_uuid"],
        zone_uuid=row["zone_uuid"],
        strategy=row["strategy"],
        cooling_seconds=row["cooling_seconds"],
        last_given={version: ip for version, ip in last_given.items() if ip is not None},
        fill_levels={4: row["fill_level_v4"], 6: row["fill_level_v6"]},
        revision=row["revision"],
        layout_revision=row["layout_revision"],
        created_at=row["created_at"],
    )


def range_of(row: Row) -> Range:
    return Range(
        uuid=row["range_uuid"],
        l3_network_uuid=row["l3_network_uuid"],
        name=row["range_name"],
        bounds=Bounds(
            row["range_type"],
            row["start_ip"],
            row["end_ip"],
            row["prefix_length"],
            row["gateway"],
            row["address_mode"],
        ),
        used_count=row["used_count"],
        last_given=row["last_given"],
        cooling_count=row["cooling_count"],
        taken_reserved_count=row["taken_reserved_count"],
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
        owner=row["owner"],
        mac=row["mac"],
    )


def used_ip_of(row: Row) -> UsedIp:
    return UsedIp(
        uuid=row["uuid"],
        ip=row["ip"],
        range=range_of(row),
        owner=row["owner"],
        mac=row["mac"],
        allocated_at=row["allocated_at"],
        expires_at=row["expires_at"],
    )


# For statements: the type of a mask, and the first address of the block that `ip` is in.
BITS = f"bit({BLOCK_SIZE})"
BLOCK_OF_IP = f"""
    ip & CASE family(ip) WHEN 4 THEN inet '{IPv4Address(2**32 - BLOCK_SIZE)}'
                         ELSE inet '{IPv6Address(2**128 - BLOCK_SIZE)}' END
"""

# The lowest bit of a mask is the leftmost of a bit string. asyncpg's own conversion goes bit by bit.
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def bit_string(mask: int) -> asyncpg.BitString:
    """Bit k of the mask is the k-th from the left."""
    return asyncpg.BitString.frombytes(mask.to_bytes(BLOCK_SIZE // 8, "little").translate(_MIRRORED))


def mask_of_bits(bits: asyncpg.BitString) -> int:
    return int.from_bytes(bits.bytes.translate(_MIRRORED), "little")


def address_text(version: int, number: int) -> str:
    """The address as the wire and Postgres write it (RFC 5952)."""
    if version == 4:
        return inet_ntoa(number.to_bytes(4, "big"))
    return str(IPv6Address(number))
