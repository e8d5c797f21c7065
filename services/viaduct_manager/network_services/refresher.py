"""Hosts learn what they must have for services: whatever is marked is looked at, and what differs is told.

    mark ─► claimed: one look at an instance at a time ─► `desired`, by what is committed ─► rows and commands

A look asks nobody what changed. So a mark too many costs a look and no message; of two changes at the same moment both
marks are looked at after both are in; and a manager that dies in the middle has changed nothing.
"""

from collections.abc import Callable, Mapping
from uuid import UUID

import structlog
from pydantic_core import from_json, to_json

from viaduct_common.bus.failures import StoreUnavailable
from viaduct_common.errors import ViaductError
from viaduct_common.postgres.pool import Connection, Pool, transaction
from viaduct_common.postgres.wakeful import Wakeful
from viaduct_manager import service_orders
from viaduct_manager.model.service_plan import Spec, plan
from viaduct_manager.network_services.addresses import ServiceAddresses
from viaduct_manager.network_services.api import Change, Desired, ServiceKey
from viaduct_manager.network_services.registry import NetworkServices
from viaduct_manager.store import service_addresses, service_marks, services

log = structlog.get_logger()

POLL_SECONDS = 0.5
# A crowd of commits is one look.
SPACING_SECONDS = 0.02
INSTANCES_AT_ONCE = 128
NETWORKS_AT_ONCE = 256
# What could not be looked at, because IPAM did not answer, or because of a mistake, is looked at again.
AGAIN_SECONDS = 1.0
# What has a problem is looked at again: a host that is fit may be there now, of which nobody told.
PROBLEM_SECONDS = 5.0


class ServiceRefresher:
    """Any number of managers may run one each.

    Args:
        committed: called after each commit (wakes the outbox relay, and who waits for services).
    """

    def __init__(
        self, pool: Pool, services_: NetworkServices, addresses: ServiceAddresses, committed: Callable[[], None]
    ) -> None:
        self._pool = pool
        self._services = services_
        self._addresses = addresses
        self._committed = committed
        self._marked = False
        self._loop = Wakeful("services", self._look, poll_seconds=POLL_SECONDS, spacing_seconds=SPACING_SECONDS)
        services_.on_mark(self._note)

    def _note(self) -> None:
        self._marked = True

    def wake(self) -> None:
        """Something was committed: if marks were among it, do not wait for the next poll."""
        if self._marked:
            self._loop.wake()

    async def run(self) -> None:
        """Until cancelled."""
        await self._loop.run()

    async def _look(self) -> bool:
        self._marked = False
        async with transaction(self._pool) as connection:
            await service_marks.mark_again(connection, await service_marks.with_problems(connection, PROBLEM_SECONDS))
            networks, instances = await service_marks.any_due(connection, self._services.names)
            if networks:
                await self._expand(connection)
        if instances or networks:
            async with transaction(self._pool) as connection:
                await service_marks.adopt(connection)
        looked = await self._refresh() if instances or networks else 0
        return looked == INSTANCES_AT_ONCE or await self._give_back()

    async def _expand(self, connection: Connection) -> None:
        l3_uuids = await service_marks.take_l3(connection, NETWORKS_AT_ONCE)
        if l3_uuids:
            await self._services.changed(connection, Change(l3_uuids=frozenset(l3_uuids)))

    async def _refresh(self) -> int:
        """Look at what is due; return how many instances that was."""
        async with transaction(self._pool) as connection:
            claimed = await service_marks.claim(connection, INSTANCES_AT_ONCE, self._services.names)
            told = 0
            for provider, keys in claimed.keys.items():
                told += await self._of_provider(connection, provider, keys, claimed.marks)
        if claimed.marks:
            log.debug("services_looked_at", instances=len(claimed.marks), told=told)
            self._committed()
        return len(claimed.marks)

    async def _of_provider(
        self, connection: Connection, provider: str, keys: list[ServiceKey], marks: Mapping[UUID, list[int]]
    ) -> int:
        """All at once; one by one if that fails, so that one does not keep the others from being looked at."""
        for group in ([keys], [[key] for key in keys]) if len(keys) > 1 else ([keys],):
            told, failed = 0, False
            for some in group:
                ids = [one for key in some for one in marks[key.uuid]]
                try:
                    async with connection.transaction():
                        told += await self._tell(connection, provider, some, ids)
                except StoreUnavailable:
                    raise
                except Exception as error:
                    failed = True
                    if len(some) == 1:
                        await self._complain(connection, some[0], ids, error)
                else:
                    await service_marks.done(connection, ids)
            if not failed:
                break
        return told

    async def _tell(self, connection: Connection, provider: str, keys: list[ServiceKey], ids: list[int]) -> int:
        found = await self._services.named(provider).desired(keys, connection)
        desired = {key: found.get(key, Desired()) for key in keys}
        specs = {key: {uuid: _plain(spec) for uuid, spec in one.by_host.items()} for key, one in desired.items()}
        told = await services.told(connection, [key.uuid for key in keys])
        concerned = {uuid for by_host in specs.values() for uuid in by_host}
        concerned |= {one.host_uuid for rows in told.values() for one in rows}
        first = {key: plan(specs[key], told[key.uuid]) for key in keys}
        if all(one.empty for one in first.values()):
            plans, ordered = first, []
        else:
            hosts = await services.hold_hosts(connection, concerned)
            leaving = {uuid for uuid in concerned if uuid not in hosts or hosts[uuid].deleting}
            # Once more: a host that was just told in full has another standing now.
            told = await services.told(connection, [key.uuid for key in keys])
            plans = {key: plan(specs[key], told[key.uuid], leaving) for key in keys}
            ordered = await services.tell(connection, plans, hosts)
            await service_orders.orders(connection, ordered)
        await self._close(connection, desired, ids)
        return len(ordered)

    async def _close(self, connection: Connection, desired: Mapping[ServiceKey, Desired], ids: list[int]) -> None:
        """Keep the problems; what is wanted no more, and no host has, gives up its addresses and is forgotten."""
        for key, one in desired.items():
            await services.set_problem(connection, key.uuid, None if one.problem is None else one.problem.to_body())
        unwanted = [key.uuid for key, one in desired.items() if not one.by_host and one.problem is None]
        gone = await services.gone(connection, unwanted) if unwanted else []
        for uuid in gone:
            await service_addresses.give_up(connection, uuid)
        if gone:
            await services.purge(connection, gone, ids)

    async def _complain(self, connection: Connection, key: ServiceKey, ids: list[int], error: Exception) -> None:
        """It stays as it is; a refusal is shown, and all is tried again."""
        if isinstance(error, ViaductError) and not error.retryable:
            log.warning("service_refused", kind=key.kind, subject_uuid=str(key.subject_uuid), reason=error.message)
            await services.set_problem(connection, key.uuid, error.to_body())
            await service_marks.done(connection, ids)
            return
        log.warning("service_not_looked_at", kind=key.kind, subject_uuid=str(key.subject_uuid), exc_info=error)
        await service_marks.postpone(connection, ids, AGAIN_SECONDS)

    async def _give_back(self) -> bool:
        """Addresses that were given up go back to IPAM; true if there may be more."""
        try:
            async with transaction(self._pool) as connection:
                return await self._addresses.tell_ipam(connection) > 0
        except ViaductError as error:
            log.warning("ipam_not_told", reason=error.message)
            return False


def _plain(spec: Spec) -> Spec:
    """As it comes back from the database: what was told is compared with it."""
    plain: Spec = from_json(to_json(dict(spec)))
    return plain
