"""The network manager's process: wiring only."""

import asyncio
import sys
from importlib.resources import files
from pathlib import Path

import structlog
import uvloop
from yarl import URL

from viaduct_common import topology
from viaduct_common.bus import Bus, Outgoing, RequestServer
from viaduct_common.messages.registry import MANAGER_REQUESTS
from viaduct_common.plugins import PluginError
from viaduct_common.postgres.idempotency import IdempotentExecutor, purge_answers
from viaduct_common.postgres.migrations import migrate
from viaduct_common.postgres.outbox import OnUnroutable, OutboxRelay
from viaduct_common.postgres.pool import open_pool, transaction
from viaduct_common.process import stop_signals
from viaduct_common.settings import read_settings
from viaduct_common.telemetry import HealthServer, configure_logging
from viaduct_manager.agents import AgentListener
from viaduct_manager.caretaker import Caretaker
from viaduct_manager.enrolment import Enrolment
from viaduct_manager.handlers.attachments import AttachmentHandlers
from viaduct_manager.handlers.changes import ChangeHandlers
from viaduct_manager.handlers.clusters import ClusterHandlers
from viaduct_manager.handlers.eips import EipHandlers
from viaduct_manager.handlers.hosts import HostHandlers
from viaduct_manager.handlers.l2_networks import L2Handlers
from viaduct_manager.handlers.l3_networks import L3Handlers
from viaduct_manager.handlers.nics import NicHandlers
from viaduct_manager.handlers.port_forwardings import PortForwardingHandlers
from viaduct_manager.handlers.service_instances import ServiceInstanceHandlers
from viaduct_manager.handlers.services import ServiceHandlers
from viaduct_manager.handlers.table import handlers_by_type
from viaduct_manager.handlers.vips import VipHandlers
from viaduct_manager.handlers.vm_networks import VmNetworkHandlers
from viaduct_manager.l2_types.registry import L2Types
from viaduct_manager.network_services import association
from viaduct_manager.network_services.addresses import ServiceAddresses
from viaduct_manager.network_services.refresher import ServiceRefresher
from viaduct_manager.network_services.registry import NetworkServices, ProviderTools
from viaduct_manager.network_services.waits import ServiceWaits
from viaduct_manager.nic_inventories import NicInventories
from viaduct_manager.nic_ipam import NicIpam
from viaduct_manager.peers import PeerRefresher
from viaduct_manager.settings import ManagerSettings
from viaduct_manager.vip_ipam import VipIpam, VipReleaser
from viaduct_manager.vm_conductor import VmConductor
from viaduct_manager.vm_hooks.registry import VmHooks
from viaduct_manager.vm_worker import VmWorker
from viaduct_manager.waiters import OperationWaiters

log = structlog.get_logger()


def main() -> None:
    settings = read_settings(ManagerSettings, "viaduct-manager", "Viaduct's network manager.")
    configure_logging("manager", settings.log_format)
    try:
        uvloop.run(run(settings))
    except PluginError as error:
        sys.exit(f"viaduct-manager: {error}")


async def run(settings: ManagerSettings) -> None:
    """Serve until SIGTERM; then take no more, end what was started, and leave.

    A background duty that dies takes the process with it: its supervisor starts it anew, and nothing is lost.
    """
    l2_types, hooks = L2Types.from_entry_points(), VmHooks.from_entry_points()
    secret = bytes.fromhex(settings.enrolment_secret_file.read_text().strip())
    vhost = URL(settings.amqp_url).path.removeprefix("/") or "/"
    async with (
        stop_signals() as stop,
        open_pool(settings.postgres_url, "viaduct-manager") as pool,
        Bus(settings.amqp_url, name="viaduct-manager", declares=True) as bus,
        Enrolment(settings.broker_api_url, vhost, secret, bus, settings.host_queue_type) as enrolment,
    ):
        await migrate(pool, *migration_folders())
        relay = OutboxRelay(pool, bus, _host_queue_mender(enrolment))
        refresher = PeerRefresher(pool, committed=relay.wake)
        addresses = ServiceAddresses(bus)
        vip_ipam = VipIpam(bus)
        services = NetworkServices.from_entry_points(ProviderTools(addresses, vip_ipam, l2_types))
        async with transaction(pool) as connection:
            await association.register(connection, services)
        vm_conductor, inventories = VmConductor(l2_types, hooks, services), NicInventories(l2_types)
        waits = ServiceWaits(pool, committed=relay.wake)

        def told() -> None:
            relay.wake()
            refresher.wake()
            service_refresher.wake()

        worker = VmWorker(pool, vm_conductor, NicIpam(bus), committed=told)
        releaser = VipReleaser(pool, bus)

        def committed() -> None:
            told()
            worker.wake()
            waits.wake()
            releaser.wake()

        service_refresher = ServiceRefresher(pool, services, addresses, committed)
        l2 = L2Handlers(l2_types, services)
        handlers = handlers_by_type(
            cluster=ClusterHandlers(l2_types),
            host=HostHandlers(enrolment, services),
            l2=l2,
            attachment=AttachmentHandlers(l2),
            change=ChangeHandlers(l2_types),
            l3=L3Handlers(bus, services),
            vm=VmNetworkHandlers(inventories, hooks, vm_conductor),
            nic=NicHandlers(inventories),
            services=services,
            service=ServiceHandlers(services),
            instance=ServiceInstanceHandlers(services),
            vip=VipHandlers(vip_ipam, services),
            eip=EipHandlers(services),
            port_forwarding=PortForwardingHandlers(services),
        )
        executor = IdempotentExecutor(pool, handlers, waiters=OperationWaiters(), committed=committed)
        listener = AgentListener(pool, bus, settings.heartbeat_seconds, services, committed)
        caretaker = Caretaker(
            pool,
            enrolment,
            services=services,
            silent_seconds=settings.heartbeat_seconds * settings.missed_heartbeats,
            every_seconds=settings.caretaker_seconds,
            committed=committed,
        )
        bus.on_connect(caretaker.broker_connected)
        with HealthServer(settings.metrics_listen, ready=lambda: bus.connected):
            async with asyncio.TaskGroup() as tasks:
                running = (relay.run(), worker.run(), refresher.run(), service_refresher.run(), waits.run())
                others = (releaser.run(), caretaker.run(), purge_answers(pool))
                duties = [tasks.create_task(duty) for duty in (*running, *others)]
                async with (
                    bus.consume(topology.AGENTS_QUEUE, listener.handle, prefetch=64),
                    RequestServer(
                        bus, topology.MANAGER_QUEUE, MANAGER_REQUESTS, executor.execute, settings.role_policy
                    ),
                ):
                    log.info(
                        "manager_started",
                        l2_types=l2_types.names,
                        vm_network_hooks=hooks.names,
                        service_providers=services.names,
                    )
                    await stop.wait()
                    log.info("manager_stopping")
                for duty in duties:
                    duty.cancel()


def migration_folders() -> tuple[Path, Path]:
    """What every service has, and the manager's own."""
    return (
        Path(str(files("viaduct_common.postgres") / "sql")),
        Path(str(files("viaduct_manager.store") / "sql")),
    )


def _host_queue_mender(enrolment: Enrolment) -> OnUnroutable:
    async def mend(message: Outgoing) -> None:
        """A command that no queue takes: the host's queue was lost, so declare it; the relay tries again."""
        host_uuid = topology.host_of_user(message.routing_key)
        if message.exchange == topology.COMMANDS and host_uuid is not None:
            await enrolment.declare_queue(host_uuid)

    return mend
