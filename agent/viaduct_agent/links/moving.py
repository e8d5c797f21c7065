"""Moving the host's own addresses under guard: who answered before must answer after, or all of it is undone.

Nothing of the manager is needed for that: the guard runs in this process, and the kernel remembers what nobody has
confirmed yet (see `carrying.UNCONFIRMED`) for the process that comes after.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

import structlog

from viaduct_agent.links import carrying
from viaduct_agent.links.execute import undo
from viaduct_agent.links.kernel import Kernel
from viaduct_agent.links.model import Desired, Step
from viaduct_agent.links.probing import Prober, Target
from viaduct_common.errors import BackendFailed, ViaductError

log = structlog.get_logger(__name__)
PROBE_SECONDS = 10.0
_BEFORE_SECONDS = 3.0  # as long as the kernel asks a neighbour (three times, a second each) until it gives up
# After a move that was undone the NIC is left alone so long: else a retry would cut the host off again and again.
_REST_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Move:
    """Of addresses and routes from `nic` to `bridge`; `gateways` are the next hops of the default routes. `steps` were
    done, none as long as the move is only due."""

    nic: str
    bridge: str
    gateways: frozenset[str]
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Wish:
    """A network to be realized. What would move the host's addresses is left undone unless it `may_move`."""

    desired: Desired
    may_move: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done; or, with no commands and a `move`, that nothing was done because a move is due."""

    commands: tuple[str, ...] = ()
    move: Move | None = None


class Mover:
    """One move at a time. The lock of the links is held while links are changed, not while answers are awaited: other
    networks go on."""

    def __init__(self, kernel: Kernel, lock: asyncio.Lock, prober: Prober | None, seconds: float) -> None:
        self._kernel = kernel
        self._lock = lock
        self._prober = prober
        self._seconds = seconds
        self._one_move = asyncio.Lock()
        self._undone_at: dict[str, float] = {}
        self._tasks: set[asyncio.Task[tuple[str, ...]]] = set()

    async def realize(self, desired: Desired, ask: Callable[[Wish], Awaitable[Outcome]]) -> tuple[str, ...]:
        """`ask` does it, or tells that a move is due. An asker that is cancelled stops no move: it ends confirmed or
        undone."""
        outcome = await ask(Wish(desired))
        if outcome.move is None:
            return outcome.commands
        task = asyncio.create_task(self._guarded(desired, ask))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def settle(self, seconds: float | None = None) -> frozenset[UUID]:
        """At the start: a move that a former process left unconfirmed is confirmed if the broker answers in time, else
        undone. Returns the networks whose bridges were taken away."""
        async with self._one_move:
            bridges = carrying.unconfirmed(await self._kernel.observe())
            if not bridges:
                return frozenset()
            names = sorted(bridge.name for bridge in bridges)
            log.warning("move_unconfirmed", bridges=names)
            if self._prober is None or await self._broker_answers(self._prober, seconds or self._seconds):
                await self._confirm(frozenset(names))
                return frozenset()
            return await self._undo_unconfirmed(names)

    async def _guarded(self, desired: Desired, ask: Callable[[Wish], Awaitable[Outcome]]) -> tuple[str, ...]:
        async with self._one_move:
            due = await ask(Wish(desired))  # another network may have moved it meanwhile
            if due.move is None:
                return due.commands
            self._refuse_tired(due.move.nic)
            before = await self._answering(due.move.nic, due.move.gateways)
            try:
                outcome = await ask(Wish(desired, may_move=True))
            except ViaductError:  # undone already, unless it is something else that is not as it should be
                await self._end(due.move.bridge, before)
                raise
            if outcome.move is None:
                return outcome.commands
            lost = before - await self._still(outcome.move.bridge, before)
            if lost:
                raise await self._undone(outcome.move, lost)
            await self._confirm(frozenset({outcome.move.bridge}))
            log.info("addresses_moved", nic=outcome.move.nic, bridge=outcome.move.bridge, probed=_names(before))
            return outcome.commands

    async def _end(self, bridge: str, before: frozenset[Target]) -> None:
        now = await self._kernel.observe()
        if bridge not in {link.name for link in carrying.unconfirmed(now)}:
            return
        if before - await self._still(bridge, before):
            await self._undo_unconfirmed([bridge])
        else:
            await self._confirm(frozenset({bridge}))

    async def _answering(self, nic: str, gateways: frozenset[str]) -> frozenset[Target]:
        if self._prober is None:
            return frozenset()
        targets = await self._prober.targets(gateways)
        return await self._prober.answering(nic, targets, min(_BEFORE_SECONDS, self._seconds))

    async def _still(self, bridge: str, before: frozenset[Target]) -> frozenset[Target]:
        if self._prober is None or not before:
            return before
        return await self._prober.answering(bridge, before, self._seconds)

    async def _broker_answers(self, prober: Prober, seconds: float) -> bool:
        until = time.monotonic() + seconds
        targets = await prober.targets(frozenset())
        return bool(targets and await prober.answering("", targets, max(0.0, until - time.monotonic())))

    async def _confirm(self, bridges: frozenset[str]) -> None:
        async with self._lock:
            now = await self._kernel.observe()
            marked = [bridge for bridge in carrying.unconfirmed(now) if bridge.name in bridges]
            await self._kernel.apply([[carrying.confirming(bridge)] for bridge in marked], now.indexes())

    async def _undone(self, move: Move, lost: frozenset[Target]) -> BackendFailed:
        async with self._lock:
            now = await self._kernel.observe()
            await undo(self._kernel, carrying.undoing(move.steps, now), now.indexes())
        self._undone_at[move.nic] = time.monotonic()
        names = _names(lost)
        log.error("addresses_moved_back", nic=move.nic, bridge=move.bridge, lost=names)
        text = f"after the addresses of {move.nic} went to {move.bridge}, {', '.join(names)} did not answer for"
        text += f" {self._seconds:g} s; all of it was undone"
        return BackendFailed(text, step="probe", device=move.nic, lost=names)

    async def _undo_unconfirmed(self, names: list[str]) -> frozenset[UUID]:
        async with self._lock:
            now = await self._kernel.observe()
            now = await self._kernel.observe(carrying.look_at_moved(now))
            steps, owners = carrying.plan_undo(now)
            await undo(self._kernel, steps, now.indexes())
        log.error("addresses_moved_back", bridges=names, lost=["broker"])
        return owners

    def _refuse_tired(self, nic: str) -> None:
        since = time.monotonic() - self._undone_at.get(nic, -_REST_SECONDS)
        if since < _REST_SECONDS:
            text = (
                f"a move of the addresses of {nic} was undone {since:.0f} s ago: not again before {_REST_SECONDS:g} s"
            )
            raise BackendFailed(text, step="probe", device=nic, retryAfterSeconds=round(_REST_SECONDS - since))


def _names(targets: frozenset[Target]) -> list[str]:
    return sorted(map(str, targets))
