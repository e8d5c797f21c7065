"""What agents say of service instances: completions, what they hold, drift. Part of `agents`, in its transactions."""

from collections.abc import Iterable
from uuid import UUID

import structlog
from prometheus_client import Counter

from viaduct_common.digest import holdings_digest
from viaduct_common.messages.agent import HostHeartbeat, HostHello
from viaduct_common.messages.services.commands import ServiceCompletion, ServiceDrift, ServiceResult
from viaduct_common.postgres.pool import Connection
from viaduct_manager import announce, conductor, service_orders, vm_departures
from viaduct_manager.model.retries import SERVICE_CODES, retry_after_seconds
from viaduct_manager.model.sync import DONE, expected_digest, needs_sync, settled
from viaduct_manager.network_services.api import Change
from viaduct_manager.network_services.registry import NetworkServices
from viaduct_manager.store import hosts, operations, service_inquiries, service_states, steps

log = structlog.get_logger()

DRIFT = Counter(
    "viaduct_manager_service_drift", "Drift of services that hosts told of, by whether repaired", ["repaired"]
)


class ServiceReports:
    def __init__(self, services: NetworkServices, settle_seconds: float) -> None:
        self._services = services
        self._settle_seconds = settle_seconds

    async def host_changed(self, connection: Connection, host_uuid: UUID) -> None:
        """It came back, or is about to be something else."""
        await self._services.changed(connection, Change(host_uuids=frozenset({host_uuid})))

    async def completion(self, connection: Connection, host_uuid: UUID, completion: ServiceCompletion) -> None:
        if completion.command == "service.check":
            await self._inquired(connection, host_uuid, completion)
            return
        # First the host, then what it has: the order in which all lock these.
        if await hosts.find_locked(connection, host_uuid) is None:
            return  # it was removed meanwhile, and with it all that it had
        removed = [
            ServiceResult(service_uuid=uuid, generation=generation, outcome="done")
            for uuid in completion.removed
            if (generation := await service_states.find_absent(connection, host_uuid, uuid)) is not None
        ]
        await self._observe(connection, host_uuid, [*completion.items, *removed])
        await self._end_steps(connection, host_uuid, completion)
        log.info(
            "service_completion",
            command=completion.command,
            done=sum(item.outcome == "done" for item in completion.items),
            failed=sum(item.outcome == "failed" for item in completion.items),
        )

    async def hello(self, connection: Connection, host_uuid: UUID, hello: HostHello) -> None:
        """The host is locked; it said what it holds."""
        held = [(one.service_uuid, one.generation) for one in hello.services]
        await service_states.outrun(connection, host_uuid, held)
        rows = await service_states.of_host(connection, host_uuid)
        in_motion = any(row.state not in DONE for row in rows)
        if in_motion or holdings_digest(held) != expected_digest(rows):
            await service_orders.sync(connection, host_uuid)

    async def heartbeat(self, connection: Connection, host_uuid: UUID, beat: HostHeartbeat) -> None:
        """The host is locked, connected and not in maintenance; agents without services say nothing of them."""
        if beat.services_digest is None:
            return
        rows = await service_states.of_host(connection, host_uuid)
        differs = beat.services_digest != expected_digest(rows)
        if not rows and not differs:
            return
        before = await service_states.beat(connection, host_uuid)
        if differs or before.differing > 0:
            await service_states.note_digest(connection, host_uuid, differs=differs)
        if differs and needs_sync(
            rows,
            beat.services_digest,
            settle_seconds=self._settle_seconds,
            since_sync_seconds=before.since_sync_seconds,
            beats=before.differing,
        ):
            log.info("host_services_differ", holds=beat.services_held, wanted=len(rows))
            await service_orders.sync(connection, host_uuid)
            return
        # An equal digest proves these done, whatever became of their completions.
        proven = settled(rows, beat.services_digest, settle_seconds=self._settle_seconds)
        done = [ServiceResult(service_uuid=row.uuid, generation=row.generation, outcome="done") for row in proven]
        await self._observe(connection, host_uuid, done)

    async def drift(self, connection: Connection, host_uuid: UUID, drift: ServiceDrift) -> None:
        log.warning(
            "service_drift",
            service_uuid=str(drift.service_uuid),
            repaired=drift.repaired,
            differences=[one.model_dump(mode="json") for one in drift.differences],
        )
        DRIFT.labels(str(drift.repaired).lower()).inc()
        await announce.event(connection, "service.drift", drift)
        if not drift.repaired and drift.error is not None:
            failed = ServiceResult(
                service_uuid=drift.service_uuid, generation=drift.generation, outcome="failed", error=drift.error
            )
            await self._observe(connection, host_uuid, [failed])

    async def _observe(self, connection: Connection, host_uuid: UUID, results: Iterable[ServiceResult]) -> None:
        gone: list[UUID] = []
        left: set[UUID] = set()
        for one in sorted(results, key=lambda one: one.service_uuid):
            if one.outcome == "done":
                seen = await service_states.observe_done(connection, host_uuid, one.service_uuid, one.generation)
                left |= seen.left
                if seen.gone:
                    gone.append(one.service_uuid)
            elif one.outcome == "failed" and one.error is not None:
                await self._failed(connection, host_uuid, one)
        # Its last look: if no host has it any more, its addresses go back, and it is forgotten.
        await self._services.look_again(connection, gone)
        if left:
            # What the host has only because of NICs that are gone was kept for the sake of services.
            await vm_departures.leave(connection, {host_uuid: left})

    async def _failed(self, connection: Connection, host_uuid: UUID, one: ServiceResult) -> None:
        failing = await service_states.find_failing(connection, host_uuid, one.service_uuid, one.generation)
        if failing is None or one.error is None:
            return
        desired, attempts = failing
        pause = retry_after_seconds(one.error, attempts, releasing=desired == "absent", transient=SERVICE_CODES)
        await service_states.observe_failure(
            connection, host_uuid, one.service_uuid, one.generation, error=one.error, retry_seconds=pause
        )

    async def _inquired(self, connection: Connection, host_uuid: UUID, completion: ServiceCompletion) -> None:
        for operation_uuid in await service_inquiries.of_command(connection, host_uuid, completion.command_id):
            if await operations.lock(connection, operation_uuid) is None:
                continue
            if await service_inquiries.record(connection, operation_uuid, host_uuid, completion.items):
                await steps.end_step(connection, operation_uuid, host_uuid, "done")
                await conductor.advance(connection, operation_uuid)

    async def _end_steps(self, connection: Connection, host_uuid: UUID, completion: ServiceCompletion) -> None:
        """Only the removal of a host waits for a command: whatever came of that, it goes on."""
        for operation_uuid in sorted(await steps.of_command(connection, host_uuid, completion.command_id)):
            if await operations.lock(connection, operation_uuid) is not None:
                await steps.end_step(connection, operation_uuid, host_uuid, "done", command_id=completion.command_id)
                await conductor.advance(connection, operation_uuid)
