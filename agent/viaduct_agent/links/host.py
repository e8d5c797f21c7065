"""Converging one host: observe, plan, execute, verify. The lock is held from the look to the last look."""

import asyncio
from dataclasses import dataclass
from uuid import UUID

from viaduct_agent.links.execute import execute, verify
from viaduct_agent.links.kernel import Kernel
from viaduct_agent.links.model import Desired, Links, Step
from viaduct_agent.links.plan import differences, plan, plan_release
from viaduct_common.errors import ViaductError
from viaduct_common.messages.l2 import Difference


@dataclass(frozen=True, slots=True)
class Checked:
    """What a look found: the differences, the steps that would mend them, or why they would be refused."""

    differences: tuple[Difference, ...] = ()
    steps: tuple[str, ...] = ()
    present: bool = False
    refusal: ViaductError | None = None


class HostLinks:
    """The links of one host (one network namespace), shared by all backends."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        # RTNL is one lock in the kernel: work in parallel would not be faster, only harder to reason about.
        self._lock = asyncio.Lock()
        # Releases queue here first, so that at most one stands before a realize: each waits some 25 ms for RCU.
        self._one_release = asyncio.Lock()
        self._names_by_owner: dict[UUID, set[str]] = {}

    async def observe(self) -> Links:
        """Every link of the host. What carries a mark is remembered by name: a look at one network then finds also
        devices that it has no more use for."""
        links = await self._kernel.observe()
        names: dict[UUID, set[str]] = {}
        for link in links.values():
            if link.owner is not None:
                names.setdefault(link.owner, set()).add(link.name)
        self._names_by_owner = names
        return links

    async def realize(self, desired: Desired) -> tuple[str, ...]:
        """Make it so; return what was done. Raises what `plan` and `execute` do."""
        async with self._lock:
            actual = await self._look(desired)
            steps = plan(desired, actual)
            if steps:
                await execute(self._kernel, steps, actual)
                now = await self._look(desired)
                verify(lambda: plan(desired, now), lambda: differences(desired, now))
        return _commands(steps)

    async def check(self, desired: Desired) -> Checked:
        """Compare and plan, change nothing."""
        actual = await self._look(desired)
        found = tuple(differences(desired, actual))
        present = any(actual[name].owner == desired.owner for name in desired.device_names & actual.keys())
        try:
            return Checked(found, _commands(plan(desired, actual)), present)
        except ViaductError as exc:
            return Checked(found, (), present, exc)

    async def release(self, owner: UUID, uplink: str | None = None, *, force: bool = False) -> tuple[str, ...]:
        """Take every device of `owner` away; return what was done. Nothing to do is no error."""
        async with self._one_release, self._lock:
            actual = await self.observe()
            steps = plan_release(owner, actual, uplink, force=force)
            if steps:
                await execute(self._kernel, steps, actual)
                names = [link.name for link in actual.values() if link.owner == owner]
                now = await self._kernel.observe(names)
                verify(lambda: plan_release(owner, now, uplink, force=True), list)
        return _commands(steps)

    async def check_release(self, owner: UUID, uplink: str | None = None, *, force: bool = False) -> Checked:
        """What `release` would do; changes nothing."""
        actual = await self.observe()
        present = any(link.owner == owner for link in actual.values())
        try:
            return Checked((), _commands(plan_release(owner, actual, uplink, force=force)), present)
        except ViaductError as exc:
            return Checked((), (), present, exc)

    async def _look(self, desired: Desired) -> Links:
        addresses_of = desired.uplink if desired.uplink_master is not None else None
        names = desired.device_names | self._names_by_owner.get(desired.owner, set())
        return await self._kernel.observe(names, addresses_of=addresses_of)


def _commands(steps: tuple[Step, ...]) -> tuple[str, ...]:
    return tuple(step.command for step in steps)
