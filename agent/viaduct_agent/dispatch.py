"""Commands to backends: every item in its network's lane, fenced by its generation, answered by one completion.

queue ─► handle ─► one lane per item ─► backend ─► completion (confirmed) ─► ack
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any
from uuid import UUID

import structlog

from viaduct_agent.backends.api import L2OnHost, Registry
from viaduct_agent.holdings import Holdings
from viaduct_agent.items import answer, check_deadline, do_item, do_items, read_command
from viaduct_agent.lanes import Lanes, Turn
from viaduct_agent.links.host import Checked, HostLinks
from viaduct_agent.orphans import Orphanage
from viaduct_agent.replay import Replays
from viaduct_common.bus import Delivery
from viaduct_common.errors import HostUnreachable, ViaductError
from viaduct_common.messages.agent import (
    CheckL2Command,
    Completion,
    ItemResult,
    L2Desired,
    L2Inquiry,
    ListOrphansCommand,
    Orphan,
    RealizeL2Command,
    ReleaseL2Command,
    SyncHostCommand,
)

log = structlog.get_logger()

AnyCommand = RealizeL2Command | ReleaseL2Command | CheckL2Command | SyncHostCommand
COMMANDS: dict[str, type[AnyCommand | ListOrphansCommand]] = {
    kind.message_type: kind
    for kind in (RealizeL2Command, ReleaseL2Command, CheckL2Command, SyncHostCommand, ListOrphansCommand)
}
SendCompletion = Callable[[Completion], Awaitable[None]]
Work = Callable[[L2Desired, ItemResult], Awaitable[ItemResult]]


class Dispatcher:
    """`handle` is the bus handler; nothing else changes this host on the manager's behalf."""

    def __init__(
        self,
        host_uuid: UUID,
        *,
        backends: Registry,
        links: HostLinks,
        holdings: Holdings,
        lanes: Lanes,
        send: SendCompletion,
        interface_map: Mapping[str, str],
    ) -> None:
        self._host_uuid = host_uuid
        self._backends = backends
        self._links = links
        self._holdings = holdings
        self._lanes = lanes
        self._send = send
        self._interface_map = interface_map
        self._orphanage = Orphanage(backends, links, holdings, lanes)
        self._syncs: Replays[list[Orphan]] = Replays(limit=256)
        self._sweeps: Replays[Completion] = Replays(limit=256)

    async def handle(self, delivery: Delivery) -> None:
        """Do a command and answer it; returning acks it.

        Raises:
            GiveBack: the completion could not be published; doing it again changes nothing.
            ViaductError, ValidationError: not a command that can be understood; the bus dead-letters it.
        """
        command, command_id = read_command(delivery, COMMANDS)
        if isinstance(command, ListOrphansCommand):
            completion = await self._orphans(command, command_id, delivery)
        else:
            # No await up to here: turns are taken in the order in which the commands came.
            turns = [self._lanes.enter(item.l2_network.uuid) for item in command.items]
            completion = await self._items(command, command_id, turns, delivery.deadline)
        await answer(self._send, completion)

    async def _items(
        self, command: AnyCommand, command_id: UUID, turns: list[Turn], deadline: float | None
    ) -> Completion:
        try:
            left: list[Orphan] = []
            if isinstance(command, SyncHostCommand):
                left = await self._release_unlisted(command, command_id)
            results = await do_items(command.items, turns, partial(self._item, command, deadline))
        finally:
            for turn in turns:
                turn.leave()
        return Completion(
            host_uuid=self._host_uuid,
            command=command.message_type,
            command_id=command_id,
            items=results,
            released=[orphan.l2_network_uuid for orphan in left if orphan.swept],
            orphans=[orphan for orphan in left if not orphan.swept],
        )

    async def _item(self, command: AnyCommand, deadline: float | None, item: L2Desired, turn: Turn) -> ItemResult:
        blank = ItemResult(l2_network_uuid=item.l2_network.uuid, generation=item.generation, outcome="done")
        work, about = partial(self._work_of(command), item), str(item.l2_network.uuid)
        return await do_item(blank, work, turn, deadline, command=command.message_type, l2_uuid=about)

    def _work_of(self, command: AnyCommand) -> Work:
        match command:
            case CheckL2Command():
                return self._check
            case ReleaseL2Command():
                return self._release
            case _:
                return self._realize

    async def _realize(self, item: L2Desired, blank: ItemResult) -> ItemResult:
        uuid = item.l2_network.uuid
        if not self._holdings.admit(uuid, item.generation):
            return blank.model_copy(update={"outcome": "superseded"})
        want = L2OnHost.of(item, self._interface_map)
        try:
            changes = await self._backends.of(want).realize(want)
        except BaseException:
            self._holdings.not_realized(want)
            raise
        self._holdings.realized(want)
        return blank.model_copy(update={"changes": list(changes)})

    async def _release(self, item: L2Desired, blank: ItemResult) -> ItemResult:
        uuid = item.l2_network.uuid
        if not self._holdings.admit(uuid, item.generation):
            return blank.model_copy(update={"outcome": "superseded"})
        want = L2OnHost.of(item, self._interface_map)
        changes = await self._backends.of(want).release(want)
        self._holdings.released(uuid)
        return blank.model_copy(update={"changes": list(changes)})

    async def _check(self, item: L2Desired, blank: ItemResult) -> ItemResult:
        action = item.action if isinstance(item, L2Inquiry) else "realize"
        want = L2OnHost.of(item, self._interface_map)
        checked = await self._backends.of(want).check(want, action)
        update: dict[str, Any] = {
            "status": _status(checked),
            "differences": list(checked.differences),
            "steps": list(checked.steps),
        }
        if checked.refusal is not None:
            update |= {"outcome": "failed", "error": checked.refusal.to_body()}
        return blank.model_copy(update=update)

    async def _release_unlisted(self, command: SyncHostCommand, command_id: UUID) -> list[Orphan]:
        """Release what carries our mark and is not listed. The same command delivered again releases nothing more:
        what was realised since it was written is not in it either."""
        done = self._syncs.get(command_id)
        if done is not None:
            return done
        before = self._holdings.fences()
        listed = {item.l2_network.uuid for item in command.items} | set(command.listed)
        try:
            left = await self._orphanage.release_leftovers(listed)
        except ViaductError as exc:  # the items will say so, too; the digest brings another sync
            log.warning("leftovers_not_seen", code=exc.code, error=exc.message)
            return []
        told = listed | {orphan.l2_network_uuid for orphan in left}
        known = {held.l2_network_uuid for held in self._holdings.held()} | self._holdings.wanted().keys()
        for uuid in known - told:
            if self._holdings.fence(uuid) == before.get(uuid) and not self._lanes.busy(uuid):
                self._holdings.released(uuid)  # held or refused, yet nothing of it is left in the kernel
        self._syncs.put(command_id, left)
        return left

    async def _orphans(self, command: ListOrphansCommand, command_id: UUID, delivery: Delivery) -> Completion:
        """A sweep is done once: what was realised since it was written is not in its list."""
        answered = self._sweeps.get(command_id)
        if answered is not None:
            return answered
        blank = Completion(host_uuid=self._host_uuid, command=command.message_type, command_id=command_id, items=[])
        try:
            check_deadline(delivery.deadline)
            if command.sweep and delivery.redelivered:
                raise HostUnreachable("the sweep was interrupted; what it did not reach is as it was")
            if command.sweep:
                found = await self._orphanage.sweep(command.listed, force=command.force)
            else:
                found = await self._orphanage.find(command.listed)
        except ViaductError as exc:
            return blank.model_copy(update={"error": exc.to_body()})
        completion = blank.model_copy(update={"orphans": found})
        if command.sweep:
            self._sweeps.put(command_id, completion)
        return completion


def _status(checked: Checked) -> str:
    if not checked.present:
        return "missing"
    return "drifted" if checked.differences else "ok"
