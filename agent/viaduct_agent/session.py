"""What the agent says on its own: hello at start and after each reconnect, heartbeats, drift."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID, uuid4

import structlog

from viaduct_agent.driftreports import Drift
from viaduct_agent.holdings import Holdings
from viaduct_agent.links.kinds import BRIDGE
from viaduct_agent.links.model import Link
from viaduct_agent.links.table import LinkTable
from viaduct_agent.services.holdings import ServiceHoldings
from viaduct_common.bus.failures import BusError
from viaduct_common.errors import ViaductError
from viaduct_common.messages.agent import HealthFact, HostDrift, HostHeartbeat, HostHello, InterfaceFact
from viaduct_common.messages.base import Report
from viaduct_common.messages.services.commands import ServiceDrift

log = structlog.get_logger()
_MOST_INTERFACES = 1000  # some 200 bytes each; a message may have a MiB, and a host thousands of taps

SendReport = Callable[[Report], Awaitable[None]]


class Session:
    """One run of the agent; the manager tells runs apart by `session_id`.

    It takes its facts from callables, and shares no lock with the work: a heartbeat never waits for a command.
    """

    def __init__(
        self,
        host_uuid: UUID,
        *,
        version: str,
        capabilities: Callable[[], Awaitable[list[str]]],
        holdings: Holdings,
        services: ServiceHoldings,
        send: SendReport,
        observe: Callable[[], Awaitable[LinkTable]],
        health: Callable[[], Awaitable[list[HealthFact]]],
        heartbeat_seconds: float,
    ) -> None:
        self.session_id = uuid4()
        self._host_uuid = host_uuid
        self._version = version
        self._capabilities = capabilities
        self._holdings = holdings
        self._services = services
        self._send = send
        self._observe = observe
        self._health = health
        self._heartbeat_seconds = heartbeat_seconds
        self._sequence = 0
        self._hello_due = asyncio.Event()
        self._hello_due.set()

    async def on_connect(self) -> None:
        """The connection is new: the manager may have missed anything, so hello again."""
        self.say_hello()

    def say_hello(self) -> None:
        """Tell anew, soon, what this host has: it has changed."""
        self._hello_due.set()

    async def run(self) -> None:
        """For ever. What cannot be sent is not kept: the next heartbeat tells newer things."""
        while True:
            try:
                if self._hello_due.is_set():
                    self._hello_due.clear()
                    await self._send(await self._hello())
                await self._send(self._heartbeat())
            except (BusError, ViaductError) as exc:  # no broker, or a kernel too busy to be read
                self._hello_due.set()
                log.warning("report_not_sent", reason=str(exc))
                await asyncio.sleep(min(1.0, self._heartbeat_seconds))
                continue
            try:
                await asyncio.wait_for(self._hello_due.wait(), self._heartbeat_seconds)
            except TimeoutError:
                continue

    async def drift(self, drift: Drift) -> None:
        """Tell the manager.

        Raises:
            BusError: it could not be told; until it is, the digest tells what is still wrong.
        """
        await self._send(
            HostDrift(
                host_uuid=self._host_uuid,
                session_id=self.session_id,
                l2_network_uuid=drift.uuid,
                generation=drift.generation,
                differences=list(drift.differences),
                repaired=drift.repaired,
                policy=drift.policy,
                storm=drift.storm,
                repairs=drift.repairs,
                error=drift.error,
            )
        )

    async def service_drift(self, drift: Drift) -> None:
        """The same of a service. Raises BusError, too.

        What only tells that something is over has no place in this report.
        """
        if not drift.differences and drift.error is None:
            return
        await self._send(
            ServiceDrift(
                host_uuid=self._host_uuid,
                session_id=self.session_id,
                service_uuid=drift.uuid,
                generation=drift.generation,
                differences=list(drift.differences),
                repaired=drift.repaired,
                error=drift.error,
            )
        )

    def _heartbeat(self) -> HostHeartbeat:
        self._sequence += 1
        return HostHeartbeat(
            host_uuid=self._host_uuid,
            session_id=self.session_id,
            sequence=self._sequence,
            digest=self._holdings.digest(),
            held=len(self._holdings),
            services_digest=self._services.digest(),
            services_held=len(self._services),
        )

    async def _hello(self) -> HostHello:
        links = await self._observe()
        facts = sorted(links.values(), key=lambda link: _rank(link, links))[:_MOST_INTERFACES]
        return HostHello(
            host_uuid=self._host_uuid,
            session_id=self.session_id,
            version=self._version,
            capabilities=await self._capabilities(),
            interfaces=[_fact(link) for link in facts],
            health=await self._health(),
            holds=self._holdings.held(),
            services=self._services.held(),
        )


def _rank(link: Link, links: LinkTable) -> tuple[int, int]:
    """What could be an uplink first, ours next, the ports of bridges (VM taps) last."""
    if link.owner is not None:
        return 1, link.index
    master = None if link.master is None else links.get(link.master)
    is_port = link.kind is not None and master is not None and master.kind == BRIDGE
    return (2 if is_port else 0), link.index


def _fact(link: Link) -> InterfaceFact:
    return InterfaceFact(
        name=link.name,
        kind=link.kind,
        mac=link.mac,
        mtu=link.mtu,
        up=link.up,
        master=link.master,
        owner=link.owner,
        addresses=list(link.addresses or ()),
    )
