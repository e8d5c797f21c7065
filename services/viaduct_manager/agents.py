"""What agents say: completions, hellos, heartbeats, drift. The broker-validated `user_id` tells who speaks."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import structlog
from prometheus_client import Counter

from viaduct_common import topology
from viaduct_common.bus import Bus, Delivery, StoreUnavailable
from viaduct_common.bus.intake import check_envelope, parse_request
from viaduct_common.bus.letters import dead_letter
from viaduct_common.digest import holdings_digest
from viaduct_common.errors import Conflict, Forbidden, NotFound, UnsupportedType, ViaductError
from viaduct_common.messages.agent import (
    Completion,
    HostDrift,
    HostHeartbeat,
    HostHello,
    ItemResult,
    ListOrphansCommand,
    Outcome,
    SyncHostCommand,
)
from viaduct_common.messages.base import ErrorBody
from viaduct_common.messages.host import HostInventory
from viaduct_common.messages.services.commands import ServiceCompletion, ServiceDrift
from viaduct_common.postgres.pool import Connection, Pool, transaction
from viaduct_common.telemetry import DEAD_LETTERS
from viaduct_manager import announce, conductor, peers, service_orders
from viaduct_manager.model.retries import retry_after_seconds
from viaduct_manager.model.sync import Wanted, expected_digest, needs_sync, settled
from viaduct_manager.network_services.registry import NetworkServices
from viaduct_manager.service_reports import ServiceReports
from viaduct_manager.store import clusters, hosts, l2_networks, operations, realizations, steps

log = structlog.get_logger()

DRIFT = Counter("viaduct_manager_drift", "Drift that hosts told of, by whether they repaired it", ["repaired"])
RETRY_PAUSE_SECONDS = 0.5
# After a loss, so many heartbeats in a row make a host connected again; a hello does at once.
BEATS_TO_RETURN = 2

Heard = Callable[[Connection, UUID, Any], Awaitable[None]]


class AgentListener:
    """The handler of the queue `viaduct.manager.agents`."""

    def __init__(
        self,
        pool: Pool,
        bus: Bus,
        heartbeat_seconds: float,
        services: NetworkServices,
        committed: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._bus = bus
        self._settle_seconds = heartbeat_seconds
        self._committed = committed
        self._services = ServiceReports(services, heartbeat_seconds)
        self._heard: dict[str, tuple[type[Any], Heard]] = {
            Completion.message_type: (Completion, self._completion),
            HostHello.message_type: (HostHello, self._hello),
            HostHeartbeat.message_type: (HostHeartbeat, self._heartbeat),
            HostDrift.message_type: (HostDrift, self._drift),
            ServiceCompletion.message_type: (ServiceCompletion, self._services.completion),
            ServiceDrift.message_type: (ServiceDrift, self._services.drift),
        }

    async def handle(self, delivery: Delivery) -> None:
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(
            message_id=delivery.message_id, type=delivery.type, host_uuid=delivery.user_id
        )
        try:
            host_uuid = identify(delivery)
            model, heard = self._heard.get(delivery.type, (None, None))
            if model is None or heard is None:
                raise UnsupportedType(f"no report type {delivery.type!r} here", type=delivery.type)
            report = parse_request(model, delivery.body)
            if report.host_uuid != host_uuid:
                raise Forbidden(f"{host_uuid} speaks for {report.host_uuid}")
            await self._persistently(heard, host_uuid, report)
        except ViaductError as error:
            DEAD_LETTERS.labels(error.code).inc()
            log.warning("report_buried", code=error.code, reason=error.message)
            await self._bus.insist(dead_letter(delivery, topology.AGENTS_QUEUE, error))

    async def _persistently(self, heard: Heard, host_uuid: UUID, report: Any) -> None:
        """Nobody repeats a completion, so it waits here for the database, for as long as it takes."""
        while True:
            try:
                async with transaction(self._pool) as connection:
                    await heard(connection, host_uuid, report)
            except StoreUnavailable as error:
                log.warning("store_unavailable", reason=str(error))
                await asyncio.sleep(RETRY_PAUSE_SECONDS)
            else:
                self._committed()
                return

    # ---- completions ---------------------------------------------------------------------------------------------

    async def _completion(self, connection: Connection, host_uuid: UUID, completion: Completion) -> None:
        items = [*completion.items, *await self._as_items(connection, host_uuid, completion)]
        items.sort(key=lambda item: item.l2_network_uuid)  # the order in which all lock a host's realizations
        asked = set(await steps.of_command(connection, host_uuid, completion.command_id))
        asked |= set(await steps.of_generations(connection, host_uuid, [item.generation for item in items]))
        running = [uuid for uuid in sorted(asked) if await operations.lock(connection, uuid) is not None]
        if completion.command != "l2.check":
            for item in items:
                await self._observe(connection, host_uuid, item)
        for operation_uuid in running:
            await self._end_steps(connection, operation_uuid, host_uuid, completion, items)
            await conductor.advance(connection, operation_uuid)
        log.info(
            "completion",
            command=completion.command,
            done=sum(item.outcome == "done" for item in items),
            failed=sum(item.outcome == "failed" for item in items),
        )

    async def _as_items(self, connection: Connection, host_uuid: UUID, completion: Completion) -> list[ItemResult]:
        """What a sync or a sweep released because it was not listed, or could not release, as the releases that the
        host was told of."""
        gone: dict[UUID, ErrorBody | None] = dict.fromkeys(completion.released)
        for orphan in completion.orphans:
            if orphan.swept or orphan.error is not None:
                gone[orphan.l2_network_uuid] = None if orphan.swept else orphan.error
        items = []
        for l2_uuid, error in gone.items():
            generation = await realizations.find_absent(connection, host_uuid, l2_uuid)
            if generation is not None:
                outcome: Outcome = "done" if error is None else "failed"
                items.append(ItemResult(l2_network_uuid=l2_uuid, generation=generation, outcome=outcome, error=error))
        return items

    async def _observe(self, connection: Connection, host_uuid: UUID, item: ItemResult) -> None:
        if item.outcome == "done":
            await realizations.observe_done(connection, host_uuid, item.l2_network_uuid, item.generation)
            await l2_networks.note_host(connection, item.l2_network_uuid, host_uuid, good=True)
        elif item.outcome == "failed" and item.error is not None:
            failing = await realizations.find_failing(connection, host_uuid, item.l2_network_uuid, item.generation)
            if failing is not None:
                desired, attempts = failing
                pause = retry_after_seconds(item.error, attempts, releasing=desired == "absent")
                await realizations.observe_failure(
                    connection, host_uuid, item.l2_network_uuid, item.generation, error=item.error, retry_seconds=pause
                )
                await l2_networks.note_host(connection, item.l2_network_uuid, host_uuid, good=False)

    async def _end_steps(
        self,
        connection: Connection,
        operation_uuid: UUID,
        host_uuid: UUID,
        completion: Completion,
        items: list[ItemResult],
    ) -> None:
        for item in items:
            by_command = completion.command == "l2.check"
            # A check that was answered with an error says: this host would refuse.
            state = "failed" if by_command and item.error is not None else item.outcome
            await steps.end_step(
                connection,
                operation_uuid,
                host_uuid,
                state,
                result=item,
                error=item.error,
                command_id=completion.command_id if by_command else None,
                generation=None if by_command else item.generation,
            )
        if not items or completion.command in {SyncHostCommand.message_type, ListOrphansCommand.message_type}:
            # A step of the whole host, which has no network of its own: it is removed, moved, or asked after orphans.
            error = completion.error or next((item.error for item in items if item.outcome == "failed"), None)
            await steps.end_step(
                connection,
                operation_uuid,
                host_uuid,
                "done" if error is None else "failed",
                result=steps.FoundOrphans(orphans=completion.orphans),
                error=error,
                command_id=completion.command_id,
            )

    # ---- reports -------------------------------------------------------------------------------------------------

    async def _hello(self, connection: Connection, host_uuid: UUID, hello: HostHello) -> None:
        host = await self._enter(connection, host_uuid)
        moved = await hosts.record_hello(connection, host_uuid, hello)
        await announce.event(connection, "host.connected", host)
        log.info("host_connected", session_id=str(hello.session_id), version=hello.version, holds=len(hello.holds))
        if moved:
            await peers.mark_host(connection, host_uuid)
        await self._services.host_changed(connection, host_uuid)
        if host.maintenance:
            return
        await self._desire(connection, host_uuid)
        held = [(one.l2_network_uuid, one.generation) for one in hello.holds]
        await realizations.outrun(connection, host_uuid, held)
        rows = await realizations.of_host(connection, host_uuid)
        digest = holdings_digest(held)
        in_motion = any(row.state != "realized" for row in rows)
        if needs_sync(rows, digest, settle_seconds=0, since_sync_seconds=None) or in_motion:
            await announce.sync(connection, host_uuid)
        await self._services.hello(connection, host_uuid, hello)

    async def _heartbeat(self, connection: Connection, host_uuid: UUID, beat: HostHeartbeat) -> None:
        found = await hosts.record_beat(connection, host_uuid, beat.session_id)
        if found is None:
            raise NotFound.of("host", host_uuid)
        if found.deleting or found.maintenance:
            return
        if found.state != "connected":
            # The host is locked already, and its cluster comes first: who would have to wait for that one leaves the
            # return to the next heartbeat.
            if found.beats >= BEATS_TO_RETURN and await clusters.try_lock_shared(connection, found.cluster_uuid):
                host = await hosts.get(connection, host_uuid)
                await hosts.mark_connected(connection, host_uuid)
                await announce.event(connection, "host.connected", host)
                await self._desire(connection, host_uuid)
                await announce.sync(connection, host_uuid)
                await service_orders.sync_if_any(connection, host_uuid)
                await self._services.host_changed(connection, host_uuid)
            return
        rows = await realizations.of_host(connection, host_uuid)
        differs = beat.digest != expected_digest(rows)
        if differs or found.differing > 0:
            await hosts.note_digest(connection, host_uuid, differs=differs)
        if differs and needs_sync(
            rows,
            beat.digest,
            settle_seconds=self._settle_seconds,
            since_sync_seconds=found.since_sync_seconds,
            beats=found.differing,
        ):
            log.info("host_differs", holds=beat.held, wanted=len(rows))
            await announce.sync(connection, host_uuid)
            return
        await self._settle(connection, host_uuid, settled(rows, beat.digest, settle_seconds=self._settle_seconds))
        await self._services.heartbeat(connection, host_uuid, beat)

    async def _settle(self, connection: Connection, host_uuid: UUID, proven: list[Wanted]) -> None:
        """An equal digest proves these done, whatever became of their completions."""
        if not proven:
            return
        asked = await steps.of_generations(connection, host_uuid, [row.generation for row in proven])
        running = [uuid for uuid in sorted(asked) if await operations.lock(connection, uuid) is not None]
        for row in proven:
            await realizations.observe_done(connection, host_uuid, row.uuid, row.generation)
            for operation_uuid in running:
                await steps.end_step(connection, operation_uuid, host_uuid, "done", generation=row.generation)
        for operation_uuid in running:
            await conductor.advance(connection, operation_uuid)

    async def _drift(self, connection: Connection, host_uuid: UUID, drift: HostDrift) -> None:
        log.warning(
            "host_drift",
            l2_uuid=str(drift.l2_network_uuid),
            repaired=drift.repaired,
            differences=[one.model_dump(mode="json") for one in drift.differences],
        )
        DRIFT.labels(str(drift.repaired).lower()).inc()
        await announce.event(connection, "host.drift", drift)
        if drift.storm:
            await hosts.record_storm(connection, host_uuid, drift)
            await announce.event(connection, "host.driftStorm", drift)
        if drift.policy == "report":
            error = drift.error or _left_as_it_is(drift)
            await realizations.note_drift(connection, host_uuid, drift.l2_network_uuid, drift.generation, error)
        elif not drift.repaired and drift.error is not None:
            failed = ItemResult(
                l2_network_uuid=drift.l2_network_uuid,
                generation=drift.generation,
                outcome="failed",
                error=drift.error,
            )
            await self._observe(connection, host_uuid, failed)

    async def _desire(self, connection: Connection, host_uuid: UUID) -> None:
        """Want what the host's cluster has; hosts that have it, too, learn of their new peer."""
        await peers.mark_stale(connection, await realizations.desire_on_host(connection, host_uuid), at_once=True)

    async def _enter(self, connection: Connection, host_uuid: UUID) -> HostInventory:
        """Lock the host, after its cluster: what the cluster's hosts must have cannot change meanwhile.

        Raises:
            NotFound: the host was removed.
        """
        await hosts.hold_cluster(connection, host_uuid)
        host = await hosts.find_locked(connection, host_uuid)
        if host is None:
            raise NotFound.of("host", host_uuid)
        return host


def _left_as_it_is(drift: HostDrift) -> ErrorBody:
    """What a realization shows that drifted on a host whose policy is to report, and no more."""
    return Conflict(
        "another hand changed it, and this host only reports that",
        differences=[one.model_dump(mode="json") for one in drift.differences],
    ).to_body()


def identify(delivery: Delivery) -> UUID:
    """The host that sent it, by the broker's word alone.

    Raises:
        Forbidden: no `user_id`, or one that is no host's.
    """
    # The answer to a large sync is as large.
    check_envelope(delivery, max_body_bytes=topology.MAX_COMMAND_BYTES)
    host_uuid = topology.host_of_user(delivery.user_id or "")
    if host_uuid is None:
        raise Forbidden(
            "a completion or report must carry the user_id of its host's broker user", userId=delivery.user_id
        )
    return host_uuid
