"""Who held what: the present from used_ip, the past from ip_history, as one; and what an audit looks at."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Interface
from typing import Literal
from uuid import UUID

from viaduct_common.messages.base import QueryBody
from viaduct_common.messages.ipam import HoldingFilters, IpHolding
from viaduct_common.postgres.paging import Column, Listing, list_page
from viaduct_common.postgres.pool import Connection
from viaduct_ipam.model.ranges import Address
from viaduct_ipam.store.api import Listed, UsedIp
from viaduct_ipam.store.filling import announce_fill
from viaduct_ipam.store.releasing import Actor, Claim, take_back
from viaduct_ipam.store.rows import RANGE_COLUMNS, USED_COLUMNS, Row, used_ip_of
from viaduct_ipam.store.states import load_states

# Both halves have the same types, so Postgres walks the indexes of both in step, and stops at the end of the page. An
# allocation that ends between two pages keeps its place: it began when it began.
_HOLDINGS = Listing(
    select="""
        SELECT uuid, ip, l3_network_uuid, owner, mac, allocated_at, allocated_by, allocated_by_message,
            NULL::timestamptz AS ended_at, NULL::text AS end_reason, NULL::text AS ended_by,
            NULL::uuid AS ended_by_message, 'infinity'::timestamptz AS held_until
        FROM used_ip
        UNION ALL
        SELECT uuid, ip, l3_network_uuid, owner, mac, allocated_at, allocated_by, allocated_by_message,
            ended_at, end_reason, ended_by, ended_by_message, ended_at
        FROM ip_history
    """,
    columns={
        "uuid": Column("uuid", "uuid"),
        "l3NetworkUuid": Column("l3_network_uuid", "uuid"),
        "ip": Column("ip", "inet"),
        # NULL compares with nothing, so a cursor could not point at it; the filter keeps to the index.
        "owner": Column("coalesce(owner, '')", "text", condition="owner = ANY({})"),
        "allocatedAt": Column("allocated_at", "timestamptz"),
        # Two moments: held at any moment between them.
        "heldWithin": Column(
            "allocated_at", "timestamptz", condition="allocated_at <= ({0})[2] AND held_until >= ({0})[1]"
        ),
    },
    key=Column("uuid", "uuid"),
    default_sort="-allocatedAt",
)
# A plan for any values would be made for none: a page of everything and the holder of one address want other indexes.
_PLAN_FOR_THESE_VALUES = "SET LOCAL plan_cache_mode = force_custom_plan"

_AUDIT_PAGE = f"""
    SELECT {USED_COLUMNS}, {RANGE_COLUMNS}
    FROM used_ip u JOIN ip_range r ON r.uuid = u.range_uuid
    WHERE u.uuid > $1 AND u.allocated_at < clock_timestamp() - make_interval(secs => $2)
    ORDER BY u.uuid LIMIT $3
"""
_AUDIT_PAGE_OF_L3 = f"""
    SELECT {USED_COLUMNS}, {RANGE_COLUMNS}
    FROM used_ip u JOIN ip_range r ON r.uuid = u.range_uuid
    WHERE u.l3_network_uuid = $4 AND u.ip > $1 AND u.allocated_at < clock_timestamp() - make_interval(secs => $2)
    ORDER BY u.ip LIMIT $3
"""
_SCOPES_OF_USED = "SELECT DISTINCT l3_network_uuid FROM used_ip WHERE uuid = ANY($1::uuid[]) ORDER BY 1"
_OWNERS = "SELECT uuid, owner FROM used_ip WHERE uuid = ANY($1::uuid[])"


@dataclass(frozen=True)
class AuditPage:
    """Allocations that are old enough, and the cursor of the next page."""

    items: Sequence[UsedIp]
    after: UUID | Address | None


class _Filters(HoldingFilters):
    """Of these each is a column of the listing."""

    held_within: list[datetime | Literal["-infinity", "infinity"]] | None = None


async def list_holdings(connection: Connection, query: QueryBody, filters: HoldingFilters) -> Listed[IpHolding]:
    """One page, what began last first; the connection is in a transaction.

    Raises:
        InvalidRequest: a sort field that does not exist, or a cursor that is not ours.
    """
    await connection.execute(_PLAN_FOR_THESE_VALUES)
    mine = _Filters.model_validate(dict(filters) | {"from_time": None, "to_time": None})
    if filters.from_time is not None or filters.to_time is not None:
        mine = mine.model_copy(
            update={"held_within": [filters.from_time or "-infinity", filters.to_time or "infinity"]}
        )
    page = await list_page(connection, _HOLDINGS, query, mine)
    return Listed([_holding_of(row) for row in page.rows], page.after)


def _holding_of(row: Row) -> IpHolding:
    return IpHolding(
        uuid=row["uuid"],
        ip=row["ip"],
        l3_network_uuid=row["l3_network_uuid"],
        owner=row["owner"],
        mac=row["mac"],
        allocated_at=row["allocated_at"],
        allocated_by=row["allocated_by"],
        allocated_by_message=row["allocated_by_message"],
        ended_at=row["ended_at"],
        end=row["end_reason"],
        ended_by=row["ended_by"],
        ended_by_message=row["ended_by_message"],
    )


async def audit_page(
    connection: Connection, l3_network_uuid: UUID | None, grace_seconds: int, limit: int, after: UUID | Address | None
) -> AuditPage:
    """Allocations older than `grace_seconds`, of one L3 network by address, else of all by uuid.

    Args:
        after: where the page before ended: an address of the L3 network, else a uuid.
    """
    if l3_network_uuid is None:
        rows = await connection.fetch(_AUDIT_PAGE, after or UUID(int=0), grace_seconds, limit + 1)
    else:
        first = after or IPv4Interface("0.0.0.0/0")  # sorts before every address
        rows = await connection.fetch(_AUDIT_PAGE_OF_L3, first, grace_seconds, limit + 1, l3_network_uuid)
    items = [used_ip_of(row) for row in rows[:limit]]
    more = len(rows) > limit
    return AuditPage(items, (items[-1].uuid if l3_network_uuid is None else items[-1].ip) if more else None)


async def owners_of(connection: Connection, uuids: Collection[UUID]) -> dict[UUID, str | None]:
    """Of those that are used, whose they are."""
    return {row["uuid"]: row["owner"] for row in await connection.fetch(_OWNERS, list(uuids))}


async def reclaim(connection: Connection, by: Actor, owners: Mapping[UUID, str | None]) -> list[UsedIp]:
    """Free these allocations as far as they are still held by whom it says, and return what was freed in that order.

    A uuid is never that of another allocation, and none changes its owner; under the lock it is looked at all the same.
    """
    claim = Claim(by, list(owners))
    scopes = [row[0] for row in await connection.fetch(_SCOPES_OF_USED, claim.uuids)]
    freed: list[UsedIp] = []
    for state in (await load_states(connection, scopes, {}, lock=True)).values():
        held = await owners_of(connection, claim.uuids)
        mine = Claim(by, [uuid for uuid in claim.uuids if uuid in held and held[uuid] == owners[uuid]])
        [taken] = await take_back(connection, state, [mine], "reclaimed")
        freed += taken
        await announce_fill(connection, state)
    return claim.in_order(freed)
