"""Reservations that overlap, and the counters of what is taken in them."""

from collections.abc import Sequence
from uuid import UUID

from viaduct_common.postgres.pool import Connection
from viaduct_ipam.model.ranges import Address
from viaduct_ipam.model.reservations import Reservation, reserved_by_one_alone
from viaduct_ipam.store.rows import reservation_of

_OVER = """
    SELECT * FROM reservation WHERE l3_network_uuid = $1 AND start_ip <= $3 AND end_ip >= $2 ORDER BY start_ip, uuid
"""
# The intervals are disjoint: no address is counted twice.
_COUNT = """
    WITH part AS (
        SELECT * FROM unnest($2::inet[], $3::inet[]) AS part(first, last)
    ), taken AS (
        SELECT range_uuid, count(*) FROM (
            SELECT u.range_uuid FROM part
            JOIN used_ip u ON u.l3_network_uuid = $1 AND u.ip >= part.first AND u.ip <= part.last
            UNION ALL
            SELECT c.range_uuid FROM part
            JOIN cooling_ip c ON c.l3_network_uuid = $1 AND c.ip >= part.first AND c.ip <= part.last
        ) AS addresses GROUP BY range_uuid
    )
    UPDATE ip_range SET taken_reserved_count = taken_reserved_count + $4::int * taken.count
    FROM taken WHERE ip_range.uuid = taken.range_uuid
"""


async def reservations_over(
    connection: Connection, l3_network_uuid: UUID, first: Address, last: Address
) -> Sequence[Reservation]:
    """Those that hold an address from `first` to `last`, both inclusive."""
    return [reservation_of(row) for row in await connection.fetch(_OVER, l3_network_uuid, first, last)]


async def count_reserved(
    connection: Connection, l3_network_uuid: UUID, first: Address, last: Address, *, sign: int
) -> None:
    """Change the counters by what a reservation from `first` to `last` reserves beside all that are stored.

    It looks at no more than the addresses that are taken in this reservation.

    Args:
        sign: 1 for one that is not stored yet, -1 for one that no longer is.
    """
    others = await reservations_over(connection, l3_network_uuid, first, last)
    parts = reserved_by_one_alone(first, last, others)
    if parts:
        firsts, lasts = [low for low, _ in parts], [high for _, high in parts]
        await connection.execute(_COUNT, l3_network_uuid, firsts, lasts, sign)
