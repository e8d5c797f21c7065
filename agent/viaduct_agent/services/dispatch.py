"""Commands about services to backends: every item in its instance's lane, fenced by its generation, answered by one
completion.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from uuid import UUID

from viaduct_agent.items import answer, do_item, do_items, read_command
from viaduct_agent.lanes import Lanes, Turn
from viaduct_agent.replay import Replays
from viaduct_agent.services.api import ServiceOnHost
from viaduct_agent.services.holdings import ServiceHoldings
from viaduct_agent.services.leftovers import remove_leftovers
from viaduct_agent.services.registry import ServiceRegistry
from viaduct_common.bus import Delivery
from viaduct_common.messages.services.commands import (
    ApplyServicesCommand,
    CheckServicesCommand,
    RemoveServicesCommand,
    ServiceCompletion,
    ServiceDesired,
    ServiceResult,
    SyncServicesCommand,
)

AnyCommand = ApplyServicesCommand | RemoveServicesCommand | CheckServicesCommand | SyncServicesCommand
COMMANDS: dict[str, type[AnyCommand]] = {
    kind.message_type: kind
    for kind in (ApplyServicesCommand, RemoveServicesCommand, CheckServicesCommand, SyncServicesCommand)
}
SendCompletion = Callable[[ServiceCompletion], Awaitable[None]]
Work = Callable[[ServiceOnHost, ServiceResult], Awaitable[ServiceResult]]


class ServiceDispatcher:
    """`handle` is the bus handler."""

    def __init__(
        self,
        host_uuid: UUID,
        *,
        backends: ServiceRegistry,
        holdings: ServiceHoldings,
        lanes: Lanes,
        send: SendCompletion,
    ) -> None:
        self._host_uuid = host_uuid
        self._backends = backends
        self._holdings = holdings
        self._lanes = lanes
        self._send = send
        self._syncs: Replays[list[UUID]] = Replays(limit=256)

    async def handle(self, delivery: Delivery) -> None:
        """Do a command and answer it; returning acks it.

        Raises:
            GiveBack: the completion could not be published; doing it again changes nothing.
            ViaductError, ValidationError: not a command that can be understood; the bus dead-letters it.
        """
        command, command_id = read_command(delivery, COMMANDS)
        # No await up to here: turns are taken in the order in which the commands came.
        turns = [self._lanes.enter(item.service_uuid) for item in command.items]
        try:
            removed: list[UUID] = []
            if isinstance(command, SyncServicesCommand):
                removed = await self._remove_unlisted(command, command_id)
            results = await do_items(command.items, turns, partial(self._item, command, delivery.deadline))
        finally:
            for turn in turns:
                turn.leave()
        completion = ServiceCompletion(
            host_uuid=self._host_uuid,
            command=command.message_type,
            command_id=command_id,
            items=results,
            removed=removed,
        )
        await answer(self._send, completion)

    async def _item(
        self, command: AnyCommand, deadline: float | None, item: ServiceDesired, turn: Turn
    ) -> ServiceResult:
        want = ServiceOnHost(item.service_uuid, item.kind, item.generation, item.spec)
        blank = ServiceResult(service_uuid=item.service_uuid, generation=item.generation, outcome="done")
        work = partial(self._work_of(command), want)
        about = {"service_uuid": str(item.service_uuid), "kind": item.kind}
        return await do_item(blank, work, turn, deadline, command=command.message_type, **about)

    def _work_of(self, command: AnyCommand) -> Work:
        match command:
            case CheckServicesCommand():
                return self._check
            case RemoveServicesCommand():
                return self._remove
            case _:
                return self._apply

    async def _apply(self, want: ServiceOnHost, blank: ServiceResult) -> ServiceResult:
        """One that is held in this generation already is applied all the same: it is compared, and mended."""
        if not self._holdings.admit(want.uuid, want.generation):
            return blank.model_copy(update={"outcome": "superseded"})
        try:
            changes = await self._backends.of(want.kind).apply(want)
        except BaseException:
            self._holdings.not_realized(want)
            raise
        self._holdings.realized(want)
        return blank.model_copy(update={"changes": list(changes)})

    async def _remove(self, want: ServiceOnHost, blank: ServiceResult) -> ServiceResult:
        if not self._holdings.admit(want.uuid, want.generation):
            return blank.model_copy(update={"outcome": "superseded"})
        changes = await self._backends.of(want.kind).remove(want.uuid)
        self._holdings.released(want.uuid)
        return blank.model_copy(update={"changes": list(changes)})

    async def _check(self, want: ServiceOnHost, blank: ServiceResult) -> ServiceResult:
        checked = await self._backends.of(want.kind).check(want)
        status = "missing" if not checked.present else "drifted" if checked.differences else "ok"
        found = {"status": status, "differences": list(checked.differences), "steps": list(checked.steps)}
        return blank.model_copy(update=found)

    async def _remove_unlisted(self, command: SyncServicesCommand, command_id: UUID) -> list[UUID]:
        """The same command delivered again removes nothing more: what was applied since it was written is not in it."""
        done = self._syncs.get(command_id)
        if done is not None:
            return done
        listed = {item.service_uuid for item in command.items} | set(command.listed)
        removed = await remove_leftovers(listed, backends=self._backends, holdings=self._holdings, lanes=self._lanes)
        self._syncs.put(command_id, removed)
        return removed
