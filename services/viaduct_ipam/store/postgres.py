"""The store in Postgres: what is read, and the lock of a scope.

READ COMMITTED is enough: what a decision rests on is read by a statement that began after the scope was locked.
"""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from typing import Literal
from uuid import UUID

import asyncpg

from viaduct_common import topology
from viaduct_common.bus import Outgoing
from viaduct_common.errors import InvalidRequest
from viaduct_common.messages.base import QueryBody, WireModel
from viaduct_common.messages.ipam import (
    IpamEvent,
    IpHolding,
    QueryHistory,
    QueryIps,
    QueryRanges,
    QueryReservations,
    QueryScopes,
    RegisterScope,
)
from viaduct_common.postgres.outbox import enqueue
from viaduct_common.postgres.paging import Listing, Rows, list_page
from viaduct_common.postgres.pool import Connection
from viaduct_ipam.model.asks import Ask
from viaduct_ipam.model.capacity import Usage
from viaduct_ipam.model.ranges import Address, Bounds, Range
from viaduct_ipam.model.reservations import Reservation
from viaduct_ipam.model.state import ScopeState
from viaduct_ipam.store import capacity, holdings, listings, reservations
from viaduct_ipam.store.api import Listed, LockedScope, Scope, UsedIp
from viaduct_ipam.store.filling import announce_fill
from viaduct_ipam.store.locked import PostgresLockedScope
from viaduct_ipam.store.releasing import IPAM_ITSELF, Actor, Claim, take_back
from viaduct_ipam.store.rows import RANGE_COLUMNS, USED_COLUMNS, range_of, reservation_of, scope_of, used_ip_of
from viaduct_ipam.store.states import answer_asks, load_states

# Revisions begin with the microseconds of now: so none comes again when an L3 network is deleted and made known anew,
# and what a process has kept of the former one is not taken for the new one.
_ADD_SCOPE = """
    INSERT INTO scope
        (l3_network_uuid, l2_network_uuid, zone_uuid, strategy, cooling_seconds, revision, layout_revision)
    SELECT $1, $2, $3, $4, $5, first.revision, first.revision
    FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS revision) AS first
    ON CONFLICT (l3_network_uuid) DO NOTHING
    RETURNING true
"""
_SCOPE = "SELECT * FROM scope WHERE l3_network_uuid = $1"
_LOCK_SCOPE = "SELECT * FROM scope WHERE l3_network_uuid = $1 FOR UPDATE"
_KNOWN_SCOPES = "SELECT l3_network_uuid FROM scope WHERE l3_network_uuid = ANY($1::uuid[])"
_RANGES = f"SELECT {RANGE_COLUMNS} FROM ip_range r WHERE r.l3_network_uuid = $1 ORDER BY r.start_ip"
_RANGE = f"SELECT {RANGE_COLUMNS} FROM ip_range r WHERE r.uuid = $1"
_RESERVATION = "SELECT * FROM reservation WHERE uuid = $1"
_USED = f"""
    SELECT {USED_COLUMNS}, {RANGE_COLUMNS}
    FROM used_ip u JOIN ip_range r ON r.uuid = u.range_uuid WHERE u.uuid = $1
"""
_TAKEN_AS = """
    SELECT CASE WHEN EXISTS (SELECT FROM used_ip WHERE l3_network_uuid = $1 AND ip = $2) THEN 'USED'
                WHEN EXISTS (SELECT FROM cooling_ip WHERE l3_network_uuid = $1 AND ip = $2) THEN 'COOLING' END
"""
_RENEW = f"""
    UPDATE used_ip u SET expires_at = clock_timestamp() + make_interval(secs => $2)
    FROM ip_range r
    WHERE u.uuid = ANY($1::uuid[]) AND r.uuid = u.range_uuid
      AND (u.expires_at IS NULL OR u.expires_at > clock_timestamp())
    RETURNING {USED_COLUMNS}, {RANGE_COLUMNS}
"""
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


