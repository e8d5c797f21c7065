"""Writing what plans have given out: one statement, that takes effect for the scopes whose revision is still the one
that was planned on."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any
from uuid import UUID

import asyncpg

from viaduct_common.postgres.idempotency import Answer, AnsweredBefore
from viaduct_common.postgres.pool import Connection
from viaduct_ipam.model.blocks import BLOCK_SIZE, block_of
from viaduct_ipam.model.layout import OpenRange
from viaduct_ipam.model.state import Pick, ScopeState
from viaduct_ipam.store.rows import address_text, bit_string

# Every part reads what `held` says: a scope that somebody else is changing, or has changed since, is left alone.
# SKIP LOCKED: who waits here would keep all other scopes waiting.
_GIVE = """
    WITH held AS MATERIALIZED (
        SELECT scope.l3_network_uuid, scope.l2_network_uuid
        FROM scope JOIN unnest($1::uuid[], $2::bigint[]) AS planned(l3_network_uuid, revision)
          ON scope.l3_network_uuid = planned.l3_network_uuid AND scope.revision = planned.revision
        ORDER BY scope.l3_network_uuid FOR UPDATE OF scope SKIP LOCKED
    ), raised AS (
        UPDATE scope SET revision = scope.revision + 1,
            last_given_v4 = coalesce(changed.last_given_v4::inet, scope.last_given_v4),
            last_given_v6 = coalesce(changed.last_given_v6::inet, scope.last_given_v6)
        FROM unnest($3::uuid[], $4::text[], $5::text[]) AS changed(l3_network_uuid, last_given_v4, last_given_v6)
        JOIN held USING (l3_network_uuid)
        WHERE scope.l3_network_uuid = changed.l3_network_uuid
    ), counted AS (
        UPDATE ip_range SET used_count = used_count + changed.used, cooling_count = cooling_count - changed.uncooled,
            taken_reserved_count = taken_reserved_count + changed.reserved,
            last_given = coalesce(changed.last_given::inet, ip_range.last_given)
        FROM unnest($6::uuid[], $7::uuid[], $8::int[], $9::int[], $10::int[], $11::text[])
            AS changed(uuid, l3_network_uuid, used, uncooled, reserved, last_given)
        JOIN held USING (l3_network_uuid)
        WHERE ip_range.uuid = changed.uuid
    ), marked AS (
        INSERT INTO address_block AS block (range_uuid, first_ip, assignable, used)
        SELECT changed.range_uuid, changed.first_ip::inet, changed.assignable, changed.used
        FROM unnest($12::uuid[], $13::uuid[], $14::text[], $15::bit(256)[], $16::bit(256)[])
            AS changed(range_uuid, l3_network_uuid, first_ip, assignable, used)
        JOIN held USING (l3_network_uuid)
        ON CONFLICT (range_uuid, first_ip) DO UPDATE SET used = block.used | excluded.used
    ), given AS (
        INSERT INTO used_ip (uuid, l3_network_uuid, l2_network_uuid, range_uuid, ip, owner, mac, allocated_at,
                             expires_at, allocated_by, allocated_by_message)
        SELECT pick.uuid, held.l3_network_uuid, held.l2_network_uuid, pick.range_uuid, pick.ip::inet, pick.owner,
            pick.mac::macaddr, $17::timestamptz, pick.expires_at, pick.sender, pick.message_id
        FROM unnest($18::uuid[], $19::uuid[], $20::uuid[], $21::text[], $22::text[], $23::text[], $24::timestamptz[],
                    $25::text[], $26::uuid[])
            AS pick(uuid, l3_network_uuid, range_uuid, ip, owner, mac, expires_at, sender, message_id)
        JOIN held USING (l3_network_uuid)
    ), warmed AS (
        DELETE FROM cooling_ip
        USING unnest($27::uuid[], $28::text[]) AS gone(l3_network_uuid, ip) JOIN held USING (l3_network_uuid)
        WHERE cooling_ip.l3_network_uuid = gone.l3_network_uuid AND cooling_ip.ip = gone.ip::inet
    ), answered AS (
        INSERT INTO request (sender, message_id, type, answer)
        SELECT reply.sender, reply.message_id, reply.type, reply.answer
        FROM unnest($29::uuid[], $30::text[], $31::uuid[], $32::text[], $33::bytea[])
            AS reply(l3_network_uuid, sender, message_id, type, answer)
        JOIN held USING (l3_network_uuid)
    )
    SELECT l3_network_uuid FROM held
