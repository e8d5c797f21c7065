"""What is due: leases that have ended, addresses that have cooled, blocks that nobody needs, and history that is old.

Reading what is due locks nothing. It is looked at again under the lock of its scope, a chunk per transaction.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from viaduct_common.postgres.pool import Connection
from viaduct_ipam.model.blocks import BLOCK_SIZE
from viaduct_ipam.model.ranges import Address

# now() and not clock_timestamp(): only what is the same throughout a statement is looked up in an index.
_ENDED = "SELECT l3_network_uuid, uuid FROM used_ip WHERE expires_at <= now() ORDER BY expires_at LIMIT $1"
_COOLED = "SELECT l3_network_uuid, ip FROM cooling_ip WHERE until <= now() ORDER BY until LIMIT $1"
_LOCK = "SELECT true FROM scope WHERE l3_network_uuid = $1 FOR UPDATE"
_TRY_LOCK = f"{_LOCK} SKIP LOCKED"

# The block :: is the first there is; IPv4's first is in no range.
_BEHIND_FULL = f"""
    EXISTS (SELECT FROM address_block AS full_
            WHERE full_.range_uuid = block.range_uuid AND full_.is_full
              AND full_.first_ip = CASE WHEN block.first_ip > '::' OR family(block.first_ip) = 4
                                   THEN block.first_ip - {BLOCK_SIZE} END)
"""
_EMPTY = f"""
    SELECT block.range_uuid, block.first_ip, ip_range.l3_network_uuid, {_BEHIND_FULL} AS is_needed
    FROM address_block AS block JOIN ip_range ON ip_range.uuid = block.range_uuid
    WHERE block.is_empty AND (block.range_uuid, block.first_ip) > ($1::uuid, $2::inet)
    ORDER BY block.range_uuid, block.first_ip LIMIT $3
"""
_DROP_EMPTY = f"""
    WITH gone AS (
        DELETE FROM address_block AS block USING unnest($2::uuid[], $3::inet[]) AS named(range_uuid, first_ip)
        WHERE block.range_uuid = named.range_uuid AND block.first_ip = named.first_ip
          AND block.is_empty AND NOT {_BEHIND_FULL}
        RETURNING true
    ), raised AS (
        UPDATE scope SET revision = revision + 1 WHERE l3_network_uuid = $1 AND EXISTS (SELECT FROM gone)
    )
    SELECT count(*) FROM gone
"""
_FORGET = """
    DELETE FROM ip_history WHERE uuid IN (
        SELECT uuid FROM ip_history WHERE ended_at < now() - $1::interval
        ORDER BY ended_at LIMIT $2 FOR UPDATE SKIP LOCKED)
    RETURNING true
"""


@dataclass
class Due:
    """What is due in one L3 network."""

    leases: list[UUID] = field(default_factory=list)
    cooled: list[Address] = field(default_factory=list)


class EmptyBlock(NamedTuple):
    """`is_needed`: the block before it is full, and the search leans on its being stored."""

    range_uuid: UUID
    first: Address
    l3_network_uuid: UUID
    is_needed: bool


async def read_due(connection: Connection, limit: int) -> dict[UUID, Due]:
    """By L3 network: up to `limit` leases and as many addresses, what is longest overdue first."""
    due: dict[UUID, Due] = {}
    for row in await connection.fetch(_ENDED, limit):
        due.setdefault(row["l3_network_uuid"], Due()).leases.append(row["uuid"])
    for row in await connection.fetch(_COOLED, limit):
        due.setdefault(row["l3_network_uuid"], Due()).cooled.append(row["ip"])
    return due


async def lock(connection: Connection, l3_network_uuid: UUID, *, wait: bool) -> bool:
    """Lock the scope until the transaction ends; false: somebody else has it, or it is gone."""
    return bool(await connection.fetchval(_LOCK if wait else _TRY_LOCK, l3_network_uuid))


async def read_empty_blocks(connection: Connection, after: EmptyBlock, limit: int) -> list[EmptyBlock]:
    rows = await connection.fetch(_EMPTY, after.range_uuid, after.first, limit)
    return [EmptyBlock(*row) for row in rows]


async def drop_empty(connection: Connection, l3_network_uuid: UUID, blocks: Sequence[EmptyBlock]) -> int:
    """Drop those of the blocks that are still empty and not needed; return how many. The scope is locked."""
    count: int = await connection.fetchval(
        _DROP_EMPTY, l3_network_uuid, [one.range_uuid for one in blocks], [one.first for one in blocks]
    )
    return count


async def forget_history(connection: Connection, kept: timedelta, limit: int) -> int:
    """Delete up to `limit` holdings that ended before that; return how many."""
    return len(await connection.fetch(_FORGET, kept, limit))


def by_scope(blocks: Iterable[EmptyBlock]) -> dict[UUID, list[EmptyBlock]]:
    found: dict[UUID, list[EmptyBlock]] = {}
    for one in blocks:
        found.setdefault(one.l3_network_uuid, []).append(one)
    return found
