"""Taking addresses back, under the lock of their scope: the rows go to the history, the bits are cleared or cool."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from viaduct_common.postgres.pool import Connection
from viaduct_ipam.model.blocks import block_of
from viaduct_ipam.model.ranges import Address
from viaduct_ipam.model.state import ScopeState
from viaduct_ipam.store.api import UsedIp
from viaduct_ipam.store.rows import BITS, RANGE_COLUMNS, USED_COLUMNS, bit_string, used_ip_of

EndReason = Literal["released", "expired", "reclaimed"]

# One round trip: the row, the history, the counters, the revision. What two claims name goes to the first.
_TAKE_BACK = f"""
    WITH named AS (
        SELECT used.uuid, asked.claim
        FROM unnest($2::uuid[], $3::int[]) AS asked(uuid, claim)
        JOIN used_ip AS used ON used.uuid = asked.uuid
        WHERE used.l3_network_uuid = $1
        UNION ALL
        SELECT used.uuid, asked.claim
        FROM unnest($4::inet[], $5::int[]) AS asked(ip, claim)
        JOIN used_ip AS used ON used.l3_network_uuid = $1 AND used.ip = asked.ip
    ), claimed AS (
        SELECT uuid, min(claim) AS claim FROM named GROUP BY uuid
    ), gone AS (
        DELETE FROM used_ip USING claimed
        WHERE used_ip.uuid = claimed.uuid AND ($6 <> 'expired' OR used_ip.expires_at <= clock_timestamp())
        RETURNING used_ip.*, claimed.claim
    ), remembered AS (
        INSERT INTO ip_history (uuid, l3_network_uuid, ip, owner, mac, allocated_at, allocated_by,
                                allocated_by_message, ended_at, end_reason, ended_by, ended_by_message)
        SELECT gone.uuid, gone.l3_network_uuid, gone.ip, gone.owner, gone.mac, gone.allocated_at, gone.allocated_by,
            gone.allocated_by_message, greatest(clock_timestamp(), gone.allocated_at), $6, actor.sender,
            actor.message_id
        FROM gone
        JOIN unnest($7::text[], $8::uuid[]) WITH ORDINALITY AS actor(sender, message_id, claim) USING (claim)
    ), cooled AS (
        INSERT INTO cooling_ip (l3_network_uuid, ip, range_uuid, owner, until)
        SELECT l3_network_uuid, ip, range_uuid, owner, clock_timestamp() + make_interval(secs => $9) FROM gone
        WHERE $9::int > 0
    ), counted AS (
        UPDATE ip_range SET used_count = used_count - gone_of.count,
            cooling_count = cooling_count + CASE WHEN $9::int > 0 THEN gone_of.count ELSE 0 END
        FROM (SELECT range_uuid, count(*) FROM gone GROUP BY range_uuid) AS gone_of
        WHERE ip_range.uuid = gone_of.range_uuid
    ), raised AS (
        UPDATE scope SET revision = revision + 1 WHERE l3_network_uuid = $1 AND EXISTS (SELECT FROM gone)
    )
    SELECT gone.claim, {USED_COLUMNS.replace("u.", "gone.")}, {RANGE_COLUMNS}
    FROM gone JOIN ip_range r ON r.uuid = gone.range_uuid
"""
_WARM = """
    WITH gone AS (
        DELETE FROM cooling_ip
        WHERE l3_network_uuid = $1 AND ip = ANY($2::inet[]) AND until <= clock_timestamp()
        RETURNING range_uuid, ip
    ), counted AS (
        UPDATE ip_range SET cooling_count = cooling_count - gone_of.count
        FROM (SELECT range_uuid, count(*) FROM gone GROUP BY range_uuid) AS gone_of
        WHERE ip_range.uuid = gone_of.range_uuid
    ), raised AS (
        UPDATE scope SET revision = revision + 1 WHERE l3_network_uuid = $1 AND EXISTS (SELECT FROM gone)
    )
    SELECT range_uuid, ip FROM gone
