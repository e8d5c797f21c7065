"""What happens by the passing of time: silent hosts, deadlines, retries, revocations, forgetting.

Any number of managers may run one each: rows are claimed with SKIP LOCKED, or the update itself decides who was first.
"""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

import structlog

from viaduct_common.bus import BusError, StoreUnavailable
from viaduct_common.errors import ViaductError
from viaduct_common.postgres.pool import Pool, transaction
from viaduct_manager import announce, conductor, service_orders
from viaduct_manager.enrolment import Enrolment
from viaduct_manager.network_services.api import Change
from viaduct_manager.network_services.registry import NetworkServices
from viaduct_manager.store import (
    account_networks,
    hosts,
    l2_networks,
    operations,
    realizations,
    revocations,
    service_states,
    steps,
)

log = structlog.get_logger()

FORGET_EVERY_ROUNDS = 300
CALM_SECONDS = 600.0  # twice as long as a host counts its repairs for


class Caretaker:
    def __init__(
        self,
        pool: Pool,
        enrolment: Enrolment,
        *,
        services: NetworkServices,
        silent_seconds: float,
        every_seconds: float,
        committed: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._enrolment = enrolment
        self._services = services
        self._silent_seconds = silent_seconds
        self._every_seconds = every_seconds
        self._committed = committed
        self._round = 0
        self._broker_is_new = True

    async def broker_connected(self) -> None:
        """It may be another one than before, made from nothing: hosts' queues and users are looked after next."""
        self._broker_is_new = True

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            for duty in (
                self._lose_silent_hosts,
                self._end_overdue,
                self._retry,
                self._retry_services,
                self._revoke,
                self._purge,
                self._furnish,
                self._calm,
                self._forget,
            ):
                await self._perform(duty)
            self._round += 1
            await asyncio.sleep(self._every_seconds)

    async def _perform(self, duty: Callable[..., Awaitable[None]], *about: UUID) -> None:
        """One duty, or one case of it, that fails must not keep the others from being done; it is done again in the
        next round."""
        try:
            await duty(*about)
        except (StoreUnavailable, BusError, ViaductError) as error:
            log.warning("duty_failed", duty=duty.__name__, about=[str(one) for one in about], reason=str(error))
        except Exception:
            log.exception("duty_crashed", duty=duty.__name__, about=[str(one) for one in about])
        self._committed()

    async def _lose_silent_hosts(self) -> None:
        async with transaction(self._pool) as connection:
            lost = await hosts.lose_silent(connection, self._silent_seconds)
            for host_uuid in lost:
                await announce.event(connection, "host.disconnected", await hosts.get(connection, host_uuid))
            if lost:
                await self._services.changed(connection, Change(host_uuids=frozenset(lost)))
            in_vain = await steps.waited_for_in_vain(connection)
        for host_uuid in lost:
            log.warning("host_disconnected", host_uuid=str(host_uuid))
        # Asked of the table, not of `lost`: whoever lost the host may have died before it came to this.
        for host_uuid in in_vain:
            await self._perform(self._skip, host_uuid)

    async def _skip(self, host_uuid: UUID) -> None:
        async with transaction(self._pool) as connection:
            await conductor.skip_host(connection, host_uuid, "the host does not answer")

    async def _end_overdue(self) -> None:
        async with transaction(self._pool) as connection:
            overdue = await operations.overdue(connection)
        for operation_uuid in overdue:
            log.warning("operation_overdue", operation_uuid=str(operation_uuid))
            await self._perform(self._time_out, operation_uuid)

    async def _time_out(self, operation_uuid: UUID) -> None:
        async with transaction(self._pool) as connection:
            await conductor.time_out(connection, operation_uuid)

    async def _retry(self) -> None:
        async with transaction(self._pool) as connection:
            renewed = await realizations.renew_due(connection)
            await announce.orders(connection, renewed)
        if renewed:
            log.info("realizations_retried", count=len(renewed))

    async def _retry_services(self) -> None:
        async with transaction(self._pool) as connection:
            renewed = await service_states.renew_due(connection)
            await service_orders.orders(connection, renewed)
        if renewed:
            log.info("services_retried", count=len(renewed))

    async def _revoke(self) -> None:
        async with transaction(self._pool) as connection:
            for host_uuid in await revocations.take(connection):
                await self._enrolment.revoke(host_uuid)
                await revocations.done(connection, host_uuid)
                log.info("host_revoked", host_uuid=str(host_uuid))

    async def _purge(self) -> None:
        """What no host has any more: above all what accounts have given up, whose VNIs others can have then."""
        async with transaction(self._pool) as connection:
            await l2_networks.purge(connection)

    async def _furnish(self) -> None:
        """Give back what a broker that was rebuilt has lost; every password is as it was, for it is derived."""
        if not self._broker_is_new:
            return
        self._broker_is_new = False
        try:
            async with transaction(self._pool) as connection:
                enrolled = await hosts.enrolled(connection)
            for host_uuid in await self._enrolment.missing(enrolled):
                await self._enrol_again(host_uuid)
        except BaseException:
            self._broker_is_new = True  # in the next round
            raise

    async def _enrol_again(self, host_uuid: UUID) -> None:
        async with transaction(self._pool) as connection:
            # Locked, so that who removes the host meanwhile revokes after us, and it does not get its place back.
            if await hosts.find_locked(connection, host_uuid) is None:
                return
            await self._enrolment.enrol(host_uuid)
        log.warning("host_enrolled_again", host_uuid=str(host_uuid))

    async def _calm(self) -> None:
        async with transaction(self._pool) as connection:
            await hosts.calm(connection, CALM_SECONDS)

    async def _forget(self) -> None:
        if self._round % FORGET_EVERY_ROUNDS == 0:
            async with transaction(self._pool) as connection:
                await operations.forget_old(connection)
                for l2_uuid in await account_networks.idle(connection):
                    await account_networks.give_up(connection, l2_uuid)
