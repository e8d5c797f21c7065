"""Converging one host's Open vSwitch: look, plan, one transaction, look again; an empty plan is success."""

from collections.abc import Awaitable, Callable, Mapping
from uuid import UUID

import structlog

from viaduct_agent.links.host import Checked
from viaduct_agent.ovs.model import Bridges, Desired, Step, owner_of, steps_between
from viaduct_agent.ovs.operations import Stale
from viaduct_agent.ovs.ovsdb import Ovsdb
from viaduct_agent.ovs.plan import differences, plan, plan_release
from viaduct_common.errors import BackendFailed, ViaductError

log = structlog.get_logger()
Vet = Callable[[tuple[Step, ...]], Awaitable[None]]
_ATTEMPTS = 5


class Switch:
    """The bridges of one host.

    There is no lock: a transaction that is planned from what is no longer so fails whole, and two networks have no row
    in common. So a hundred networks are done at once, and ovs-vswitchd takes them over in a few rounds.
    """

    def __init__(self, database: Ovsdb) -> None:
        self._database = database

    async def realize(self, desired: Desired, vet: Vet) -> tuple[str, ...]:
        """Make it so; return what was done, as the equivalent commands. `vet` may refuse steps before they are done.

        Raises:
            Conflict, InUse: see `plan`; nothing was changed.
            BackendFailed: Open vSwitch could not do it; the network is as it was before.
        """
        for _ in range(_ATTEMPTS):
            before = await self._look(desired)
            steps = plan(desired, before)
            if not steps:
                return ()
            await vet(steps)
            try:
                await self._database.transact(steps)
                self._verify(desired, await self._look(desired))
            except Stale:
                continue
            except ViaductError:
                await self._undo(desired, before)
                raise
            return _commands(steps)
        raise _restless()

    async def check(self, desired: Desired, vet: Vet) -> Checked:
        """Compare and plan, change nothing."""
        actual = await self._look(desired)
        found = tuple(differences(desired, actual))
        present = any(bridge.owner == desired.owner for bridge in actual.values())
        try:
            steps = plan(desired, actual)
            if steps:
                await vet(steps)
        except ViaductError as exc:
            return Checked(found, (), present, exc)
        return Checked(found, _commands(steps), present)

    async def release(self, owner: UUID, *, force: bool = False) -> tuple[str, ...]:
        """Take away all that carries the owner's mark; return what was done. Nothing to do is no error."""
        for _ in range(_ATTEMPTS):
            steps = plan_release(owner, await self._database.observe(owner), force=force)
            if not steps:
                return ()
            try:
                await self._database.transact(steps)
            except Stale:
                continue
            return _commands(steps)
        raise _restless()

    async def check_release(self, owner: UUID, *, force: bool = False) -> Checked:
        """What `release` would do; changes nothing."""
        actual = await self._database.observe(owner)
        try:
            return Checked((), _commands(plan_release(owner, actual, force=force)), bool(actual))
        except ViaductError as exc:
            return Checked((), (), bool(actual), exc)

    async def marked(self) -> Mapping[UUID, int]:
        """The networks that have something here, each with its newest generation."""
        return await self._database.marked()

    async def devices(self, owner: UUID) -> tuple[str, ...]:
        """The names of all bridges and ports that carry the owner's mark."""
        bridges = (await self._database.observe(owner)).values()
        names = {bridge.name for bridge in bridges if bridge.owner == owner}
        names |= {port.name for bridge in bridges for port in bridge.ports if port.owner == owner}
        return tuple(sorted(names))

    async def _look(self, desired: Desired) -> Bridges:
        return await self._database.observe(desired.owner, desired.device_names)

    def _verify(self, desired: Desired, now: Bridges) -> None:
        left = plan(desired, now)
        if not left:
            return
        found = differences(desired, now)
        errors = [f"{one.device}: {one.actual}" for one in found if one.attribute == "error"]
        text = "; ".join(errors) or f"still to be done: {', '.join(_commands(left))}"
        details = [one.model_dump(mode="json", by_alias=True) for one in found]
        raise BackendFailed(f"Open vSwitch could not do it: {text}", step=left[0].command, differences=details)

    async def _undo(self, desired: Desired, before: Bridges) -> None:
        """Give back what was there before, as far as it is ours; ovs-vswitchd may be the one who does not answer."""
        try:
            now = await self._look(desired)
            steps = [step for step in steps_between(now, before) if owner_of(step) == desired.owner]
            if steps:
                await self._database.transact(steps, settle=False)
        except (ViaductError, Stale) as exc:  # the caller hears the first error; the next realize adopts what is left
            log.warning("ovs_not_undone", l2_uuid=str(desired.owner), error=str(exc))


def _commands(steps: tuple[Step, ...]) -> tuple[str, ...]:
    return tuple(step.command for step in steps)


def _restless() -> BackendFailed:
    return BackendFailed("Open vSwitch's database changes faster than it can be read", step="transact")
