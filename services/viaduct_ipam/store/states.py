"""Scopes as plans see them, read from Postgres: whole, and then block by block as a plan asks."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any
from uuid import UUID

from viaduct_common.postgres.pool import Connection
from viaduct_ipam.model.asks import Ask, BlockAsk, CoolingAsk, FormerAsk, RoomsAsk
from viaduct_ipam.model.blocks import BLOCK_SIZE
from viaduct_ipam.model.layout import Layout
from viaduct_ipam.model.occupancy import StoredBlock
from viaduct_ipam.model.ranges import Range
from viaduct_ipam.model.state import Cooling, Counters, ScopeState
from viaduct_ipam.store.rows import RANGE_COLUMNS, address_text, mask_of_bits, range_of, reservation_of, scope_of

_SCOPES = "SELECT * FROM scope WHERE l3_network_uuid = ANY($1::uuid[])"
_LOCK_SCOPES = f"{_SCOPES} ORDER BY l3_network_uuid FOR UPDATE"
_LOCK_REVISION = "SELECT revision FROM scope WHERE l3_network_uuid = $1 FOR UPDATE"
_RANGES = f"SELECT {RANGE_COLUMNS} FROM ip_range r WHERE r.l3_network_uuid = ANY($1::uuid[])"
_RESERVATIONS = "SELECT * FROM reservation WHERE l3_network_uuid = ANY($1::uuid[]) ORDER BY created_at, uuid"

# Behind a full block the next is stored. So if the block asked for is full, the next with room is the next in this
# index, and what lies between is full; one that is not stored is empty.
_ROOMS = f"""
    SELECT ask.number, room.first_ip, room.used, room.next_is_full,
        EXISTS (SELECT FROM address_block AS asked
                WHERE asked.range_uuid = ask.range_uuid AND asked.first_ip = ask.first_ip) AS asked_is_stored
    FROM unnest($1::uuid[], $2::text[]::inet[], $3::text[]::inet[], $4::int[]) WITH ORDINALITY
        AS ask(range_uuid, first_ip, last_ip, width, number)
    LEFT JOIN LATERAL (
        SELECT block.first_ip, block.used,
            EXISTS (SELECT FROM address_block AS next_
                    WHERE next_.range_uuid = block.range_uuid AND next_.first_ip = block.first_ip + {BLOCK_SIZE}
                      AND next_.is_full) AS next_is_full
        FROM address_block AS block
        WHERE block.range_uuid = ask.range_uuid AND NOT block.is_full
          AND block.first_ip >= ask.first_ip AND block.first_ip <= ask.last_ip
        ORDER BY block.first_ip LIMIT ask.width
    ) AS room ON true
    ORDER BY ask.number, room.first_ip
"""
_BLOCKS = """
    SELECT ask.number, block.used
    FROM unnest($1::uuid[], $2::text[]::inet[]) WITH ORDINALITY AS ask(range_uuid, first_ip, number)
    JOIN address_block AS block USING (range_uuid, first_ip)
"""
_COOLING = "SELECT ip, owner FROM cooling_ip WHERE l3_network_uuid = $1 AND ip = ANY($2::text[]::inet[])"
_FORMER = """
    SELECT ask.owner, former.ip
    FROM unnest($2::text[], $3::int[]) AS ask(owner, count)
    CROSS JOIN LATERAL (
        SELECT ip, ended_at FROM ip_history AS past
        WHERE past.owner = ask.owner AND past.l3_network_uuid = $1
        ORDER BY past.ended_at DESC, past.ip LIMIT 2 * ask.count
    ) AS former
    ORDER BY former.ended_at DESC, former.ip
