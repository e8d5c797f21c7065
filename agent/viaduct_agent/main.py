"""Wiring of the agent, and nothing else."""

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.metadata import version
from pathlib import Path

import structlog

from viaduct_agent.backends.abilities import Closing, Configured, Leftovers
from viaduct_agent.backends.api import GROUP, Registry
from viaduct_agent.dispatch import Dispatcher
from viaduct_agent.drift import DriftGuard
from viaduct_agent.driftreports import DriftReports
from viaduct_agent.fights import Fights
from viaduct_agent.health import health_facts
from viaduct_agent.holdings import Holdings
from viaduct_agent.lanes import Lanes
from viaduct_agent.links.host import HostLinks
from viaduct_agent.links.keepers import Keepers
from viaduct_agent.links.kernel import Look
from viaduct_agent.links.netlink import Netlink
from viaduct_agent.links.probing import NetworkProber
from viaduct_agent.links.watch import Changed, address_changes, link_changes
from viaduct_agent.notify import Notifier
from viaduct_agent.services.api import GROUP as SERVICE_GROUP
from viaduct_agent.services.dispatch import COMMANDS as SERVICE_COMMANDS
from viaduct_agent.services.holdings import ServiceHoldings
from viaduct_agent.services.wiring import open_services, open_tools
from viaduct_agent.session import Session
from viaduct_agent.settings import AgentSettings, BadSettings, load_settings
from viaduct_common import topology
from viaduct_common.bus import Bus, Delivery, Outgoing
from viaduct_common.errors import ViaductError
from viaduct_common.messages.agent import Completion, HealthFact
from viaduct_common.messages.base import Report
from viaduct_common.messages.services.commands import ServiceCompletion
from viaduct_common.plugins import PluginError, load_plugins
from viaduct_common.process import stop_signals
from viaduct_common.telemetry import HealthServer, configure_logging

log = structlog.get_logger()
STOP_SECONDS = 25.0  # the unit's TimeoutStopSec is 30, after which systemd kills
_STATUS_SECONDS = 10.0
_ALIVE_SECONDS = 5.0
_PREFETCH = 256  # a command that takes long holds one of these places, and those behind it must not wait for it
BAD_SETTINGS_EXIT = 2


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="viaduct-agent", description="Builds this host's networks for Viaduct.")
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the settings, a TOML file")
    parser.add_argument("--version", action="version", version=f"viaduct-agent {version('viaduct')}")
    options = parser.parse_args(arguments)
    try:
        settings = load_settings(options.config)
        password = settings.password()
        configure_logging("agent", settings.log_format)
        asyncio.run(run(settings, password))
    except (BadSettings, PluginError) as exc:
        print(f"viaduct-agent: {exc}", file=sys.stderr)
        return BAD_SETTINGS_EXIT
    return 0


async def run(settings: AgentSettings, password: str) -> None:
    """Until SIGTERM. The networks stay up; what is not finished within 25 s goes back to the queue.

    The broker need not be there: READY says that the kernel was read, and commands are taken when they can be.
    """
    host = settings.host_uuid
    notifier = Notifier(os.environ)
    holdings, lanes, fights = Holdings(), Lanes(), Fights()
    bus = Bus(settings.amqp_url, name=f"agent/{host}", username=settings.broker_user, password=password)
    async with contextlib.AsyncExitStack() as stack:
        stop = await stack.enter_async_context(stop_signals())
        netlink = await stack.enter_async_context(Netlink())
        links = HostLinks(
            netlink,
            prober=NetworkProber(netlink, settings.broker_address),
            probe_seconds=settings.probe_seconds,
            keeper=Keepers(),
        )
        backends = Registry(load_plugins(GROUP), links)
        for backend in backends.all():
            if isinstance(backend, Configured):
                backend.configure(settings)
            if isinstance(backend, Closing):
                stack.push_async_callback(backend.aclose)
        holdings.adopt((await links.observe()).owners())
        for backend in backends.all():
            if isinstance(backend, Leftovers):
                holdings.adopt(await backend.marked())
        tools = open_tools(settings, netlink)
        services = await stack.enter_async_context(open_services(load_plugins(SERVICE_GROUP), tools))
        session = Session(
            host,
            version=version("viaduct"),
            capabilities=_all_of(backends.capabilities, services.backends.capabilities),
            holdings=holdings,
            services=services.holdings,
            send=_sender(bus, settings, topology.report_key(host)),
            observe=links.observe_hosts_own,
            health=_health(fights, services.fights),
            heartbeat_seconds=settings.heartbeat_seconds,
        )
        dispatcher = Dispatcher(
            host,
            backends=backends,
            links=links,
            holdings=holdings,
            lanes=lanes,
            send=_completion_sender(bus, settings),
            interface_map=settings.interface_map,
        )
        reports = DriftReports(session.drift)
        guard = DriftGuard(backends, holdings, lanes, reports.tell, links=links, policy=settings.drift, fights=fights)
        service_dispatcher = services.dispatcher(host, _completion_sender(bus, settings))
        service_reports = DriftReports(session.service_drift)
        service_guard = services.guard(service_reports.tell, settings)
        stack.enter_context(HealthServer(settings.metrics_listen, lambda: bus.connected))
        await stack.enter_async_context(bus)
        bus.on_connect(session.on_connect)
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(_settle(links, holdings)),
                tasks.create_task(session.run()),
                tasks.create_task(reports.run()),
                tasks.create_task(
                    guard.run(_overheard(link_changes(netlink), service_guard.note), *backends.changes())
                ),
                tasks.create_task(service_reports.run()),
                tasks.create_task(service_guard.run()),
                tasks.create_task(_tell_addresses(netlink, session)),
                tasks.create_task(_tell_systemd(notifier, netlink, lambda: _status(bus, holdings, services.holdings))),
            ]
            queue = topology.agent_queue(host)

            async def handle(delivery: Delivery) -> None:
                of_services = delivery.type in SERVICE_COMMANDS
                await (service_dispatcher.handle if of_services else dispatcher.handle)(delivery)

            async with bus.consume(queue, handle, prefetch=_PREFETCH, grace_seconds=STOP_SECONDS):
                notifier.send(ready="1", status=_status(bus, holdings, services.holdings))
                log.info(
                    "agent_started",
                    host_uuid=str(host),
                    held=len(holdings),
                    l2_types=backends.l2_types,
                    services_held=len(services.holdings),
                    service_kinds=services.backends.kinds,
                )
                await stop.wait()
                notifier.send(stopping="1", status="finishing what was started")
                log.info("agent_stopping")
            for task in background:
                task.cancel()


