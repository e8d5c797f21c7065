"""Ranges with their counters, and what is reserved beside them: what the capacity is made of."""

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from viaduct_common.postgres.pool import Connection
from viaduct_ipam.model.capacity import Usage
from viaduct_ipam.model.intervals import Interval, IntervalSet
from viaduct_ipam.store.rows import RANGE_COLUMNS, range_of

# One statement, one snapshot: so the parts always add up. A row is a range or a reservation, and each is read once.
_USAGES = f"""
    WITH ranges AS (
        SELECT {RANGE_COLUMNS} FROM ip_range r WHERE {{condition}}
    ), reserved AS (
        SELECT l3_network_uuid AS reserved_l3, start_ip AS reserved_first, end_ip AS reserved_last
        FROM reservation WHERE l3_network_uuid IN (SELECT l3_network_uuid FROM ranges)
    )
    SELECT * FROM ranges FULL JOIN reserved ON false
"""
_USAGES_OF_L3 = _USAGES.format(condition="r.l3_network_uuid = ANY($1::uuid[])")
_USAGES_OF_RANGES = _USAGES.format(condition="r.uuid = ANY($1::uuid[])")
_USAGES_OF_ZONES = _USAGES.format(
    condition="r.l3_network_uuid IN (SELECT l3_network_uuid FROM scope WHERE zone_uuid = ANY($1::uuid[]))"
)


async def usages_of_l3(connection: Connection, uuids: Collection[UUID]) -> list[Usage]:
    return _usages(await connection.fetch(_USAGES_OF_L3, list(uuids)))


async def usages_of_ranges(connection: Connection, uuids: Collection[UUID]) -> list[Usage]:
    return _usages(await connection.fetch(_USAGES_OF_RANGES, list(uuids)))


async def usages_of_zones(connection: Connection, uuids: Collection[UUID]) -> list[Usage]:
    return _usages(await connection.fetch(_USAGES_OF_ZONES, list(uuids)))


def _usages(rows: Sequence[Any]) -> list[Usage]:
    ranges = [range_of(row) for row in rows if row["range_uuid"] is not None]
    intervals: dict[tuple[UUID, int], list[Interval]] = {}
    for row in rows:
        if row["range_uuid"] is None:
            first = row["reserved_first"]
            part = (int(first), int(row["reserved_last"]))
            intervals.setdefault((row["reserved_l3"], first.version), []).append(part)
    reserved = {key: IntervalSet.of(parts) for key, parts in intervals.items()}
    return [Usage(one, reserved.get((one.l3_network_uuid, one.bounds.version), IntervalSet())) for one in ranges]