"""


async def load_states(
    connection: Connection, l3_network_uuids: Collection[UUID], layouts: Mapping[UUID, Layout], *, lock: bool = False
) -> dict[UUID, ScopeState]:
    """The scopes that there are, with nothing known of their blocks.

    Without the lock what is read later may be newer than the state; then the write that names the state's revision
    finds another one.

    Args:
        layouts: former ones, by scope; one is used again if nothing of it has changed.
        lock: wait until nobody else changes the scopes, in ascending order, until the transaction ends.
    """
    uuids = list(l3_network_uuids)
    rows = await connection.fetch(_LOCK_SCOPES if lock else _SCOPES, uuids)
    scopes = [scope_of(row) for row in rows]
    ranges: dict[UUID, list[Range]] = {one.l3_network_uuid: [] for one in scopes}
    for row in await connection.fetch(_RANGES, list(ranges)):
        one = range_of(row)
        ranges[one.l3_network_uuid].append(one)
    known = {
        one.l3_network_uuid: layouts[one.l3_network_uuid]
        for one in scopes
        if one.l3_network_uuid in layouts and layouts[one.l3_network_uuid].revision == one.layout_revision
    }
    fresh = [one.l3_network_uuid for one in scopes if one.l3_network_uuid not in known]
    reservations: dict[UUID, list[Any]] = {uuid: [] for uuid in fresh}
    for row in await connection.fetch(_RESERVATIONS, fresh) if fresh else ():
        reservations[row["l3_network_uuid"]].append(reservation_of(row))
    states = {}
    for scope in scopes:
        uuid = scope.l3_network_uuid
        layout = known.get(uuid) or Layout(scope.layout_revision, ranges[uuid], reservations[uuid])
        cursors: dict[int | UUID, int] = {version: int(ip) for version, ip in scope.last_given.items()}
        cursors |= {one.uuid: int(one.last_given) for one in ranges[uuid] if one.last_given is not None}
        states[uuid] = ScopeState(
            l3_network_uuid=uuid,
            l2_network_uuid=scope.l2_network_uuid,
            zone_uuid=scope.zone_uuid,
            revision=scope.revision,
            strategy=scope.strategy,
            cooling_seconds=scope.cooling_seconds,
            fill_levels=dict(scope.fill_levels),
            layout=layout,
            counters={
                one.uuid: Counters(one.used_count, one.cooling_count, one.taken_reserved_count) for one in ranges[uuid]
            },
            cursors=cursors,
        )
    return states


async def lock_revision(connection: Connection, l3_network_uuid: UUID) -> int | None:
    """Wait until nobody else changes the scope, until the transaction ends; None if there is none."""
    revision: int | None = await connection.fetchval(_LOCK_REVISION, l3_network_uuid)
    return revision


async def answer_asks(connection: Connection, asks: Iterable[tuple[ScopeState, Ask]]) -> None:
    """Let the states learn what plans ask for: one round trip for each kind, however many ask."""
    rooms: list[tuple[ScopeState, RoomsAsk]] = []
    blocks: list[tuple[ScopeState, BlockAsk]] = []
    others: list[tuple[ScopeState, CoolingAsk | FormerAsk]] = []
    for state, ask in asks:
        if isinstance(ask, RoomsAsk):
            rooms.append((state, ask))
        elif isinstance(ask, BlockAsk):
            blocks.append((state, ask))
        else:
            others.append((state, ask))
    if rooms:
        await _answer_rooms(connection, rooms)
    if blocks:
        await _answer_blocks(connection, blocks)
    for state in {id(state): state for state, _ in others}.values():
        mine = [ask for other, ask in others if other is state]
        await _answer_cooling(connection, state, [ask for ask in mine if isinstance(ask, CoolingAsk)])
        await _answer_former(connection, state, [ask for ask in mine if isinstance(ask, FormerAsk)])


async def _answer_rooms(connection: Connection, asks: list[tuple[ScopeState, RoomsAsk]]) -> None:
    rows = await connection.fetch(
        _ROOMS,
        [ask.range_uuid for _, ask in asks],
        [_text(state, ask.range_uuid, ask.first) for state, ask in asks],
        [_text(state, ask.range_uuid, ask.last) for state, ask in asks],
        [ask.limit for _, ask in asks],
    )
    by_ask: list[list[Any]] = [[] for _ in asks]
    for row in rows:
        by_ask[row["number"] - 1].append(row)
    for (state, ask), mine in zip(asks, by_ask, strict=True):
        found = [
            StoredBlock(int(row["first_ip"]), mask_of_bits(row["used"]), row["next_is_full"])
            for row in mine
            if row["first_ip"] is not None
        ]
        state.occupancy_of(ask.range_uuid).learn(
            ask.first,
            found,
            asked_is_stored=mine[0]["asked_is_stored"],
            last=ask.last,
            complete=len(found) < ask.limit,
        )


async def _answer_blocks(connection: Connection, asks: list[tuple[ScopeState, BlockAsk]]) -> None:
    rows = await connection.fetch(
        _BLOCKS,
        [ask.range_uuid for _, ask in asks],
        [_text(state, ask.range_uuid, ask.block) for state, ask in asks],
    )
    masks = {row["number"] - 1: mask_of_bits(row["used"]) for row in rows}
    for number, (state, ask) in enumerate(asks):
        state.occupancy_of(ask.range_uuid).learn_block(ask.block, masks.get(number))


async def _answer_cooling(connection: Connection, state: ScopeState, asks: list[CoolingAsk]) -> None:
    if not asks:
        return
    texts = [address_text(ask.version, ask.ip) for ask in asks]
    rows = await connection.fetch(_COOLING, state.l3_network_uuid, texts)
    owners = {(row["ip"].version, int(row["ip"])): Cooling(row["owner"]) for row in rows}
    for ask in asks:
        state.cooling[ask.version, ask.ip] = owners.get((ask.version, ask.ip))


async def _answer_former(connection: Connection, state: ScopeState, asks: list[FormerAsk]) -> None:
    if not asks:
        return
    counts: dict[str, int] = {}
    for ask in asks:
        counts[ask.owner] = max(ask.count, counts.get(ask.owner, 0))
    rows = await connection.fetch(_FORMER, state.l3_network_uuid, list(counts), list(counts.values()))
    state.former |= {owner: [] for owner in counts}
    for row in rows:
        state.former[row["owner"]].append((row["ip"].version, int(row["ip"])))


def _text(state: ScopeState, range_uuid: UUID, ip: int) -> str:
    return address_text(state.layout.by_uuid[range_uuid].version, ip)