"""
_CLEAR = f"""
    WITH cleared AS (
        UPDATE address_block AS block SET used = block.used & ~freed.mask
        FROM unnest($1::uuid[], $2::inet[], $3::{BITS}[]) AS freed(range_uuid, first_ip, mask)
        WHERE block.range_uuid = freed.range_uuid AND block.first_ip = freed.first_ip
    )
    UPDATE ip_range SET taken_reserved_count = taken_reserved_count - freed.reserved
    FROM unnest($4::uuid[], $5::int[]) AS freed(range_uuid, reserved)
    WHERE ip_range.uuid = freed.range_uuid AND freed.reserved > 0
"""


@dataclass(frozen=True)
class Actor:
    """Who asked for a change, and by which message; IPAM itself has none."""

    sender: str
    message_id: UUID | None


IPAM_ITSELF = Actor("viaduct-ipam", None)


@dataclass(frozen=True)
class Claim:
    """What one request wants to be free: allocations by their uuids, or whatever is at some addresses."""

    by: Actor
    uuids: Sequence[UUID] = ()
    ips: Sequence[Address] = ()

    def in_order(self, released: Iterable[UsedIp]) -> list[UsedIp]:
        """What was released, in the order in which it was named."""
        by_name = {name: one for one in released for name in (one.uuid, one.ip)}
        return [by_name[name] for name in dict.fromkeys((*self.uuids, *self.ips)) if name in by_name]


async def take_back(
    connection: Connection, state: ScopeState, claims: Sequence[Claim], reason: EndReason = "released"
) -> list[list[UsedIp]]:
    """Free what is used of these in the scope, bring the state to it, and return it claim by claim. The scope is
    locked.

    Args:
        reason: with `expired` only leases that have ended are freed.
    """
    uuids = [(uuid, number) for number, claim in enumerate(claims, 1) for uuid in claim.uuids]
    ips = [(ip, number) for number, claim in enumerate(claims, 1) for ip in claim.ips]
    rows = await connection.fetch(
        _TAKE_BACK,
        state.l3_network_uuid,
        *_columns(uuids),
        *_columns(ips),
        reason,
        [claim.by.sender for claim in claims],
        [claim.by.message_id for claim in claims],
        state.cooling_seconds,
    )
    released: list[list[UsedIp]] = [[] for _ in claims]
    for row in rows:
        released[row["claim"] - 1].append(used_ip_of(row))
    gone = [one for of_claim in released for one in of_claim]
    if gone:
        state.revision += 1
        for one in gone:
            state.counters[one.range.uuid].used -= 1
            state.counters[one.range.uuid].cooling += state.cooling_seconds > 0
        if not state.cooling_seconds:
            await _clear(connection, state, [(one.range.uuid, one.ip) for one in gone])
    return [claim.in_order(mine) for claim, mine in zip(claims, released, strict=True)]


def _columns(rows: Sequence[tuple[Any, int]]) -> tuple[list[Any], list[int]]:
    return [value for value, _ in rows], [number for _, number in rows]


async def warm(connection: Connection, state: ScopeState, ips: Collection[Address]) -> int:
    """Make those of the addresses that have cooled long enough free again; return how many. The scope is locked."""
    rows = await connection.fetch(_WARM, state.l3_network_uuid, list(ips))
    if rows:
        state.revision += 1
        for row in rows:
            state.counters[row["range_uuid"]].cooling -= 1
        await _clear(connection, state, [(row["range_uuid"], row["ip"]) for row in rows])
    return len(rows)


async def _clear(connection: Connection, state: ScopeState, addresses: Sequence[tuple[UUID, Address]]) -> None:
    """Clear the bits of addresses that are nobody's now."""
    masks: dict[tuple[UUID, int], int] = {}
    reserved: dict[UUID, int] = {}
    for uuid, ip in addresses:
        block = block_of(int(ip))
        masks[uuid, block] = masks.get((uuid, block), 0) | 1 << int(ip) - block
        if state.layout.is_reserved(ip):
            reserved[uuid] = reserved.get(uuid, 0) + 1
    ranges = state.layout.by_uuid
    await connection.execute(
        _CLEAR,
        [uuid for uuid, _ in masks],
        [ranges[uuid].range.bounds.address(block) for uuid, block in masks],
        [bit_string(mask) for mask in masks.values()],
        list(reserved),
        list(reserved.values()),
    )
    for (uuid, block), mask in masks.items():
        state.occupancy_of(uuid).release(block, mask)
    for uuid, count in reserved.items():
        state.counters[uuid].taken_reserved -= count
