"""All that changes an L3 network, behind the lock of its scope row."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any
from uuid import UUID

import asyncpg

from viaduct_common.errors import IpInUse, IpRangeConflict
from viaduct_common.postgres.pool import Connection
from viaduct_ipam.model.blocks import mask_of, masks_by_block
from viaduct_ipam.model.ranges import Address, Bounds, Range
from viaduct_ipam.model.reservations import Reservation
from viaduct_ipam.store.api import Pick, Scope, UsedIp
from viaduct_ipam.store.rows import RANGE_COLUMNS, bit_string, range_of, reservation_of, used_ip_of

# One round trip: the rows, their bits and the counters.
_TAKE = """
    WITH taken AS (
        INSERT INTO used_ip (l3_network_uuid, l2_network_uuid, owner, range_uuid, ip)
        SELECT $1, $2, $3, pick.range_uuid, pick.ip FROM unnest($4::uuid[], $5::inet[]) AS pick(range_uuid, ip)
        RETURNING uuid, ip, range_uuid, allocated_at
    ), marked AS (
        INSERT INTO address_block AS block (range_uuid, first_ip, assignable, used)
        SELECT * FROM unnest($6::uuid[], $7::inet[], $8::bit(256)[], $9::bit(256)[])
        ON CONFLICT (range_uuid, first_ip) DO UPDATE SET used = block.used | excluded.used
    ), counted AS (
        UPDATE ip_range SET used_count = used_count + taken_of.count
        FROM (SELECT range_uuid, count(*) FROM taken GROUP BY range_uuid) AS taken_of
        WHERE ip_range.uuid = taken_of.range_uuid
    )
    SELECT uuid, ip, allocated_at FROM taken
"""
_REMEMBER_V4 = "UPDATE scope SET last_given_v4 = $2 WHERE l3_network_uuid = $1"
_REMEMBER_V6 = "UPDATE scope SET last_given_v6 = $2 WHERE l3_network_uuid = $1"
_REMEMBER_OF_RANGE = "UPDATE ip_range SET last_given = $2 WHERE uuid = $1"

_GIVE_BACK = f"""
    WITH gone AS (
        DELETE FROM used_ip
        WHERE l3_network_uuid = $1 AND (uuid = ANY($2::uuid[]) OR ip = ANY($3::inet[]))
        RETURNING uuid, ip, owner, allocated_at, range_uuid
    ), counted AS (
        UPDATE ip_range SET used_count = used_count - gone_of.count
        FROM (SELECT range_uuid, count(*) FROM gone GROUP BY range_uuid) AS gone_of
        WHERE ip_range.uuid = gone_of.range_uuid
    )
    SELECT gone.uuid, gone.ip, gone.owner, gone.allocated_at, {RANGE_COLUMNS}
    FROM gone JOIN ip_range r ON r.uuid = gone.range_uuid
"""
_UNMARK = """
    UPDATE address_block AS block SET used = block.used & ~freed.mask
    FROM unnest($1::uuid[], $2::inet[], $3::bit(256)[]) AS freed(range_uuid, first_ip, mask)
    WHERE block.range_uuid = freed.range_uuid AND block.first_ip = freed.first_ip
"""

_ADD_RANGE = f"""
    INSERT INTO ip_range AS r (l3_network_uuid, l2_network_uuid, name, type, start_ip, end_ip, prefix_length, gateway)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
    RETURNING {RANGE_COLUMNS}
"""
_REMOVE_BLOCKS = "DELETE FROM address_block WHERE range_uuid = $1"
_REMOVE_RANGE = "DELETE FROM ip_range WHERE uuid = $1 AND l3_network_uuid = $2"
_ADD_RESERVATION = """
    INSERT INTO reservation (l3_network_uuid, start_ip, end_ip, reason) VALUES ($1, $2, $3, $4) RETURNING *
"""
_REMOVE_RESERVATION = "DELETE FROM reservation WHERE uuid = $1 AND l3_network_uuid = $2 RETURNING *"
_SET_STRATEGY = "UPDATE scope SET strategy = $2 WHERE l3_network_uuid = $1"
_REMOVE_ALL_BLOCKS = """
    DELETE FROM address_block WHERE range_uuid IN (SELECT uuid FROM ip_range WHERE l3_network_uuid = $1)
