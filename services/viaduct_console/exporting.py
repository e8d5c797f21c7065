"""IPAM's ranges, reservations and allocations as rows that can be imported again."""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID

from viaduct_common.client import ViaductClient
from viaduct_common.errors import NotFound
from viaduct_common.messages.base import Page, Request, WireModel
from viaduct_common.messages.ipam import (
    AllocationRow,
    QueryIps,
    QueryRanges,
    QueryReservations,
    QueryScopes,
    RangeRow,
    ReservationRow,
)
from viaduct_console.rowfile import Values

PAGE = 1000
Query = type[QueryScopes] | type[QueryRanges] | type[QueryReservations] | type[QueryIps]
KINDS: Sequence[tuple[str, Query, str, type[WireModel]]] = (
    ("range", QueryRanges, "startIp", RangeRow),
    ("reservation", QueryReservations, "startIp", ReservationRow),
    ("allocation", QueryIps, "ip", AllocationRow),
)


async def export_rows(
    net: ViaductClient, l3_network_uuids: Sequence[UUID] = (), zone_uuids: Sequence[UUID] = ()
) -> AsyncIterator[Values]:
    """The rows of all L3 networks, or of some: one network after the other, of each first ranges, then reservations,
    then allocations, by address. Equal contents give equal rows in equal order, but for uuids and times.

    Raises:
        NotFound: an L3 network that is asked for is not there, or not in these zones.
    """
    filters: dict[str, Any] = {}
    if l3_network_uuids:
        filters["l3NetworkUuid"] = list(l3_network_uuids)
    if zone_uuids:
        filters["zoneUuid"] = list(zone_uuids)
    missing = set(l3_network_uuids)
    async for scope in _every(net, QueryScopes, "l3NetworkUuid", filters):
        missing.discard(scope.l3_network_uuid)
        for kind, query, sort, row_type in KINDS:
            items = _every(net, query, sort, {"l3NetworkUuid": scope.l3_network_uuid})
            async for item in _settled(items, sort):
                yield _row(kind, row_type, item)
    if missing:
        raise NotFound.of("L3 network", min(missing, key=str))


async def _every(net: ViaductClient, query: Query, sort: str, filters: dict[str, Any]) -> AsyncIterator[Any]:
    after: str | None = None
    while True:
        body = {"sort": sort, "limit": PAGE, "after": after, "filters": filters}
        request: Request[Page[Any]] = query.model_validate(body)
        page = await net.call(request)
        for item in page.items:
            yield item
        after = page.after
        if after is None:
            return


async def _settled(items: AsyncIterator[Any], sort: str) -> AsyncIterator[Any]:
    """Items that begin at the same address come in the order of their uuids; put them into one that an import keeps."""
    name = {"startIp": "start_ip", "ip": "ip"}[sort]
    together: list[Any] = []
    async for item in items:
        if together and getattr(together[0], name) != getattr(item, name):
            for one in _in_order(together):
                yield one
            together = []
        together.append(item)
    for one in _in_order(together):
        yield one


def _in_order(items: list[Any]) -> list[Any]:
    return items if len(items) == 1 else sorted(items, key=_content)


def _content(item: WireModel) -> str:
    return json.dumps(item.model_dump(mode="json", exclude={"uuid", "created_at"}), sort_keys=True)


def _row(kind: str, row_type: type[WireModel], item: WireModel) -> Values:
    names = [field.alias or name for name, field in row_type.model_fields.items()]
    values = item.model_dump(mode="json")
    return {"kind": kind, **{name: values[name] for name in names if name != "kind"}}
