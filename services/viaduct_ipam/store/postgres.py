"""The store in Postgres: what is read, and the lock of a scope.

READ COMMITTED is enough: what a decision rests on is read by a statement that began after the scope was locked.
"""

from collections.abc import Collection, Iterable, Sequence
from ipaddress import ip_address
from typing import Any
from uuid import UUID

import asyncpg

from viaduct_common import topology
from viaduct_common.bus import Outgoing
from viaduct_common.errors import InvalidRequest
from viaduct_common.messages.base import QueryBody, WireModel
from viaduct_common.messages.ipam import IpamEvent, QueryIps, QueryRanges, QueryReservations
from viaduct_common.postgres.outbox import enqueue
from viaduct_common.postgres.paging import Column, Listing, Rows, list_page
from viaduct_common.postgres.pool import Connection
from viaduct_ipam.model.blocks import BLOCK_SIZE, block_of
from viaduct_ipam.model.capacity import Usage
from viaduct_ipam.model.intervals import IntervalSet
from viaduct_ipam.model.ranges import Address, Bounds, Range
from viaduct_ipam.model.reservations import Reservation
from viaduct_ipam.store.api import Listed, LockedScope, Room, Scope, UsedIp
from viaduct_ipam.store.locked import PostgresLockedScope
from viaduct_ipam.store.rows import RANGE_COLUMNS, mask_of_bits, range_of, reservation_of, scope_of, used_ip_of

_ADD_SCOPE = """
    INSERT INTO scope (l3_network_uuid, l2_network_uuid, zone_uuid, strategy) VALUES ($1, $2, $3, $4)
    ON CONFLICT (l3_network_uuid) DO NOTHING
    RETURNING true
"""
_SCOPE = "SELECT * FROM scope WHERE l3_network_uuid = $1"
_LOCK_SCOPE = "SELECT * FROM scope WHERE l3_network_uuid = $1 FOR UPDATE"
_KNOWN_SCOPES = "SELECT l3_network_uuid FROM scope WHERE l3_network_uuid = ANY($1::uuid[])"
_RANGES = f"SELECT {RANGE_COLUMNS} FROM ip_range r WHERE r.l3_network_uuid = $1 ORDER BY r.start_ip"
_RANGE = f"SELECT {RANGE_COLUMNS} FROM ip_range r WHERE r.uuid = $1"
_RESERVATIONS = "SELECT * FROM reservation WHERE l3_network_uuid = $1 ORDER BY start_ip, uuid"
_RESERVATION = "SELECT * FROM reservation WHERE uuid = $1"
_USED = f"""
    SELECT u.uuid, u.ip, u.owner, u.allocated_at, {RANGE_COLUMNS}
    FROM used_ip u JOIN ip_range r ON r.uuid = u.range_uuid WHERE u.uuid = $1
"""
_USED_AMONG = "SELECT ip FROM used_ip WHERE l3_network_uuid = $1 AND ip = ANY($2::inet[])"
_SCOPES_OF_USED = "SELECT DISTINCT l3_network_uuid FROM used_ip WHERE uuid = ANY($1::uuid[]) ORDER BY 1"

# Two inserts that check one exclusion constraint at the same moment can each wait for the other, so ranges are added
# to an L2 network one at a time.
_LOCK_L2 = "SELECT pg_advisory_xact_lock(hashtextextended('viaduct ipam ranges of l2 ' || $1::uuid::text, 0))"
_OVERLAPPING = """
    SELECT r.uuid FROM ip_range r
    JOIN unnest($2::inet[], $3::inet[]) AS wanted(start_ip, end_ip)
      ON r.span && address_span(wanted.start_ip, wanted.end_ip, '[]')
    WHERE r.l2_network_uuid = $1
    ORDER BY r.start_ip LIMIT 1
"""

# The first block from $2 on that has room is the lowest of: $2 itself if it is not full, the next block that is
# stored and not full, and the one behind the first gap in the row of full blocks that starts at $2.
_ROOM = """
    WITH place AS (
        SELECT CASE
            WHEN NOT EXISTS (SELECT FROM address_block WHERE range_uuid = $1 AND first_ip = $2 AND is_full)
            THEN $2::inet
            ELSE least(
                (SELECT first_ip FROM address_block
                 WHERE range_uuid = $1 AND NOT is_full AND first_ip > $2 AND first_ip <= $3
                 ORDER BY first_ip LIMIT 1),
                (SELECT full_.first_ip + $5::bigint FROM address_block AS full_
                 WHERE full_.range_uuid = $1 AND full_.is_full AND full_.first_ip >= $2 AND full_.first_ip < $3
                   AND NOT EXISTS (SELECT FROM address_block AS next_
                                   WHERE next_.range_uuid = $1 AND next_.first_ip = full_.first_ip + $5::bigint)
                 ORDER BY full_.first_ip LIMIT 1)
            )
        END AS first_ip
    )
    SELECT place.first_ip AS window_ip, block.first_ip, block.used
    FROM place LEFT JOIN address_block AS block
      ON block.range_uuid = $1 AND block.first_ip >= place.first_ip AND block.first_ip < place.first_ip + $4::bigint
         AND block.first_ip <= $3
    WHERE place.first_ip IS NOT NULL
"""

