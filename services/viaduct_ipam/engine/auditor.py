"""Audits: which allocations are of owners that nobody knows any more, and taking those back.

Nothing of the database is held while the manager is asked: that may take as long as it takes.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable
from ipaddress import ip_address
from typing import Any
from uuid import UUID

from viaduct_common.bus import Bus, RequestContext
from viaduct_common.bus.serve import Deferred
from viaduct_common.errors import InvalidRequest, PreconditionFailed, ViaductError
from viaduct_common.messages.base import Request
from viaduct_common.messages.ipam import AuditIps, IpAudit, ReclaimIps, UsedIpInventory
from viaduct_common.messages.owner import LookUpOwners
from viaduct_common.postgres.idempotency import IdempotentExecutor, former_answers, ok_reply
from viaduct_common.postgres.pool import Connection, Pool, transaction
from viaduct_ipam.engine import metrics
from viaduct_ipam.handlers.inventories import used_ip_inventory
from viaduct_ipam.model.ranges import Address
from viaduct_ipam.store.api import UsedIp
from viaduct_ipam.store.holdings import audit_page, owners_of, reclaim
from viaduct_ipam.store.releasing import Actor

AskOwners = Callable[[list[str]], Awaitable[Collection[str]]]
Execute = Callable[[Request[Any], RequestContext], Awaitable[bytes | Deferred]]

ASK_SECONDS = 10.0
# Audits and reclaims name up to 1000 allocations, `owner.lookup` takes as many owners: one question is enough.


def ask_manager(bus: Bus) -> AskOwners:
    """Asks the manager, over the bus, which of up to 1000 owners it knows."""

    async def ask(owners: list[str]) -> Collection[str]:
        return await bus.call(LookUpOwners(owners=owners), timeout_seconds=ASK_SECONDS)

    return ask


async def nobody_to_ask(_: list[str]) -> Collection[str]:
    """Where there is no bus."""
    raise PreconditionFailed("it is not connected")


class Auditor:
    """Args:
    ask: which of up to 1000 owners are known; a ViaductError says that there is no telling.
    others: does all requests but `ip.audit` and `ip.reclaim`.
    committed: called after each commit that may have written to the outbox.
    """

    def __init__(
        self, pool: Pool, ask: AskOwners, others: Execute, *, committed: Callable[[], None] = lambda: None
    ) -> None:
        self._pool = pool
        self._ask = ask
        self._others = others
        self._committed = committed

    async def execute(self, request: Request[Any], context: RequestContext) -> bytes | Deferred:
        """Raises:
        ViaductError: refused, and nothing was changed.
        StoreUnavailable: the database is away; repeat it.
        """
        if isinstance(request, AuditIps):
            return ok_reply(await self.audit(request))
        if isinstance(request, ReclaimIps):
            return await self.reclaim(request, context)
        return await self._others(request, context)

    async def audit(self, request: AuditIps) -> IpAudit:
        """Addresses first, owners second: one who is made in between is known by then.

        Raises:
            InvalidRequest: the cursor is not ours.
            PreconditionFailed: there is nobody to ask.
        """
        after = _cursor(request)
        async with transaction(self._pool) as connection:
            page = await audit_page(connection, request.l3_network_uuid, request.grace_seconds, request.limit, after)
        known = await self._known(request, (one.owner for one in page.items))
        unknown = [one for one in page.items if _is_lost(one.owner, known, ownerless=request.include_ownerless)]
        return IpAudit(
            unknown=[used_ip_inventory(one) for one in unknown],
            checked=len(page.items),
            after=None if page.after is None else str(page.after),
        )

    async def reclaim(self, request: ReclaimIps, context: RequestContext) -> bytes | Deferred:
        """The owners are asked before anything is changed; a repeated request is answered without asking anybody.

        Raises:
            PreconditionFailed: there is nobody to ask.
        """
        key = (context.sender, context.message_id)
        async with transaction(self._pool) as connection:
            former = (await former_answers(connection, [key])).get(key)
            owners = await owners_of(connection, request.uuids)
        if former is not None:
            return former.checked(request.message_type)
        known = await self._known(request, owners.values())
        lost = {
            uuid: owners[uuid]
            for uuid in dict.fromkeys(request.uuids)
            if uuid in owners and _is_lost(owners[uuid], known, ownerless=True)
        }
        freed: list[UsedIp] = []

        async def free(_: ReclaimIps, connection: Connection, __: RequestContext) -> list[UsedIpInventory]:
            freed.extend(await reclaim(connection, Actor(*key), lost))
            return [used_ip_inventory(one) for one in freed]

        executor = IdempotentExecutor(self._pool, {request.message_type: free}, committed=self._committed)
        answer = await executor.execute(request, context)
        metrics.ADDRESSES.labels("reclaimed").inc(len(freed))
        return answer

    async def _known(self, request: AuditIps | ReclaimIps, owners: Iterable[str | None]) -> set[str]:
        if request.known_owners is not None:
            return set(request.known_owners)
        wanted = sorted({owner for owner in owners if owner is not None})
        try:
            return set(await self._ask(wanted)) if wanted else set()
        except ViaductError as error:
            failure = PreconditionFailed(
                f"the manager does not say which owners it knows ({error.message}): start it, or give knownOwners"
            )
            failure.retryable = True
            raise failure from error


def _is_lost(owner: str | None, known: Collection[str], *, ownerless: bool) -> bool:
    return ownerless if owner is None else owner not in known


def _cursor(request: AuditIps) -> UUID | Address | None:
    """An address within an L3 network, else a uuid: where the page before ended."""
    if request.after is None:
        return None
    try:
        return UUID(request.after) if request.l3_network_uuid is None else ip_address(request.after)
    except ValueError:
        raise InvalidRequest.of_field("after", "not a cursor of this query") from None
