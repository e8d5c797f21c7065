"""The guard over services: looks when a link of theirs changed, when a backend says so, and at all in a slow sweep."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from uuid import UUID

import structlog

from viaduct_agent.driftreports import Policy
from viaduct_agent.fights import Fights
from viaduct_agent.guarding import Guarding, Report
from viaduct_agent.lanes import Lanes
from viaduct_agent.links.host import Checked
from viaduct_agent.links.watch import Changed
from viaduct_agent.services.api import ServiceOnHost
from viaduct_agent.services.holdings import ServiceHoldings
from viaduct_agent.services.registry import ServiceRegistry
from viaduct_common.messages.l2 import Difference

log = structlog.get_logger()
SWEEP_SECONDS = 60.0
_MOST_LOOKS = 8  # a look runs programs
_SETTLE_SECONDS = 0.3  # one change of an instance makes many events, and those of a host that boots come in a row


class ServiceGuard:
    """Looks at instances that may have changed, and repairs them by `apply`."""

    def __init__(
        self,
        backends: ServiceRegistry,
        holdings: ServiceHoldings,
        lanes: Lanes,
        report: Report,
        *,
        policy: Policy = "repair",
        fights: Fights | None = None,
        sweep_seconds: float = SWEEP_SECONDS,
    ) -> None:
        self._backends = backends
        self._holdings = holdings
        self._sweep_seconds = sweep_seconds
        self._guarding: Guarding[ServiceOnHost] = Guarding(
            holdings,
            lanes,
            report,
            check=self._check,
            repair=self._repair,
            policy=policy,
            fights=Fights("service_drift_storm") if fights is None else fights,
            most=_MOST_LOOKS,
        )

    async def run(self) -> None:
        """For ever. The news of a backend failing is done without: the sweep stays."""
        async with asyncio.TaskGroup() as tasks:
            for changes in self._backends.changes():
                tasks.create_task(self._listen(changes))
            tasks.create_task(self._sweep())
            tasks.create_task(self._guarding.work())

    def note(self, changed: Changed) -> None:
        """Links have changed; after lost events every instance may have."""
        self._concern(self._holdings.watched() if changed.overflow else changed.services)

    def _concern(self, uuids: Iterable[UUID]) -> None:
        at = time.monotonic() + _SETTLE_SECONDS
        for uuid in uuids:
            self._guarding.schedule(uuid, at)

    async def _listen(self, changes: AsyncIterator[UUID]) -> None:
        try:
            async for uuid in changes:
                self._concern([uuid])
        except Exception:
            log.exception("changes_of_a_service_backend_crashed")
        else:
            log.warning("changes_of_a_service_backend_ended")

    async def _sweep(self) -> None:
        """Spread over the time until the next one, so that a host with many services is never busy with it."""
        while True:
            await asyncio.sleep(self._sweep_seconds)
            self._guarding.sweep(self._sweep_seconds)

    async def _check(self, want: ServiceOnHost) -> Checked:
        checked = await self._backends.of(want.kind).check(want)
        differences = checked.differences
        if not checked.present and not differences:
            differences = (Difference(device=want.kind, attribute="service", desired="present", actual=None),)
        return Checked(differences, checked.steps, checked.present)

    async def _repair(self, want: ServiceOnHost) -> tuple[str, ...]:
        return await self._backends.of(want.kind).apply(want)
