"""Writing what plans have given out: one statement, that takes effect for the scopes whose revision is still the one
that was planned on."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from itertools import count
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg

from viaduct_common.postgres.idempotency import Answer, AnsweredBefore
from viaduct_common.postgres.pool import Connection
from viaduct_ipam.model.blocks import BLOCK_SIZE, block_of
from viaduct_ipam.model.state import Pick, ScopeState
from viaduct_ipam.store.rows import BITS, address_text, bit_string

# A scope that somebody else is changing, or has changed since, is left alone; every part reads what `held` says.
# SKIP LOCKED: who waits here would keep all other scopes waiting.
_HELD = """
    SELECT scope.l3_network_uuid, scope.l2_network_uuid
    FROM scope JOIN unnest($1::uuid[], $2::bigint[]) AS planned(l3_network_uuid, revision)
      ON scope.l3_network_uuid = planned.l3_network_uuid AND scope.revision = planned.revision
    ORDER BY scope.l3_network_uuid FOR UPDATE OF scope SKIP LOCKED
"""
# By name: how many columns come as arrays, and what is done with them. A statement has only those that have rows: each
# costs Postgres some setting up, whether it has rows or not.
_PARTS = {
    "raised": (3, """
        UPDATE scope SET revision = scope.revision + 1,
            last_given_v4 = coalesce(changed.last_given_v4::inet, scope.last_given_v4),
            last_given_v6 = coalesce(changed.last_given_v6::inet, scope.last_given_v6)
        FROM unnest({}::uuid[], {}::text[], {}::text[]) AS changed(l3_network_uuid, last_given_v4, last_given_v6)
        JOIN held USING (l3_network_uuid)
        WHERE scope.l3_network_uuid = changed.l3_network_uuid
    """),
    "counted": (6, """
        UPDATE ip_range SET used_count = used_count + changed.used, cooling_count = cooling_count - changed.uncooled,
            taken_reserved_count = taken_reserved_count + changed.reserved,
            last_given = coalesce(changed.last_given::inet, ip_range.last_given)
        FROM unnest({}::uuid[], {}::uuid[], {}::int[], {}::int[], {}::int[], {}::text[])
            AS changed(uuid, l3_network_uuid, used, uncooled, reserved, last_given)
        JOIN held USING (l3_network_uuid)
        WHERE ip_range.uuid = changed.uuid
    """),
    "marked": (4, f"""
        UPDATE address_block AS block SET used = block.used | changed.used
        FROM unnest({{}}::uuid[], {{}}::uuid[], {{}}::text[], {{}}::{BITS}[])
            AS changed(range_uuid, l3_network_uuid, first_ip, used)
        JOIN held USING (l3_network_uuid)
        WHERE block.range_uuid = changed.range_uuid AND block.first_ip = changed.first_ip::inet
    """),
    "made": (5, f"""
        INSERT INTO address_block (range_uuid, first_ip, assignable, used)
        SELECT fresh.range_uuid, fresh.first_ip::inet, fresh.assignable, fresh.used
        FROM unnest({{}}::uuid[], {{}}::uuid[], {{}}::text[], {{}}::{BITS}[], {{}}::{BITS}[])
            AS fresh(range_uuid, l3_network_uuid, first_ip, assignable, used)
        JOIN held USING (l3_network_uuid)
        ON CONFLICT (range_uuid, first_ip) DO UPDATE SET used = address_block.used | excluded.used
    """),
    "given": (None, """
        INSERT INTO used_ip (uuid, l3_network_uuid, l2_network_uuid, range_uuid, ip, owner, mac, allocated_at,
                             expires_at, allocated_by, allocated_by_message)
        SELECT pick.uuid, held.l3_network_uuid, held.l2_network_uuid, pick.range_uuid, pick.ip::inet, pick.owner,
            pick.mac::macaddr, pick.allocated_at, pick.expires_at, pick.sender, pick.message_id
        FROM unnest({}::given_address[]) AS pick JOIN held ON held.l3_network_uuid = pick.l3
    """),
    "warmed": (2, """
        DELETE FROM cooling_ip
        USING unnest({}::uuid[], {}::text[]) AS gone(l3_network_uuid, ip) JOIN held USING (l3_network_uuid)
        WHERE cooling_ip.l3_network_uuid = gone.l3_network_uuid AND cooling_ip.ip = gone.ip::inet
    """),
    "answered": (None, """
        INSERT INTO request (sender, message_id, type, answer)
        SELECT reply.sender, reply.message_id, reply.type, reply.answer
        FROM unnest({}::kept_answer[]) AS reply JOIN held ON held.l3_network_uuid = reply.l3
    """),
}  # fmt: skip
"""None: one array of rows, which costs the sender less where there are many."""


@cache
def _statement(parts: tuple[str, ...]) -> str:
    number = count(3)
    text = f"WITH held AS MATERIALIZED ({_HELD})"
    for name in parts:
        width, sql = _PARTS[name]
        text += f", {name} AS ({sql.format(*(f'${next(number)}' for _ in range(width or 1)))})"
    return text + " SELECT l3_network_uuid FROM held"


Row = tuple[Any, ...]


class Given(NamedTuple):
    """An address that somebody gets; `uuid` and `ip` as the wire writes them."""

    uuid: str
    pick: Pick
    ip: str
    owner: str | None
    mac: str | None
    allocated_at: datetime
    expires_at: datetime | None
    sender: str
    message_id: UUID


@dataclass
class _RangeChange:
    """What changes of one range; `masks` by block."""

    used: int = 0
    uncooled: int = 0
    reserved: int = 0
    masks: dict[int, int] = field(default_factory=dict)


class ScopeWrite:
    """What of one scope is to be written: rows for the statement. Making it settles the state, which then is as it will
    be once this is written; if it is not written, the state is of no use."""

    def __init__(self, state: ScopeState, given: Sequence[Given], answers: Sequence[Answer]) -> None:
        self.state = state
        l3 = self.l3_network_uuid = state.l3_network_uuid
        self.planned: list[Row] = [(l3, state.revision)]
        self.raised: list[Row] = []
        self.counted: list[Row] = []
        self.marked: list[Row] = []
        self.made: list[Row] = []
        self.given: list[Row] = [
            (
                one.uuid, l3, one.pick.range.uuid, one.ip, one.owner, one.mac, one.allocated_at, one.expires_at,
                one.sender, one.message_id,
            )
            for one in given
        ]  # fmt: skip
        self.warmed: list[Row] = [(l3, address_text(version, ip)) for version, ip in state.uncooled]
        self.answered: list[Row] = [(l3, one.sender, one.message_id, one.type, one.body) for one in answers]
        if given:
            self._change(state, given)
        state.settle()

    def _change(self, state: ScopeState, given: Sequence[Given]) -> None:
        l3 = state.l3_network_uuid
        self.raised.append((l3, _moved(state, 4, 4), _moved(state, 6, 6)))
        state.revision += 1
        for uuid, changed in _by_range(state, given).items():
            one = state.layout.by_uuid[uuid]
            last_given = _moved(state, uuid, one.version)
            self.counted.append((uuid, l3, changed.used, changed.uncooled, changed.reserved, last_given))
            stored = state.occupancy_of(uuid).stored
            for block, mask in changed.masks.items():
                first = address_text(one.version, block)
                if block in stored:
                    self.marked.append((uuid, l3, first, bit_string(mask)))
                else:
                    assignable = bit_string(one.assignable_mask(block))
                    self.made.append((uuid, l3, first, assignable, bit_string(mask)))
            stored.update(changed.masks)
            counted = state.counters[uuid]
            counted.used += changed.used
            counted.cooling -= changed.uncooled
            counted.taken_reserved += changed.reserved


def _by_range(state: ScopeState, given: Sequence[Given]) -> dict[UUID, _RangeChange]:
    """One that cooled was taken, and perhaps reserved, before. Behind a full block an empty one is marked, so that it
    is stored: the search leans on it. Perhaps it is stored already, and not empty, and we have not seen it."""
    changes: dict[UUID, _RangeChange] = {}
    for one in given:
        home, ip = one.pick
        changed = changes.get(home.uuid)
        if changed is None:
            changed = changes[home.uuid] = _RangeChange()
        changed.used += 1
        if state.uncooled and one.pick.key in state.uncooled:
            changed.uncooled += 1
            continue
        if home.reserved.parts and ip in home.reserved:
            changed.reserved += 1
        block = block_of(ip)
        changed.masks[block] = changed.masks.get(block, 0) | 1 << (ip - block)
    for uuid, changed in changes.items():
        home, known = state.layout.by_uuid[uuid], state.occupancy_of(uuid)
        for block in list(changed.masks):
            behind = block + BLOCK_SIZE
            if known.taken[block] == home.assignable_mask(block) and behind <= home.last and behind not in known.stored:
                changed.masks.setdefault(behind, 0)
    return changes


def _moved(state: ScopeState, key: int | UUID, version: int) -> str | None:
    return address_text(version, state.cursors[key]) if key in state.moved else None


async def give(connection: Connection, writes: Sequence[ScopeWrite], *, pause: float = 0.0) -> set[UUID]:
    """Write, and return the scopes for which it took effect.

    Args:
        pause: seconds to sleep before the write, so that a test can put something between decision and effect.

    Raises:
        AnsweredBefore: nothing took effect. A message id was used before, or, if the plan was wrong, an address.
    """
    if pause:
        await asyncio.sleep(pause)
    rows = {name: [row for one in writes for row in getattr(one, name)] for name in _PARTS}
    parts = tuple(name for name, of_part in rows.items() if of_part)
    arguments: list[Any] = _columns([row for one in writes for row in one.planned])
    for name in parts:
        arguments += [rows[name]] if _PARTS[name][0] is None else _columns(rows[name])
    try:
        found = await connection.fetch(_statement(parts), *arguments)
    except asyncpg.UniqueViolationError as error:
        raise AnsweredBefore from error
    return {row[0] for row in found}


def _columns(rows: Iterable[Row]) -> list[Any]:
    return list(zip(*rows, strict=True))