class PostgresStore:
    """`viaduct_ipam.store.api.Store` on a connection that is in a transaction.

    Args:
        by: on whose behalf it changes anything.
        pause_seconds: slept between a decision and its effect, so that a test can put something there.
    """

    def __init__(self, connection: Connection, by: Actor = IPAM_ITSELF, *, pause_seconds: float = 0.0) -> None:
        self._connection = connection
        self._pause_seconds = pause_seconds
        self._by = by

    # ---- scopes ----------------------------------------------------------------------------------------------

    async def add_scope(self, request: RegisterScope) -> bool:
        added = await self._connection.fetchval(
            _ADD_SCOPE,
            request.l3_network_uuid,
            request.l2_network_uuid,
            request.zone_uuid,
            request.strategy or "firstAvailable",
            request.cooling_seconds or 0,
        )
        return bool(added)

    async def lock_scope(self, l3_network_uuid: UUID) -> LockedScope | None:
        row = await self._connection.fetchrow(_LOCK_SCOPE, l3_network_uuid)
        return PostgresLockedScope(self._connection, scope_of(row), self._pause_seconds) if row else None

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

    async def reservations_over(self, l3_network_uuid: UUID, first: Address, last: Address) -> Sequence[Reservation]:
        return await reservations.reservations_over(self._connection, l3_network_uuid, first, last)

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

    async def taken_as(self, l3_network_uuid: UUID, ip: Address) -> Literal["USED", "COOLING"] | None:
        found: Literal["USED", "COOLING"] | None = await self._connection.fetchval(_TAKEN_AS, l3_network_uuid, ip)
        return found

    async def release(self, uuids: Sequence[UUID]) -> list[UsedIp]:
        claim = Claim(self._by, uuids)
        released: list[UsedIp] = []
        for state in await self._locked_states(await self.scopes_of_used(uuids)):
            await asyncio.sleep(self._pause_seconds)
            [mine] = await take_back(self._connection, state, [claim])
            released += mine
            await announce_fill(self._connection, state)
        return claim.in_order(released)

    async def renew(self, uuids: Collection[UUID], ttl_seconds: int | None) -> Sequence[UsedIp]:
        return [used_ip_of(row) for row in await self._connection.fetch(_RENEW, list(uuids), ttl_seconds)]

    async def state_of(self, l3_network_uuid: UUID) -> ScopeState | None:
        return (await load_states(self._connection, [l3_network_uuid], {})).get(l3_network_uuid)

    async def announce_fill(self, l3_network_uuid: UUID) -> None:
        for state in await self._locked_states([l3_network_uuid]):
            await announce_fill(self._connection, state)

    async def learn(self, state: ScopeState, asks: Iterable[Ask]) -> None:
        await answer_asks(self._connection, [(state, ask) for ask in asks])

    async def _locked_states(self, l3_network_uuids: Sequence[UUID]) -> list[ScopeState]:
        return list((await load_states(self._connection, l3_network_uuids, {}, lock=True)).values())

    # ---- capacity --------------------------------------------------------------------------------------------

    async def usages_of_l3(self, uuids: Collection[UUID]) -> Sequence[Usage]:
        return await capacity.usages_of_l3(self._connection, uuids)

    async def usages_of_ranges(self, uuids: Collection[UUID]) -> Sequence[Usage]:
        return await capacity.usages_of_ranges(self._connection, uuids)

    async def usages_of_zones(self, uuids: Collection[UUID]) -> Sequence[Usage]:
        return await capacity.usages_of_zones(self._connection, uuids)

    # ---- events ----------------------------------------------------------------------------------------------

    async def announce(self, event_type: str, subject: WireModel) -> None:
        body = IpamEvent(subject=subject.model_dump(mode="json")).to_json()
        # Nobody needs to listen: an event that no queue takes is no failure.
        event = Outgoing(topology.EVENTS, routing_key=event_type, type=event_type, body=body, mandatory=False)
        await enqueue(self._connection, [event])

    # ---- pages -----------------------------------------------------------------------------------------------

    async def list_scopes(self, query: QueryScopes) -> Listed[Scope]:
        page = await self._page(listings.SCOPES, query, query.filters)
        return Listed([scope_of(row) for row in page.rows], page.after)

    async def list_ranges(self, query: QueryRanges) -> Listed[Range]:
        page = await self._page(listings.RANGES, query, query.filters)
        return Listed([range_of(row) for row in page.rows], page.after)

    async def list_reservations(self, query: QueryReservations) -> Listed[Reservation]:
        page = await self._page(listings.RESERVATIONS, query, query.filters)
        return Listed([reservation_of(row) for row in page.rows], page.after)

    async def list_used(self, query: QueryIps) -> Listed[UsedIp]:
        page = await self._page(listings.USED_IPS, query, query.filters)
        return Listed([used_ip_of(row) for row in page.rows], page.after)

    async def list_holdings(self, query: QueryHistory) -> Listed[IpHolding]:
        return await holdings.list_holdings(self._connection, query, query.filters)

    async def _page(self, listing: Listing, query: QueryBody, filters: WireModel) -> Rows:
        try:
            return await list_page(self._connection, listing, query, filters)
        except asyncpg.DataError as error:
            # The filters are typed: what Postgres cannot read as its column's type came out of the cursor, or is a
            # text with U+0000.
            raise InvalidRequest.of_field("after" if query.after else "filters", "not a value of its field") from error
