"""Commands to backends: every item in its network's lane, fenced by its generation, answered by one completion.

queue ─► handle ─► one lane per item ─► backend ─► completion (confirmed) ─► ack
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import UUID

import structlog
from prometheus_client import Counter, Histogram

from viaduct_agent.backends.api import L2OnHost, Registry
from viaduct_agent.holdings import Holdings
from viaduct_agent.lanes import Lanes, Turn
from viaduct_agent.links.host import Checked, HostLinks
from viaduct_agent.orphans import Orphanage
from viaduct_agent.replay import Replays
from viaduct_common import topology
from viaduct_common.bus import Delivery, GiveBack
from viaduct_common.bus.failures import BusError
from viaduct_common.bus.intake import check_envelope
from viaduct_common.errors import DeadlineExceeded, HostUnreachable, InvalidRequest, UnsupportedType, ViaductError
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
ITEMS = Counter("viaduct_agent_items", "Items of commands by command and outcome", ["command", "outcome"])
ITEM_SECONDS = Histogram("viaduct_agent_item_seconds", "Time of one item, its wait included", ["command"])
_GIVE_BACK_PAUSE_SECONDS = 1.0  # a command that cannot be answered comes again at once: not in a tight loop

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
        check_envelope(delivery, max_body_bytes=topology.MAX_COMMAND_BYTES)
        command, command_id = _parse(delivery)
        structlog.contextvars.bind_contextvars(command=command.message_type, message_id=str(command_id))
        if isinstance(command, ListOrphansCommand):
            completion = await self._orphans(command, command_id, delivery)
        else:
            # No await up to here: turns are taken in the order in which the commands came.
            turns = [self._lanes.enter(item.l2_network.uuid) for item in command.items]
            completion = await self._items(command, command_id, turns, delivery.deadline)
        try:
            await self._send(completion)
        except BusError as exc:
            await asyncio.sleep(_GIVE_BACK_PAUSE_SECONDS)
            raise GiveBack(f"the completion was not taken: {exc}") from exc

    async def _items(
        self, command: AnyCommand, command_id: UUID, turns: list[Turn], deadline: float | None
    ) -> Completion:
        """Items begin in their order, each once its lane is free."""
        try:
            left: list[Orphan] = []
            if isinstance(command, SyncHostCommand):
                left = await self._release_unlisted(command, command_id)
            async with asyncio.TaskGroup() as tasks:
                work = [
                    tasks.create_task(self._item(command, item, turn, deadline))
                    for item, turn in zip(command.items, turns, strict=True)
                ]
        finally:
            for turn in turns:
                turn.leave()
        return Completion(
            host_uuid=self._host_uuid,
            command=command.message_type,
            command_id=command_id,
            items=[task.result() for task in work],
            released=[orphan.l2_network_uuid for orphan in left if orphan.swept],
            orphans=[orphan for orphan in left if not orphan.swept],
        )

    async def _item(self, command: AnyCommand, item: L2Desired, turn: Turn, deadline: float | None) -> ItemResult:
        started = time.perf_counter()
        blank = ItemResult(l2_network_uuid=item.l2_network.uuid, generation=item.generation, outcome="done")
        async with turn:
            try:
                if deadline is not None and time.monotonic() > deadline:
                    raise DeadlineExceeded("the deadline passed before it was started; nothing was changed")
                result = await self._work_of(command)(item, blank)
            except ViaductError as exc:
                result = blank.model_copy(update={"outcome": "failed", "error": exc.to_body()})
            except Exception:
                log.exception("item_crashed", l2_uuid=str(item.l2_network.uuid))
                error = ViaductError("internal error; the agent's log has more under this message id")
                result = blank.model_copy(update={"outcome": "failed", "error": error.to_body()})
        took = time.perf_counter() - started
        ITEMS.labels(command.message_type, result.outcome).inc()
        ITEM_SECONDS.labels(command.message_type).observe(took)
        _log_item(result, took)
        return result.model_copy(update={"took_ms": round(took * 1000, 3)})

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
            if delivery.deadline is not None and time.monotonic() > delivery.deadline:
                raise DeadlineExceeded("the deadline passed before it was started; nothing was changed")
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


def _parse(delivery: Delivery) -> tuple[AnyCommand | ListOrphansCommand, UUID]:
    kind = COMMANDS.get(delivery.type)
    if kind is None:
        raise UnsupportedType(f"no command {delivery.type!r}", type=delivery.type)
    try:
        command_id = UUID(delivery.message_id or "")
    except ValueError:
        raise InvalidRequest.of_field("message_id", "the AMQP property must be a UUID") from None
    return kind.from_json(delivery.body), command_id


def _status(checked: Checked) -> str:
    if not checked.present:
        return "missing"
    return "drifted" if checked.differences else "ok"


def _log_item(result: ItemResult, took: float) -> None:
    level = log.warning if result.outcome == "failed" else log.info
    error = None if result.error is None else f"{result.error.code}: {result.error.message}"
    level(
        "item_" + result.outcome,
        l2_uuid=str(result.l2_network_uuid),
        generation=result.generation,
        changes=len(result.changes),
        error=error,
        took_ms=round(took * 1000, 1),
    )
