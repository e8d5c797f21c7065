"""The IPAM service's process: wiring only."""

import asyncio
import random
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import structlog
import uvloop
from prometheus_client import REGISTRY

from viaduct_common import topology
from viaduct_common.bus import Bus, Outgoing, RequestContext, RequestServer
from viaduct_common.messages.registry import IPAM_REQUESTS
from viaduct_common.postgres.idempotency import Handler, IdempotentExecutor, purge_answers
from viaduct_common.postgres.migrations import migrate
from viaduct_common.postgres.outbox import OutboxRelay
from viaduct_common.postgres.pool import Connection, Pool, open_pool
from viaduct_common.process import stop_signals
from viaduct_common.settings import read_settings
from viaduct_common.telemetry import HealthServer, configure_logging
from viaduct_ipam.engine.auditor import AskOwners, Auditor, ask_manager, nobody_to_ask
from viaduct_ipam.engine.engine import Engine
from viaduct_ipam.engine.gauges import NetworkGauges
from viaduct_ipam.engine.sweeper import Sweeper
from viaduct_ipam.handlers import imports, table
from viaduct_ipam.settings import IpamSettings
from viaduct_ipam.store.imports import purge_imports
from viaduct_ipam.store.postgres import PostgresStore
from viaduct_ipam.store.releasing import Actor

log = structlog.get_logger()

NAME = "viaduct-ipam"
MIGRATIONS = (
    Path(str(files("viaduct_common.postgres") / "sql")),
    Path(str(files("viaduct_ipam.store") / "sql")),
)


def build_handlers(pause_seconds: float = 0.0) -> dict[str, Handler]:
    """The handlers as the executor calls them: each with a store on the transaction's connection."""

    def on_connection(handle: table.Handler) -> Handler:
        async def call(request: Any, connection: Connection, context: RequestContext) -> Any:
            by = Actor(context.sender, context.message_id)
            return await handle(request, PostgresStore(connection, by, pause_seconds=pause_seconds))

        return call

    by_type = {message_type: on_connection(handle) for message_type, handle in table.handlers().items()}
    return by_type | imports.handlers()


def build_engine(
    pool: Pool,
    rng: random.Random,
    *,
    ask_owners: AskOwners = nobody_to_ask,
    committed: Callable[[], None] = lambda: None,
    pause_seconds: float = 0.0,
) -> Engine:
    """All of IPAM but the bus: what answers a request."""
    executor = IdempotentExecutor(pool, build_handlers(pause_seconds), committed=committed)
    auditor = Auditor(pool, ask_owners, executor.execute, committed=committed)
    return Engine(pool, auditor.execute, rng=rng, committed=committed, pause_seconds=pause_seconds)


async def run(settings: IpamSettings) -> None:
    """Serve until SIGTERM or SIGINT."""
    async with (
        stop_signals() as stop,
        open_pool(settings.postgres_url, NAME, max_size=settings.connections) as pool,
        Bus(settings.amqp_url, name=NAME) as bus,
    ):
        await migrate(pool, *MIGRATIONS)
        await _serve(settings, pool, bus, stop)


async def _serve(settings: IpamSettings, pool: Pool, bus: Bus, stop: asyncio.Event) -> None:
    async def unroutable(message: Outgoing) -> None:
        log.warning("event_unroutable", type=message.type)  # events are not mandatory: it cannot happen

    relay = OutboxRelay(pool, bus, unroutable)
    engine = build_engine(
        pool,
        random.SystemRandom(),
        ask_owners=ask_manager(bus),
        committed=relay.wake,
        pause_seconds=settings.pause_seconds,
    )
    sweeper = Sweeper(pool, history_days=settings.history_days, committed=relay.wake)
    gauges = NetworkGauges(pool, settings.metrics_networks)
    REGISTRY.register(gauges)
    server = RequestServer(
        bus, topology.IPAM_QUEUE, IPAM_REQUESTS, engine.execute, settings.role_policy, prefetch=settings.prefetch
    )
    async with asyncio.TaskGroup() as tasks:
        chores = [
            tasks.create_task(chore)
            for chore in (
                relay.run(),
                engine.run(),
                sweeper.run(),
                gauges.run(),
                purge_answers(pool),
                purge_imports(pool),
            )
        ]
        async with server:
            with HealthServer(settings.metrics_listen, lambda: bus.connected):
                log.info("ipam_started")
                await stop.wait()
                log.info("ipam_stopping")
        for chore in chores:
            chore.cancel()


def main() -> None:
    settings = read_settings(IpamSettings, NAME, "Viaduct's IP address management.")
    configure_logging("ipam", settings.log_format)
    uvloop.run(run(settings))
