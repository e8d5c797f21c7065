"""Converging one host: observe, plan, execute, verify. The lock is held from the look to the last look."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from viaduct_agent.links.addresses import Inet
from viaduct_agent.links.batching import Batcher
from viaduct_agent.links.carrying import carriers, own
from viaduct_agent.links.differences import differences
from viaduct_agent.links.execute import execute, left_over
from viaduct_agent.links.kernel import EVERYTHING, Kernel, Look
from viaduct_agent.links.marks import SHARED
from viaduct_agent.links.memory import RememberingKernel
from viaduct_agent.links.model import Desired, Link, Step, with_values
from viaduct_agent.links.moving import PROBE_SECONDS, Move, Mover, Outcome, Wish
from viaduct_agent.links.plan import plan, stale_names
from viaduct_agent.links.probing import Prober
from viaduct_agent.links.release import carried_by, plan_release, plan_unused
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


_AS_WANTED = Checked(present=True)


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

    def __init__(
        self,
        kernel: Kernel,
        *,
        prober: Prober | None = None,
        probe_seconds: float = PROBE_SECONDS,
        keeper: Callable[[Link], str | None] = lambda _: None,
    ) -> None:
        """With a `prober` the host's own addresses are moved under guard, see `moving`. `keeper` tells which program
        minds a device."""
        self._kernel: Kernel = RememberingKernel(kernel)
        self._keeper = keeper
        # RTNL is one lock in the kernel: work in parallel would not be faster, only harder to reason about.
        self._lock = asyncio.Lock()
        self._names_by_owner: dict[UUID, tuple[str, ...]] = {}
        self._mover = Mover(self._kernel, self._lock, prober, probe_seconds)
        self._realizing: Batcher[Wish, Outcome] = Batcher(self._realize, _MOST_AT_ONCE)
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
            known = self._names_by_owner.get(owner, ())
            if name not in known:
                self._names_by_owner[owner] = (*known, name)

    async def observe_hosts_own(self) -> LinkTable:
        """Every link, those that are not ours with their addresses."""
        links = await self.observe()
        strangers = frozenset(name for name, link in links.items() if link.owner is None)
        return await self._kernel.observe(Look(addresses_of=strangers))

    async def realize(self, desired: Desired) -> tuple[str, ...]:
        """Make it so; return what was done.

        Raises what `plan` does, and `BackendFailed` for the kernel's refusal or, with step `probe`, for a move of the
        host's own addresses that was undone because somebody did not answer any more.
        """
        return await self._mover.realize(desired, self._realizing.ask)

    async def settle(self) -> frozenset[UUID]:
        """At the start: end what a former process left unconfirmed; the networks that were undone."""
        return await self._mover.settle()

    def check(self, desired: Desired) -> Awaitable[Checked]:
        """Compare and plan, change nothing."""
        return self._checking.ask(desired)

    async def release(self, owner: UUID, uplink: str | None = None, *, force: bool = False) -> tuple[str, ...]:
        """Take every device of `owner` away; return what was done. Nothing to do is no error."""
        return await self._releasing.ask(_Release(owner, uplink, force))

    async def release_unused(self) -> tuple[str, ...]:
        """Take away shared devices that no network uses: left by a process that died between two steps."""
        async with self._lock:
            actual = await self.observe()
            bridges = actual.owned_by(SHARED)
            if bridges:
                ports = [port.name for bridge in bridges for port in actual.ports_of(bridge.name) if port.owner is None]
                actual = await self._kernel.observe(Look(inet_of=frozenset([*ports, *(one.name for one in bridges)])))
            steps = plan_unused(actual)
            if steps:
                await self._do(steps, actual)
        return _commands(steps)

    async def check_release(self, owner: UUID, uplink: str | None = None, *, force: bool = False) -> Checked:
        """What `release` would do; changes nothing."""
        actual = await self._observe_for_release([(owner, uplink)])
        present = bool(actual.owned_by(owner))
        try:
            return Checked((), _commands(plan_release(owner, actual, uplink, force=force)), present)
        except ViaductError as exc:
            return Checked((), (), present, exc)

    async def _realize(self, wishes: Sequence[Wish]) -> list[Outcome | Exception]:
        """Plan each on what the ones before will have made of the host; do them all; look at them all once more."""
        wanted = [wish.desired for wish in wishes]
        results: list[Outcome | Exception] = [Outcome()] * len(wanted)
        plans: list[tuple[int, tuple[Step, ...]]] = []
        async with self._lock:
            actual = await self._look(wanted)
            # A plan reads nothing that was not looked at, so the table may run ahead of the kernel.
            ahead = actual if len(wanted) == 1 else actual.copy()
            for number, desired in enumerate(wanted):
                try:
                    steps = plan(desired, ahead)
                    move = _move(desired, ahead)
                except ViaductError as exc:
                    results[number] = exc
                    continue
                if move is not None:
                    results[number] = Outcome(move=move)
                    if not wishes[number].may_move:
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
            done = results[number]
            move = replace(done.move, steps=steps) if isinstance(done, Outcome) and done.move is not None else None
            results[number] = refusal or _verified(wanted[number], now) or Outcome(_commands(steps), move)
        return results

    async def _release(self, wanted: Sequence[_Release]) -> list[tuple[str, ...] | Exception]:
        results: list[tuple[str, ...] | Exception] = [()] * len(wanted)
        plans: list[tuple[int, tuple[Step, ...]]] = []
        async with self._lock:
            actual = await self._observe_for_release([(release.owner, release.uplink) for release in wanted])
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
        few = len(wanted) <= _FEW_NETWORKS
        names: set[str] = set()
        entries_of: set[str] = set()
        inet_of: set[str] = set()
        for desired in wanted:
            marked = self._names_by_owner.get(desired.owner, ())
            if few:
                names |= desired.device_names.union(marked)
            if desired.uplink is not None and desired.uplink_master is not None:
                inet_of |= {desired.uplink, desired.uplink_master}
                inet_of.update(stale_names(desired, marked))
            entries_of.update([link.name for link in desired.links if link.entries is not None])
            entries_of.update([device for device, _ in desired.members])
        look = Look(
            names=frozenset(names) if few else None,
            inet_of=frozenset(inet_of),
            entries_of=frozenset(entries_of),
            carriers_of=frozenset(one.tunnel_ip for one in wanted if one.tunnel_ip is not None),
        )
        links = await self._kernel.observe(look)
        if look.names is None:
            self._remember(links)
        self._name_keepers(links, inet_of)
        return links

    async def _observe_for_release(self, releases: Iterable[tuple[UUID, str | None]]) -> LinkTable:
        """All links; which VLANs the ports of bridges have that networks share; and what the bridges that would go
        have of the host's own."""
        links = await self.observe()
        shared = links.owned_by(SHARED)
        carried = frozenset(name for owner, uplink in releases for name in carried_by(owner, links, uplink))
        if not shared and not carried:
            return links
        ports = [port.name for bridge in shared for port in links.ports_of(bridge.name)]
        entries_of = frozenset([*ports, *(bridge.name for bridge in shared)])
        links = await self._kernel.observe(Look(entries_of=entries_of, inet_of=carried))
        self._name_keepers(links, carried)
        return links

    def _name_keepers(self, links: LinkTable, names: Iterable[str]) -> None:
        for name in names:
            link = links.get(name)
            keeper = None if link is None or not own(link) else self._keeper(link)
            if link is not None and link.inet is not None and keeper is not None:
                obstacles = (*link.inet.obstacles, f"{keeper} manages {name}")
                links.put(with_values(link, inet=Inet(link.inet.things, obstacles)))

    def _remember(self, links: LinkTable) -> None:
        self._names_by_owner = links.names_by_owner()
        self._names_by_owner.pop(SHARED, None)


def _move(desired: Desired, table: LinkTable) -> Move | None:
    """The move of the host's own addresses that a plan for `desired` contains."""
    uplink = None if desired.uplink is None else table.get(desired.uplink)
    sources = carriers(desired, uplink, table)
    if uplink is None or desired.uplink_master is None or not sources:
        return None
    gateways = frozenset(gateway for link in sources if link.inet for gateway in link.inet.gateways)
    return Move(uplink.name, desired.uplink_master, gateways)


def _verified(desired: Desired, now: LinkTable) -> Exception | None:
    try:
        return left_over(plan(desired, now), lambda: differences(desired, now))
    except ViaductError as exc:
        return exc


def _checked(desired: Desired, actual: LinkTable) -> Checked:
    present = bool(actual.names_owned_by(desired.owner))
    try:
        steps = plan(desired, actual)
    except ViaductError as exc:
        return Checked(tuple(differences(desired, actual)), (), present, exc)
    if not steps:  # then there is no difference either
        return _AS_WANTED if present else Checked()
    return Checked(tuple(differences(desired, actual)), _commands(steps), present)


def _commands(steps: tuple[Step, ...]) -> tuple[str, ...]:
    return tuple(step.command for step in steps)