async def _tell_addresses(netlink: Netlink, session: Session) -> None:
    """The manager chooses the ends of tunnels by what the last hello told."""
    async for _ in address_changes(netlink):
        session.say_hello()


async def _settle(links: HostLinks, holdings: Holdings) -> None:
    """End what a former process left unconfirmed."""
    try:
        for uuid in await links.settle():
            holdings.released(uuid)
    except ViaductError as exc:  # the mark stays in the kernel for the next start
        log.error("move_not_settled", code=exc.code, error=exc.message)


async def _tell_systemd(notifier: Notifier, netlink: Netlink, status: Callable[[], str]) -> None:
    """The watchdog is fed only when both the loop and the netlink socket answer: a stuck agent is restarted."""
    watchdog = notifier.watchdog_seconds
    while True:
        await asyncio.sleep(watchdog or _STATUS_SECONDS)
        notifier.send(status=status())
        if watchdog is None:
            continue
        try:
            async with asyncio.timeout(_ALIVE_SECONDS):
                await netlink.observe(Look(frozenset({"lo"})))
        except Exception:
            log.exception("watchdog_not_fed")
            continue
        notifier.send(watchdog="1")


def _health(*all_fights: Fights) -> Callable[[], Awaitable[list[HealthFact]]]:
    async def facts() -> list[HealthFact]:
        return [*await health_facts(), *(fights.health() for fights in all_fights)]

    return facts


def _all_of(*sources: Callable[[], Awaitable[list[str]]]) -> Callable[[], Awaitable[list[str]]]:
    async def gathered() -> list[str]:
        return [one for source in sources for one in await source()]

    return gathered


async def _overheard(changes: AsyncIterator[Changed], listener: Callable[[Changed], None]) -> AsyncIterator[Changed]:
    """The same changes, of which another hears, too."""
    async for changed in changes:
        listener(changed)
        yield changed


def _status(bus: Bus, holdings: Holdings, services: ServiceHoldings) -> str:
    return f"{len(holdings)} networks and {len(services)} services held, broker {'ok' if bus.connected else 'away'}"


def _sender(bus: Bus, settings: AgentSettings, key: str) -> Callable[[Report], Awaitable[None]]:
    async def send(report: Report) -> None:
        await bus.publish(_outgoing(settings, key, report))

    return send


def _completion_sender(
    bus: Bus, settings: AgentSettings
) -> Callable[[Completion | ServiceCompletion], Awaitable[None]]:
    async def send(completion: Completion | ServiceCompletion) -> None:
        key = topology.completion_key(settings.host_uuid)
        await bus.publish(_outgoing(settings, key, completion, str(completion.command_id)))

    return send


def _outgoing(settings: AgentSettings, key: str, report: Report, correlation_id: str | None = None) -> Outgoing:
    return Outgoing(
        exchange=topology.AGENTS,
        routing_key=key,
        type=report.message_type,
        body=report.to_json(),
        correlation_id=correlation_id,
        user_id=settings.broker_user,
    )


if __name__ == "__main__":
    sys.exit(main())