# One statement, one snapshot: the parts always add up.
_USAGES = f"""
    SELECT {RANGE_COLUMNS}, reserved.starts, reserved.ends, reserved.used_count AS reserved_used_count
    FROM ip_range r
    CROSS JOIN LATERAL (
        SELECT array_agg(v.start_ip::inet) AS starts, array_agg(v.end_ip::inet) AS ends,
            (SELECT count(DISTINCT u.ip) FROM reservation w
             JOIN used_ip u ON u.l3_network_uuid = r.l3_network_uuid AND u.ip >= w.start_ip AND u.ip <= w.end_ip
             WHERE w.l3_network_uuid = r.l3_network_uuid AND u.range_uuid = r.uuid
               AND w.start_ip <= r.end_ip AND w.end_ip >= r.start_ip) AS used_count
        FROM reservation v
        WHERE v.l3_network_uuid = r.l3_network_uuid AND v.start_ip <= r.end_ip AND v.end_ip >= r.start_ip
    ) AS reserved
"""
_USAGES_OF_L3 = f"{_USAGES} WHERE r.l3_network_uuid = ANY($1::uuid[])"
_USAGES_OF_RANGES = f"{_USAGES} WHERE r.uuid = ANY($1::uuid[])"
_USAGES_OF_ZONES = f"""
    {_USAGES} WHERE r.l3_network_uuid IN (SELECT l3_network_uuid FROM scope WHERE zone_uuid = ANY($1::uuid[]))
"""

_RANGE_LISTING = Listing(
    select=f"""
        SELECT {RANGE_COLUMNS}, family(r.start_ip) AS ip_version FROM ip_range r
    """,
    columns={
        "uuid": Column("range_uuid", "uuid"),
        "l3NetworkUuid": Column("l3_network_uuid", "uuid"),
        "type": Column("range_type", "text"),
        "ipVersion": Column("ip_version", "integer"),
        "name": Column("coalesce(range_name, '')", "text"),
        "startIp": Column("start_ip", "inet"),
        "createdAt": Column("range_created_at", "timestamptz"),
    },
    key=Column("range_uuid", "uuid"),
    default_sort="startIp",
)
_RESERVATION_LISTING = Listing(
    select="SELECT * FROM reservation",
    columns={
        "uuid": Column("uuid", "uuid"),
        "l3NetworkUuid": Column("l3_network_uuid", "uuid"),
        "startIp": Column("start_ip", "inet"),
        "createdAt": Column("created_at", "timestamptz"),
    },
    key=Column("uuid", "uuid"),
    default_sort="startIp",
)
_USED_LISTING = Listing(
    select=f"""
        SELECT u.uuid, u.ip, u.owner, u.allocated_at, {RANGE_COLUMNS}, u.l3_network_uuid AS used_l3_network_uuid
        FROM used_ip u JOIN ip_range r ON r.uuid = u.range_uuid
    """,
    columns={
        "uuid": Column("uuid", "uuid"),
        "l3NetworkUuid": Column("used_l3_network_uuid", "uuid"),
        "rangeUuid": Column("range_uuid", "uuid"),
        "ip": Column("ip", "inet"),
        # NULL compares with nothing, so a cursor could not point at it; the filter keeps to the index.
        "owner": Column("coalesce(owner, '')", "text", condition="owner = ANY({})"),
        "allocatedAt": Column("allocated_at", "timestamptz"),
    },
    key=Column("uuid", "uuid"),
    default_sort="ip",
)


