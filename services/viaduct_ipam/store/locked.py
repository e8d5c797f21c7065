"""All that changes an L3 network, behind the lock of its scope row."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import asyncpg

from viaduct_common.errors import IpRangeConflict
from viaduct_common.messages.ipam import CreateReservation
from viaduct_common.postgres.pool import Connection
from viaduct_ipam.model.ranges import Bounds, Range
from viaduct_ipam.model.reservations import Reservation
from viaduct_ipam.store.api import Scope
from viaduct_ipam.store.reservations import count_reserved
from viaduct_ipam.store.rows import RANGE_COLUMNS, range_of, reservation_of

_ADD_RANGE = f"""
    INSERT INTO ip_range AS r
        (l3_network_uuid, l2_network_uuid, name, type, start_ip, end_ip, prefix_length, gateway, address_mode)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
    RETURNING {RANGE_COLUMNS}
"""
_REMOVE_BLOCKS = "DELETE FROM address_block WHERE range_uuid = $1"
_REMOVE_COOLING = "DELETE FROM cooling_ip WHERE range_uuid = $1"
_REMOVE_RANGE = "DELETE FROM ip_range WHERE uuid = $1 AND l3_network_uuid = $2"
_ADD_RESERVATION = """
    INSERT INTO reservation (l3_network_uuid, start_ip, end_ip, reason, owner, mac) VALUES ($1, $2, $3, $4, $5, $6)
    RETURNING *
"""
_REMOVE_RESERVATION = "DELETE FROM reservation WHERE uuid = $1 AND l3_network_uuid = $2 RETURNING *"
_RAISE_REVISIONS = """
    UPDATE scope SET revision = revision + 1, layout_revision = layout_revision + 1 WHERE l3_network_uuid = $1
"""
_SET_STRATEGY = "UPDATE scope SET strategy = $2 WHERE l3_network_uuid = $1"
_SET_COOLING = "UPDATE scope SET cooling_seconds = $2 WHERE l3_network_uuid = $1"
# Else what was released under a time that proved too long would still be kept from everybody.
_SHORTEN_COOLING = """
    UPDATE cooling_ip SET until = now() + make_interval(secs => $2)
    WHERE l3_network_uuid = $1 AND until > now() + make_interval(secs => $2)
"""
_REMOVE_ALL_COOLING = "DELETE FROM cooling_ip WHERE l3_network_uuid = $1"
_REMOVE_ALL_BLOCKS = """
    DELETE FROM address_block WHERE range_uuid IN (SELECT uuid FROM ip_range WHERE l3_network_uuid = $1)
"""
_REMOVE_ALL_RANGES = "DELETE FROM ip_range WHERE l3_network_uuid = $1"
_REMOVE_RESERVATIONS = "DELETE FROM reservation WHERE l3_network_uuid = $1"
_REMOVE_SCOPE = "DELETE FROM scope WHERE l3_network_uuid = $1"


class PostgresLockedScope:
    """`viaduct_ipam.store.api.LockedScope`.

    Args:
        pause_seconds: slept between a decision and its effect, so that a test can put something there.
    """

    def __init__(self, connection: Connection, scope: Scope, pause_seconds: float = 0.0) -> None:
        self._connection = connection
        self._pause_seconds = pause_seconds
        self.scope = scope

    @property
    def _l3(self) -> UUID:
        return self.scope.l3_network_uuid

    # ---- ranges and reservations -----------------------------------------------------------------------------

    async def add_ranges(self, bounds: Sequence[Bounds], name: str | None) -> list[Range]:
        await asyncio.sleep(self._pause_seconds)
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
                    one.address_mode,
                )
                added.append(range_of(row))
        except asyncpg.ExclusionViolationError as error:
            raise IpRangeConflict("overlaps another range on the same L2 network") from error
        await self._raise_revisions()
        return added

    async def remove_range(self, range_uuid: UUID) -> None:
        await asyncio.sleep(self._pause_seconds)
        await self._connection.execute(_REMOVE_BLOCKS, range_uuid)
        await self._connection.execute(_REMOVE_COOLING, range_uuid)
        await self._connection.execute(_REMOVE_RANGE, range_uuid, self._l3)
        await self._raise_revisions()

    async def add_reservation(self, request: CreateReservation) -> Reservation:
        await asyncio.sleep(self._pause_seconds)
        await count_reserved(self._connection, self._l3, request.start_ip, request.end_ip, sign=1)
        row = await self._connection.fetchrow(
            _ADD_RESERVATION,
            self._l3,
            request.start_ip,
            request.end_ip,
            request.reason,
            request.owner,
            request.mac,
        )
        await self._raise_revisions()
        return reservation_of(row)

    async def remove_reservation(self, uuid: UUID) -> Reservation | None:
        await asyncio.sleep(self._pause_seconds)
        row = await self._connection.fetchrow(_REMOVE_RESERVATION, uuid, self._l3)
        if row is None:
            return None
        removed = reservation_of(row)
        await count_reserved(self._connection, self._l3, removed.first, removed.last, sign=-1)
        await self._raise_revisions()
        return removed

    # ---- the scope itself ------------------------------------------------------------------------------------

    async def set_strategy(self, strategy: str) -> None:
        await asyncio.sleep(self._pause_seconds)
        await self._connection.execute(_SET_STRATEGY, self._l3, strategy)
        await self._raise_revisions()

    async def set_cooling(self, seconds: int) -> None:
        await asyncio.sleep(self._pause_seconds)
        await self._connection.execute(_SET_COOLING, self._l3, seconds)
        await self._connection.execute(_SHORTEN_COOLING, self._l3, seconds)
        await self._raise_revisions()

    async def _raise_revisions(self) -> None:
        """Whoever has read how the scope is laid out, or what is free in it, reads it again before he writes."""
        await self._connection.execute(_RAISE_REVISIONS, self._l3)

    async def remove(self) -> None:
        await asyncio.sleep(self._pause_seconds)
        await self._connection.execute(_REMOVE_ALL_BLOCKS, self._l3)
        await self._connection.execute(_REMOVE_ALL_COOLING, self._l3)
        await self._connection.execute(_REMOVE_ALL_RANGES, self._l3)
        await self._connection.execute(_REMOVE_RESERVATIONS, self._l3)
        await self._connection.execute(_REMOVE_SCOPE, self._l3)
