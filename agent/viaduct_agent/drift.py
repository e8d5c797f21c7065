"""Drift: what another hand changed is found by events, repaired at once, reported, and never fought over endlessly.

events ─► networks they concern ─► looks (guarding.py)
"""

import asyncio
import time
from collections.abc import AsyncIterator

import structlog

from viaduct_agent.backends.api import L2OnHost, Registry
from viaduct_agent.driftreports import Policy
from viaduct_agent.fights import Fights
from viaduct_agent.guarding import Guarding, Report
from viaduct_agent.holdings import Holdings
from viaduct_agent.lanes import Lanes
from viaduct_agent.links.host import Checked, HostLinks
from viaduct_agent.links.watch import Changed
from viaduct_agent.watching import WatchIndex
from viaduct_common.errors import ViaductError

log = structlog.get_logger()
SWEEP_SECONDS = 60.0
# Looks at the same time: they share one dump of the kernel and their repairs go in batches, see `HostLinks`.
_MOST_LOOKS = 1024
_MANY = 64
_MANY_PAUSE_SECONDS = 0.5


class DriftGuard:
    """Looks at networks when their devices change, and at all of them every minute."""

    def __init__(
        self,
        backends: Registry,
        holdings: Holdings,
        lanes: Lanes,
        report: Report,
        *,
        links: HostLinks,
        policy: Policy = "repair",
        fights: Fights | None = None,
        sweep_seconds: float = SWEEP_SECONDS,
    ) -> None:
        self._backends = backends
        self._links = links
        self._sweep_seconds = sweep_seconds
        self._index = WatchIndex(backends, holdings)
        self._next_many = 0.0
        self._guarding: Guarding[L2OnHost] = Guarding(
            holdings,
            lanes,
            report,
            check=self._check,
            repair=self._repair,
            policy=policy,
            fights=Fights() if fights is None else fights,
            most=_MOST_LOOKS,
        )

    async def run(self, changes: AsyncIterator[Changed], *more: AsyncIterator[Changed]) -> None:
        """For ever. `changes` failing ends it; one of `more`, which are plugins', is done without: the sweep stays."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen(changes))
            for others in more:
                tasks.create_task(self._listen_to_plugin(others))
            tasks.create_task(self._sweep())
            tasks.create_task(self._guarding.work())

    async def _listen(self, changes: AsyncIterator[Changed]) -> None:
        async for changed in changes:
            self._links.note(changed.marked)
            concerned = self._index.concerned_by(changed)
            at = self._time_for(len(concerned))
            for uuid in concerned:
                self._guarding.schedule(uuid, at)

    def _time_for(self, count: int) -> float:
        """At once; but a NIC that a thousand networks share changes often while these are made, and a look at them all
        costs a tenth of a second."""
        now = time.monotonic()
        if count < _MANY:
            return now
        if now >= self._next_many:
            self._next_many = now + _MANY_PAUSE_SECONDS
            return now
        return self._next_many

    async def _listen_to_plugin(self, changes: AsyncIterator[Changed]) -> None:
        try:
            await self._listen(changes)
        except Exception:
            log.exception("changes_of_a_backend_crashed")
        else:
            log.warning("changes_of_a_backend_ended")

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self._sweep_seconds)
            try:
                await self._links.observe()  # so that the looks find devices that no name leads to
            except ViaductError as exc:
                log.warning("sweep_without_dump", error=exc.message)
            self._guarding.sweep()

    async def _check(self, want: L2OnHost) -> Checked:
        return await self._backends.of(want).check(want)

    async def _repair(self, want: L2OnHost) -> tuple[str, ...]:
        return await self._backends.of(want).realize(want)