class PostgresStore:
    """`viaduct_ipam.store.api.Store` on a connection that is in a transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # ---- scopes ----------------------------------------------------------------------------------------------

    async def add_scope(self, l3_network_uuid: UUID, l2_network_uuid: UUID, zone_uuid: UUID, strategy: str) -> bool:
        added = await self._connection.fetchval(_ADD_SCOPE, l3_network_uuid, l2_network_uuid, zone_uuid, strategy)
        return bool(added)

    async def lock_scope(self, l3_network_uuid: UUID) -> LockedScope | None:
        row = await self._connection.fetchrow(_LOCK_SCOPE, l3_network_uuid)
        return PostgresLockedScope(self._connection, scope_of(row)) if row else None

    async def find_scope(self, l3_network_uuid: UUID) -> Scope | None:
        row = await self._connection.fetchrow(_SCOPE, l3_network_uuid)
        return scope_of(row) if row else None

    async def known_scopes(self, l3_network_uuids: Collection[UUID]) -> set[UUID]:
        return {row[0] for row in await self._connection.fetch(_KNOWN_SCOPES, list(l3_network_uuids))}

    async def scopes_of_used(self, uuids: Collection[UUID]) -> list[UUID]:
        return [row[0] for row in await self._connection.fetch(_SCOPES_OF_USED, list(uuids))]

    # ---- ranges and reservations -----------------------------------------------------------------------------

    async def ranges_of(self, l3_network_uuid: UUID) -> Sequence[Range]:
        return [range_of(row) for row in await self._connection.fetch(_RANGES, l3_network_uuid)]

    async def reservations_of(self, l3_network_uuid: UUID) -> Sequence[Reservation]:
        return [reservation_of(row) for row in await self._connection.fetch(_RESERVATIONS, l3_network_uuid)]

    async def find_range(self, uuid: UUID) -> Range | None:
        row = await self._connection.fetchrow(_RANGE, uuid)
        return range_of(row) if row else None

    async def find_reservation(self, uuid: UUID) -> Reservation | None:
        row = await self._connection.fetchrow(_RESERVATION, uuid)
        return reservation_of(row) if row else None

    async def overlapping(self, l2_network_uuid: UUID, bounds: Sequence[Bounds]) -> UUID | None:
        await self._connection.execute(_LOCK_L2, l2_network_uuid)
        starts, ends = [one.first for one in bounds], [one.last for one in bounds]
        found: UUID | None = await self._connection.fetchval(_OVERLAPPING, l2_network_uuid, starts, ends)
        return found

    # ---- addresses -------------------------------------------------------------------------------------------

    async def find_used(self, uuid: UUID) -> UsedIp | None:
        row = await self._connection.fetchrow(_USED, uuid)
        return used_ip_of(row) if row else None

    async def used_among(self, l3_network_uuid: UUID, ips: Collection[Address]) -> set[Address]:
        return {row["ip"] for row in await self._connection.fetch(_USED_AMONG, l3_network_uuid, list(ips))}

    async def room(self, searched: Range, first: int, last: int, blocks: int) -> Room | None:
        address = searched.bounds.address
        rows = await self._connection.fetch(
            _ROOM,
            searched.uuid,
            address(block_of(first)),
            address(block_of(last)),
            blocks * BLOCK_SIZE,
            BLOCK_SIZE,
        )
        if not rows:
            return None
        window = int(rows[0]["window_ip"])
        return Room(
            first=max(first, window),
            last=min(last, window + blocks * BLOCK_SIZE - 1),
            used_by_block={int(row["first_ip"]): mask_of_bits(row["used"]) for row in rows if row["first_ip"]},
        )

    # ---- capacity --------------------------------------------------------------------------------------------

    async def usages_of_l3(self, uuids: Collection[UUID]) -> Sequence[Usage]:
        return _usages(await self._connection.fetch(_USAGES_OF_L3, list(uuids)))

    async def usages_of_ranges(self, uuids: Collection[UUID]) -> Sequence[Usage]:
        return _usages(await self._connection.fetch(_USAGES_OF_RANGES, list(uuids)))

    async def usages_of_zones(self, uuids: Collection[UUID]) -> Sequence[Usage]:
        return _usages(await self._connection.fetch(_USAGES_OF_ZONES, list(uuids)))

    # ---- events ----------------------------------------------------------------------------------------------

    async def announce(self, event_type: str, subject: WireModel) -> None:
        body = IpamEvent(subject=subject.model_dump(mode="json")).to_json()
        # Nobody needs to listen: an event that no queue takes is no failure.
        event = Outgoing(topology.EVENTS, routing_key=event_type, type=event_type, body=body, mandatory=False)
        await enqueue(self._connection, [event])

    # ---- pages -----------------------------------------------------------------------------------------------

    async def list_ranges(self, query: QueryRanges) -> Listed[Range]:
        page = await self._page(_RANGE_LISTING, query, query.filters)
        return Listed([range_of(row) for row in page.rows], page.after)

    async def list_reservations(self, query: QueryReservations) -> Listed[Reservation]:
        page = await self._page(_RESERVATION_LISTING, query, query.filters)
        return Listed([reservation_of(row) for row in page.rows], page.after)

    async def list_used(self, query: QueryIps) -> Listed[UsedIp]:
        page = await self._page(_USED_LISTING, query, query.filters)
        return Listed([used_ip_of(row) for row in page.rows], page.after)

    async def _page(self, listing: Listing, query: QueryBody, filters: WireModel) -> Rows:
        try:
            return await list_page(self._connection, listing, query, filters)
        except asyncpg.DataError as error:
            # The filters are typed: what Postgres cannot read as its column's type came out of the cursor, or is a
            # text with U+0000.
            raise InvalidRequest.of_field("after" if query.after else "filters", "not a value of its field") from error


def _usages(rows: Iterable[Any]) -> list[Usage]:
    return [
        Usage(
            range=range_of(row),
            reserved=IntervalSet.of(
                (int(ip_address(first)), int(ip_address(last)))
                for first, last in zip(row["starts"] or (), row["ends"] or (), strict=True)
            ),
            used_and_reserved=row["reserved_used_count"],
        )
        for row in rows
    ]
