"""The parts of network services, put together for the agent."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from viaduct_agent.fights import Fights
from viaduct_agent.guarding import Report
from viaduct_agent.lanes import Lanes
from viaduct_agent.links.netlink import Netlink
from viaduct_agent.services.api import ServiceBackend
from viaduct_agent.services.dispatch import SendCompletion, ServiceDispatcher
from viaduct_agent.services.guard import ServiceGuard
from viaduct_agent.services.holdings import ServiceHoldings
from viaduct_agent.services.registry import ServiceRegistry
from viaduct_agent.services.tools import ServiceTools
from viaduct_agent.settings import AgentSettings

log = structlog.get_logger()
# Programs that gave up their rights find what is theirs below it, and list nothing.
_STATE_MODE = 0o711


@dataclass(frozen=True, slots=True)
class Services:
    """What the commands and the guard of services share."""

    backends: ServiceRegistry
    holdings: ServiceHoldings = field(default_factory=ServiceHoldings)
    lanes: Lanes = field(default_factory=Lanes)
    fights: Fights = field(default_factory=lambda: Fights("service_drift_storm"))

    def dispatcher(self, host_uuid: UUID, send: SendCompletion) -> ServiceDispatcher:
        return ServiceDispatcher(host_uuid, backends=self.backends, holdings=self.holdings, lanes=self.lanes, send=send)

    def guard(self, report: Report, settings: AgentSettings) -> ServiceGuard:
        return ServiceGuard(
            self.backends,
            self.holdings,
            self.lanes,
            report,
            policy=settings.drift,
            fights=self.fights,
            sweep_seconds=settings.service_sweep_seconds,
        )


def open_tools(settings: AgentSettings, netlink: Netlink) -> ServiceTools:
    """The tools of all backends. A state directory that cannot be made is the trouble of services alone."""
    try:
        settings.state_dir.mkdir(mode=_STATE_MODE, parents=True, exist_ok=True)
    except OSError as exc:
        log.error("no_state_dir", path=str(settings.state_dir), error=str(exc))
    socket = settings.ovsdb_socket
    return ServiceTools(netlink, settings.state_dir, ovsdb=None if socket is None else f"unix:{socket}")


@asynccontextmanager
async def open_services(backend_types: Iterable[type[ServiceBackend]], tools: ServiceTools) -> AsyncIterator[Services]:
    """With all that a former process left on this host adopted. In the end backends are closed; what serves goes on.

    Raises:
        PluginError: two backends have one kind.
    """
    services = Services(ServiceRegistry(backend_types, tools))
    try:
        services.holdings.adopt((await services.backends.found()).generations)
        yield services
    finally:
        await services.backends.aclose()
