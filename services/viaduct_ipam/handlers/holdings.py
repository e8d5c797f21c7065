"""`ip.history`; audits are `viaduct_ipam.engine.auditor`'s, because they ask the manager."""

from viaduct_common.errors import InvalidRequest
from viaduct_common.messages.base import Page
from viaduct_common.messages.ipam import IpHolding, QueryHistory
from viaduct_ipam.store.api import Store


async def query_history(request: QueryHistory, store: Store) -> Page[IpHolding]:
    """Raises:
    InvalidRequest: a time span that ends before it begins.
    """
    first, last = request.filters.from_time, request.filters.to_time
    if first is not None and last is not None and first > last:
        raise InvalidRequest.of_field("filters.toTime", "before fromTime")
    page = await store.list_holdings(request)
    return Page[IpHolding](items=list(page.items), after=page.after)
