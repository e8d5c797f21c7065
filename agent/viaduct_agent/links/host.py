"""Converging one host: observe, plan, execute, verify. The lock is held from the look to the last look."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from viaduct_agent.links.batching import Batcher
from viaduct_agent.links.differences import differences
from viaduct_agent.links.execute import execute, left_over
from viaduct_agent.links.kernel import EVERYTHING, Kernel, Look
from viaduct_agent.links.marks import SHARED
from viaduct_agent.links.memory import RememberingKernel
from viaduct_agent.links.model import Desired, Step
from viaduct_agent.links.plan import plan
from viaduct_agent.links.release import plan_release, plan_unused
from viaduct_agent.links.table import LinkTable
from viaduct_common.errors import ViaductError
from viaduct_common.messages.l2 import Difference

# So many networks in one go; a release, or a VM's tap, waits for no more.
_MOST_AT_ONCE = 256
# Releases are few at once: each device that goes waits some 25 ms for RCU, and a realize waits for all of them.
_RELEASES_AT_ONCE = 4
# Up to so many networks a look at their links by name is cheaper than a dump of all.
_FEW_NETWORKS = 8


@dataclass(frozen=True, slots=True)
class Checked:
    """What a look found: the differences, the steps that would mend them, or why they would be refused."""

    differences: tuple[Difference, ...] = ()
    steps: tuple[str, ...] = ()
    present: bool = False
    refusal: ViaductError | None = None


@dataclass(frozen=True, slots=True)
class _Release:
    owner: UUID
    uplink: str | None
    force: bool

    def plan(self, actual: LinkTable) -> tuple[Step, ...]:
        return plan_release(self.owner, actual, self.uplink, force=self.force)


class HostLinks:
    """The links of one host (one network namespace), shared by all backends.

    Networks that are realized, or checked, at the same time are done together: one look, one send, one look.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel: Kernel = RememberingKernel(kernel)
        # RTNL is one lock in the kernel: work in parallel would not be faster, only harder to reason about.
        self._lock = asyncio.Lock()
        self._names_by_owner: dict[UUID, set[str]] = {}
        self._realizing: Batcher[Desired, tuple[str, ...]] = Batcher(self._realize, _MOST_AT_ONCE)
        self._releasing: Batcher[_Release, tuple[str, ...]] = Batcher(self._release, _RELEASES_AT_ONCE)
        self._checking: Batcher[Desired, Checked] = Batcher(self._check, _MOST_AT_ONCE * 4)

    async def observe(self) -> LinkTable:
        """Every link of the host. What carries a mark is remembered by name: a look at one network then finds also
        devices that it has no more use for."""
        links = await self._kernel.observe(EVERYTHING)
        self._remember(links)
        return links

    def note(self, marked: Iterable[tuple[UUID, str]]) -> None:
        """Remember devices, told by events, with the mark that they carry: they may have been renamed."""
        for owner, name in marked:
            self._names_by_owner.setdefault(owner, set()).add(name)

    async def observe_hosts_own(self) -> LinkTable:
        """Every link, those that are not ours with their addresses."""
        links = await self.observe()
        strangers = frozenset(name for name, link in links.items() if link.owner is None)
        return await self._kernel.observe(Look(addresses_of=strangers))

    async def realize(self, desired: Desired) -> tuple[str, ...]:
        """Make it so; return what was done. Raises what `plan` does, and `BackendFailed` for the kernel's refusal."""
        return await self._realizing.ask(desired)

    async def check(self, desired: Desired) -> Checked:
        """Compare and plan, change nothing."""
        return await self._checking.ask(desired)

    async def release(self, owner: UUID, uplink: str | None = None, *, force: bool = False) -> tuple[str, ...]:
        """Take every device of `owner` away; return what was done. Nothing to do is no error."""
        return await self._releasing.ask(_Release(owner, uplink, force))

    async def release_unused(self) -> tuple[str, ...]:
        """Take away shared devices that no network uses: left by a process that died between two steps."""
        async with self._lock:
            actual = await self.observe()
            steps = plan_unused(actual)
            if steps:
                await self._do(steps, actual)
        return _commands(steps)

    async def check_release(self, owner: UUID, uplink: str | None = None, *, force: bool = False) -> Checked:
        """What `release` would do; changes nothing."""
        actual = await self._observe_for_release()
        present = bool(actual.owned_by(owner))
        try:
            return Checked((), _commands(plan_release(owner, actual, uplink, force=force)), present)
        except ViaductError as exc:
            return Checked((), (), present, exc)

    async def _realize(self, wanted: Sequence[Desired]) -> list[tuple[str, ...] | Exception]:
        """Plan each on what the ones before will have made of the host; do them all; look at them all once more."""
        results: list[tuple[str, ...] | Exception] = [()] * len(wanted)
        plans: list[tuple[int, tuple[Step, ...]]] = []
        async with self._lock:
            actual = await self._look(wanted)
            # A plan reads nothing that was not looked at, so the table may run ahead of the kernel.
            ahead = actual if len(wanted) == 1 else actual.copy()
            for number, desired in enumerate(wanted):
                try:
                    steps = plan(desired, ahead)
                except ViaductError as exc:
                    results[number] = exc
                    continue
                if steps:
                    plans.append((number, steps))
                    for step in steps if len(wanted) > 1 else ():
                        ahead.apply(step)
            if not plans:
                return results
            outcomes = await execute(self._kernel, [steps for _, steps in plans], actual)
            now = await self._look([wanted[number] for number, _ in plans])
        for (number, steps), refusal in zip(plans, outcomes, strict=True):
            results[number] = refusal or _verified(wanted[number], now) or _commands(steps)
        return results

    async def _release(self, wanted: Sequence[_Release]) -> list[tuple[str, ...] | Exception]:
        results: list[tuple[str, ...] | Exception] = [()] * len(wanted)
        plans: list[tuple[int, tuple[Step, ...]]] = []
        async with self._lock:
            actual = await self._observe_for_release()
            ahead = actual.copy()
            for number, release in enumerate(wanted):
                try:
                    steps = release.plan(ahead)
                except ViaductError as exc:
                    results[number] = exc
                    continue
                if steps:
                    plans.append((number, steps))
                    for step in steps:
                        ahead.apply(step)
            if not plans:
                return results
            outcomes = await execute(self._kernel, [steps for _, steps in plans], actual)
            names = frozenset(link.name for number, _ in plans for link in actual.owned_by(wanted[number].owner))
            now = await self._kernel.observe(Look(names))
        for (number, steps), refusal in zip(plans, outcomes, strict=True):
            left = left_over(plan_release(wanted[number].owner, now, wanted[number].uplink, force=True), list)
            results[number] = refusal or left or _commands(steps)
        return results

    async def _check(self, wanted: Sequence[Desired]) -> list[Checked | Exception]:
        actual = await self._look(wanted)
        return [_checked(desired, actual) for desired in wanted]

    async def _do(self, steps: tuple[Step, ...], actual: LinkTable) -> None:
        (refusal,) = await execute(self._kernel, [steps], actual)
        if refusal is not None:
            raise refusal

    async def _look(self, wanted: Sequence[Desired]) -> LinkTable:
        names: set[str] = set()
        entries_of: set[str] = set()
        for desired in wanted:
            names |= desired.device_names
            names |= self._names_by_owner.get(desired.owner, set())
            entries_of |= {link.name for link in desired.links if link.entries is not None}
            entries_of |= {device for device, _ in desired.members}
        look = Look(
            names=frozenset(names) if len(wanted) <= _FEW_NETWORKS else None,
            addresses_of=frozenset(one.uplink for one in wanted if one.uplink and one.uplink_master is not None),
            entries_of=frozenset(entries_of),
            carriers_of=frozenset(one.tunnel_ip for one in wanted if one.tunnel_ip is not None),
        )
        links = await self._kernel.observe(look)
        if look.names is None:
            self._remember(links)
        return links

    async def _observe_for_release(self) -> LinkTable:
        """All links and, if there are bridges that networks share, which VLANs their ports have."""
        links = await self.observe()
        shared = links.owned_by(SHARED)
        if not shared:
            return links
        ports = [port.name for bridge in shared for port in links.ports_of(bridge.name)]
        return await self._kernel.observe(Look(entries_of=frozenset([*ports, *(bridge.name for bridge in shared)])))

    def _remember(self, links: LinkTable) -> None:
        self._names_by_owner = {
            owner: {link.name for link in links.owned_by(owner)} for owner in links.owners() if owner != SHARED
        }


def _verified(desired: Desired, now: LinkTable) -> Exception | None:
    try:
        return left_over(plan(desired, now), lambda: differences(desired, now))
    except ViaductError as exc:
        return exc


def _checked(desired: Desired, actual: LinkTable) -> Checked:
    present = bool(actual.owned_by(desired.owner))
    try:
        steps = plan(desired, actual)
    except ViaductError as exc:
        return Checked(tuple(differences(desired, actual)), (), present, exc)
    if not steps:  # then there is no difference either
        return Checked((), (), present)
    return Checked(tuple(differences(desired, actual)), _commands(steps), present)


def _commands(steps: tuple[Step, ...]) -> tuple[str, ...]:
    return tuple(step.command for step in steps)