"""
_REMOVE_ALL_RANGES = "DELETE FROM ip_range WHERE l3_network_uuid = $1"
_REMOVE_RESERVATIONS = "DELETE FROM reservation WHERE l3_network_uuid = $1"
_REMOVE_SCOPE = "DELETE FROM scope WHERE l3_network_uuid = $1"


class PostgresLockedScope:
    """`viaduct_ipam.store.api.LockedScope`."""

    def __init__(self, connection: Connection, scope: Scope) -> None:
        self._connection = connection
        self.scope = scope

    @property
    def _l3(self) -> UUID:
        return self.scope.l3_network_uuid

    # ---- addresses -------------------------------------------------------------------------------------------

    async def take(self, picks: Sequence[Pick], owner: str | None) -> list[UsedIp]:
        ranges = {pick.range.uuid: pick.range for pick in picks}
        masks = _masks((pick.range, pick.ip) for pick in picks)
        try:
            rows = await self._connection.fetch(
                _TAKE,
                self._l3,
                self.scope.l2_network_uuid,
                owner,
                [pick.range.uuid for pick in picks],
                [pick.ip for pick in picks],
                [uuid for uuid, _, _ in masks],
                [ranges[uuid].bounds.address(block) for uuid, block, _ in masks],
                [bit_string(mask_of(ranges[uuid].bounds.assignable, block)) for uuid, block, _ in masks],
                [bit_string(mask) for _, _, mask in masks],
            )
        except asyncpg.UniqueViolationError as error:
            raise IpInUse("an address was taken meanwhile", l3NetworkUuid=str(self._l3), reason="USED") from error
        rows_by_ip: dict[Address, Any] = {row["ip"]: row for row in rows}
        taken = ((pick, rows_by_ip[pick.ip]) for pick in picks)
        return [UsedIp(row["uuid"], pick.ip, pick.range, owner, row["allocated_at"]) for pick, row in taken]

    async def remember_given(self, last: Pick) -> None:
        await self._connection.execute(_REMEMBER_V4 if last.ip.version == 4 else _REMEMBER_V6, self._l3, last.ip)
        await self._connection.execute(_REMEMBER_OF_RANGE, last.range.uuid, last.ip)

    async def give_back(self, *, uuids: Collection[UUID] = (), ips: Collection[Address] = ()) -> list[UsedIp]:
        rows = await self._connection.fetch(_GIVE_BACK, self._l3, list(uuids), list(ips))
        released = [used_ip_of(row) for row in rows]
        masks = _masks((one.range, one.ip) for one in released)
        ranges = {one.range.uuid: one.range for one in released}
        if masks:
            await self._connection.execute(
                _UNMARK,
                [uuid for uuid, _, _ in masks],
                [ranges[uuid].bounds.address(block) for uuid, block, _ in masks],
                [bit_string(mask) for _, _, mask in masks],
            )
        return released

    # ---- ranges and reservations -----------------------------------------------------------------------------

    async def add_ranges(self, bounds: Sequence[Bounds], name: str | None) -> list[Range]:
        added = []
        try:
            for one in bounds:
                row = await self._connection.fetchrow(
                    _ADD_RANGE,
                    self._l3,
                    self.scope.l2_network_uuid,
                    name,
                    one.type,
                    one.first,
                    one.last,
                    one.prefix_length,
                    one.gateway,
                )
                added.append(range_of(row))
        except asyncpg.ExclusionViolationError as error:
            raise IpRangeConflict("overlaps another range on the same L2 network") from error
        return added

    async def remove_range(self, range_uuid: UUID) -> None:
        await self._connection.execute(_REMOVE_BLOCKS, range_uuid)
        await self._connection.execute(_REMOVE_RANGE, range_uuid, self._l3)

    async def add_reservation(self, first: Address, last: Address, reason: str | None) -> Reservation:
        return reservation_of(await self._connection.fetchrow(_ADD_RESERVATION, self._l3, first, last, reason))

    async def remove_reservation(self, uuid: UUID) -> Reservation | None:
        row = await self._connection.fetchrow(_REMOVE_RESERVATION, uuid, self._l3)
        return reservation_of(row) if row else None

    # ---- the scope itself ------------------------------------------------------------------------------------

    async def set_strategy(self, strategy: str) -> None:
        await self._connection.execute(_SET_STRATEGY, self._l3, strategy)

    async def remove(self) -> None:
        await self._connection.execute(_REMOVE_ALL_BLOCKS, self._l3)
        await self._connection.execute(_REMOVE_ALL_RANGES, self._l3)
        await self._connection.execute(_REMOVE_RESERVATIONS, self._l3)
        await self._connection.execute(_REMOVE_SCOPE, self._l3)


def _masks(addresses: Iterable[tuple[Range, Address]]) -> list[tuple[UUID, int, int]]:
    """(range, block, mask of the addresses in it), ascending within a range."""
    numbers_by_range: dict[UUID, list[int]] = {}
    for one, ip in addresses:
        numbers_by_range.setdefault(one.uuid, []).append(int(ip))
    return [
        (uuid, block, mask)
        for uuid, numbers in numbers_by_range.items()
        for block, mask in masks_by_block(numbers).items()
    ]
