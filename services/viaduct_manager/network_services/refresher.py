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
from viaduct_common.messages.base import ErrorBody
from viaduct_common.postgres.pool import Connection, Pool, transaction
from viaduct_common.postgres.wakeful import Wakeful
from viaduct_manager import service_orders
from viaduct_manager.model.service_plan import Spec, plan
from viaduct_manager.network_services.addresses import ServiceAddresses
from viaduct_manager.network_services.api import Change, Desired, ServiceKey
from viaduct_manager.network_services.registry import NetworkServices
from viaduct_manager.store import service_addresses, service_marks, services
from viaduct_manager.store.services import ServiceOrder

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
        services_.on_mark(self._heard)

    def _heard(self) -> None:
        self._marked = True

    def wake(self) -> None:
        """Something was committed: if marks were among it, do not wait for the next poll."""
        if self._marked:
            self._loop.wake()

    async def run(self) -> None:
        """Until cancelled."""
        await self._loop.run()

    async def _look(self) -> bool:
        """True if something was done: it may have led to more."""
        self._marked = False
        async with transaction(self._pool) as connection:
            due = await service_marks.due(connection, PROBLEM_SECONDS)
        if due.networks or due.problems:
            await self._mark(due)
        mine = [name for name in due.providers if name in self._services.names]
        if mine:
            async with transaction(self._pool) as connection:
                await service_marks.adopt(connection)
        looked = [await self._refresh(name) for name in mine]
        given_back = due.addresses and await self._give_back()
        return due.networks or bool(due.problems) or any(looked) or given_back

    async def _mark(self, due: service_marks.Due) -> None:
        """What stands for instances that nobody has named yet, or not again."""
        async with transaction(self._pool) as connection:
            await service_marks.mark_again(connection, due.problems)
            l3_uuids = await service_marks.take_l3(connection, NETWORKS_AT_ONCE) if due.networks else []
            if l3_uuids:
                await self._services.changed(connection, Change(l3_uuids=frozenset(l3_uuids)))

    async def _refresh(self, provider: str) -> bool:
        """Look at what is due of a provider; true if that was anything.

        A transaction for each: hosts are locked once in it, all in order, so that nobody waits in a circle.
        """
        async with transaction(self._pool) as connection:
            claimed = await service_marks.claim(connection, provider, INSTANCES_AT_ONCE)
            if not claimed.keys:
                return False
            told = await self._at_once_or_one_by_one(connection, provider, claimed)
        log.debug("services_looked_at", provider=provider, instances=len(claimed.keys), told=told)
        self._committed()
        return True

    async def _at_once_or_one_by_one(
        self, connection: Connection, provider: str, claimed: service_marks.Claimed
    ) -> int:
        """One by one if all at once fails, so that one does not keep the others from being looked at; return how many
        orders that gave."""
        try:
            return await self._try(connection, provider, claimed.keys, claimed.marks)
        except StoreUnavailable:
            raise
        except Exception as error:
            if len(claimed.keys) == 1:
                await self._complain(connection, claimed.keys[0], claimed.marks, error)
                return 0
        told = 0
        for key in claimed.keys:
            one = service_marks.Claimed([key], claimed.marks)
            told += await self._at_once_or_one_by_one(connection, provider, one)
        return told

    async def _try(
        self, connection: Connection, provider: str, keys: list[ServiceKey], marks: Mapping[UUID, list[int]]
    ) -> int:
        ids = [one for key in keys for one in marks[key.uuid]]
        async with connection.transaction():  # a savepoint: what fails leaves no half of it
            ordered = await self._note(connection, provider, keys, ids)
        await service_marks.done(connection, ids)
        await service_orders.orders(connection, ordered)
        return len(ordered)

    async def _note(
        self, connection: Connection, provider: str, keys: list[ServiceKey], ids: list[int]
    ) -> list[ServiceOrder]:
        """Write down what differs from what hosts were told; return what they are to be told now."""
        found = await self._services.named(provider).desired(keys, connection)
        desired = {key: found.get(key, Desired()) for key in keys}
        specs = {key: {uuid: _plain(spec) for uuid, spec in one.by_host.items()} for key, one in desired.items()}
        uuids = [key.uuid for key in keys]
        told = await services.told(connection, uuids)
        plans = {key: plan(specs[key], told[key.uuid]) for key in keys}
        concerned = {host_uuid for one in plans.values() for host_uuid in one.hosts}
        ordered: list[ServiceOrder] = []
        if concerned:
            hosts = await services.hold_hosts(connection, concerned)
            leaving = {host_uuid for host_uuid in concerned if host_uuid not in hosts or hosts[host_uuid].deleting}
            # Once more: a host that was waited for was just told in full, or is being removed.
            told = await services.told(connection, uuids)
            plans = {key: plan(specs[key], told[key.uuid], leaving).among(hosts) for key in keys}
            ordered = await services.tell(connection, plans, hosts)
        await self._close(connection, desired, ids)
        return ordered

    async def _close(self, connection: Connection, desired: Mapping[ServiceKey, Desired], ids: list[int]) -> None:
        """Keep the problems; what is wanted no more, and no host has, gives up its addresses and is forgotten."""
        await services.set_problems(connection, {key.uuid: _problem(one) for key, one in desired.items()})
        unwanted = [key.uuid for key, one in desired.items() if not one.by_host and one.problem is None]
        gone = await services.gone(connection, unwanted) if unwanted else []
        for uuid in gone:
            await service_addresses.give_up(connection, uuid)
        if gone:
            await services.purge(connection, gone, ids)

    async def _complain(
        self, connection: Connection, key: ServiceKey, marks: Mapping[UUID, list[int]], error: Exception
    ) -> None:
        """It stays as it is; a refusal is shown, and all is tried again."""
        ids = marks[key.uuid]
        if isinstance(error, ViaductError) and not error.retryable:
            log.warning("service_refused", kind=key.kind, subject_uuid=str(key.subject_uuid), reason=error.message)
            await services.set_problems(connection, {key.uuid: error.to_body()})
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


def _problem(desired: Desired) -> ErrorBody | None:
    """As it is kept; with `details.partial` where hosts have the instance all the same."""
    if desired.problem is None:
        return None
    body = desired.problem.to_body()
    return body.model_copy(update={"details": {**body.details, "partial": True}}) if desired.by_host else body


def _plain(spec: Spec) -> Spec:
    """As it comes back from the database: what was told is compared with it."""
    plain: Spec = from_json(to_json(dict(spec)))
    return plain