"""


@dataclass(frozen=True)
class Given:
    """An address that somebody gets."""

    uuid: UUID
    pick: Pick
    owner: str | None
    mac: str | None
    expires_at: datetime | None
    sender: str
    message_id: UUID


@dataclass
class RangeChange:
    """What changes of one range; `masks` by block."""

    used: int = 0
    uncooled: int = 0
    reserved: int = 0
    masks: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ScopeWrite:
    """What of one scope is to be written, complete; `revision` is the one that it was planned on."""

    state: ScopeState
    revision: int
    given: Sequence[Given]
    answers: Sequence[Answer]

    @cached_property
    def by_range(self) -> dict[UUID, RangeChange]:
        """One that cooled was taken, and perhaps reserved, before. Behind a full block an empty one is marked: the
        search leans on its being stored."""
        changes: dict[UUID, RangeChange] = {}
        uncooled = self.state.uncooled
        for given in self.given:
            one, ip = given.pick
            changed = changes.get(one.uuid)
            if changed is None:
                changed = changes[one.uuid] = RangeChange()
            changed.used += 1
            if uncooled and given.pick.key in uncooled:
                changed.uncooled += 1
                continue
            if one.reserved.parts and ip in one.reserved:
                changed.reserved += 1
            block = block_of(ip)
            changed.masks[block] = changed.masks.get(block, 0) | 1 << (ip - block)
        for uuid, changed in changes.items():
            one, taken = self.state.layout.by_uuid[uuid], self.state.occupancy_of(uuid).taken
            for block in list(changed.masks):
                if taken[block] == one.assignable_mask(block) and block + BLOCK_SIZE <= one.last:
                    changed.masks.setdefault(block + BLOCK_SIZE, 0)
        return changes

    def count(self) -> None:
        """Bring the state to what it is once this is written. If it is not written, the state is of no use."""
        if self.given:
            self.state.revision += 1
        for uuid, changed in self.by_range.items():
            counted = self.state.counters[uuid]
            counted.used += changed.used
            counted.cooling -= changed.uncooled
            counted.taken_reserved += changed.reserved


async def give(connection: Connection, writes: Sequence[ScopeWrite], now: datetime, *, pause: float = 0.0) -> set[UUID]:
    """Write, and return the scopes for which it took effect.

    Args:
        pause: seconds to sleep before the write, so that a test can put something between decision and effect.

    Raises:
        AnsweredBefore: nothing took effect. A message id was used before, or, if the plan was wrong, an address.
    """
    if pause:
        await asyncio.sleep(pause)
    arguments = _Arguments()
    for write in writes:
        arguments.add(write)
    try:
        rows = await connection.fetch(_GIVE, *arguments.of_scopes, *arguments.of_picks(now))
    except asyncpg.UniqueViolationError as error:
        raise AnsweredBefore from error
    return {row[0] for row in rows}


class _Arguments:
    """The columns of the statement, filled scope by scope."""

    def __init__(self) -> None:
        self._planned: list[list[Any]] = [[], []]
        self._raised: list[list[Any]] = [[], [], []]
        self._ranges: list[list[Any]] = [[] for _ in range(6)]
        self._blocks: list[list[Any]] = [[] for _ in range(5)]
        self._picks: list[tuple[Any, ...]] = []
        self._warmed: list[list[Any]] = [[], []]
        self._answers: list[tuple[Any, ...]] = []

    @property
    def of_scopes(self) -> list[list[Any]]:
        return [*self._planned, *self._raised, *self._ranges, *self._blocks]

    def of_picks(self, now: datetime) -> list[Any]:
        picks = [list(column) for column in zip(*self._picks, strict=True)] or [[] for _ in range(9)]
        answers = [list(column) for column in zip(*self._answers, strict=True)] or [[] for _ in range(5)]
        return [now, *picks, *self._warmed, *answers]

    def add(self, write: ScopeWrite) -> None:
        state = write.state
        l3 = state.l3_network_uuid
        _append(self._planned, l3, write.revision)
        self._answers += [(l3, one.sender, one.message_id, one.type, one.body) for one in write.answers]
        if not write.given:
            return
        _append(self._raised, l3, _moved(state, 4), _moved(state, 6))
        for uuid, changed in write.by_range.items():
            moved = _address(state, uuid, state.cursors[uuid]) if uuid in state.moved else None
            _append(self._ranges, uuid, l3, changed.used, changed.uncooled, changed.reserved, moved)
            self._mark(state.layout.by_uuid[uuid], l3, changed.masks)
        self._picks += [
            (
                one.uuid, l3, one.pick.range.uuid, address_text(one.pick.range.version, one.pick.ip), one.owner,
                one.mac, one.expires_at, one.sender, one.message_id,
            )
            for one in write.given
        ]  # fmt: skip
        for version, ip in state.uncooled:
            _append(self._warmed, l3, address_text(version, ip))

    def _mark(self, one: OpenRange, l3: UUID, masks: Mapping[int, int]) -> None:
        for block, mask in masks.items():
            first = address_text(one.version, block)
            _append(self._blocks, one.uuid, l3, first, bit_string(one.assignable_mask(block)), bit_string(mask))


def _append(columns: list[list[Any]], *values: Any) -> None:
    for column, value in zip(columns, values, strict=True):
        column.append(value)


def _moved(state: ScopeState, version: int) -> str | None:
    return address_text(version, state.cursors[version]) if version in state.moved else None


def _address(state: ScopeState, range_uuid: UUID, ip: int) -> str:
    return address_text(state.layout.by_uuid[range_uuid].version, ip)
