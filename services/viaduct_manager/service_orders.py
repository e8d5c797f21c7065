"""What hosts are told of service instances, and asked: through the outbox, like all that leaves the manager."""

from collections import defaultdict
from collections.abc import Iterable
from uuid import UUID, uuid4

from viaduct_common import topology
from viaduct_common.bus import Outgoing
from viaduct_common.messages.services.commands import (
    ApplyServicesCommand,
    CheckServicesCommand,
    RemoveServicesCommand,
    ServiceDesired,
    SyncServicesCommand,
)
from viaduct_common.postgres.outbox import enqueue
from viaduct_common.postgres.pool import Connection
from viaduct_manager.store import service_states, services
from viaduct_manager.store.services import ServiceOrder

AnyCommand = ApplyServicesCommand | RemoveServicesCommand | CheckServicesCommand | SyncServicesCommand

# A host that cannot take it within a minute is told anew by its next sync.
LOOSE_COMMAND_SECONDS = 60.0
# The answer to one has a result for each, of up to some 2 KiB.
MOST_ITEMS = 8000
# Commands are made for so many hosts at once, and then given to the outbox.
COMMANDS_AT_ONCE = 64


async def orders(connection: Connection, ordered: Iterable[ServiceOrder]) -> None:
    """Tell each host that can be reached what to remove and what to apply: one command of each, unless it is too large
    for that."""
    by_command: dict[tuple[UUID, bool], list[ServiceOrder]] = defaultdict(list)
    for order in ordered:
        if order.reachable:
            by_command[order.host_uuid, order.present].append(order)
    # Removals first: what goes may hold a name, or an address, that what comes is to have.
    commands = sorted(by_command, key=lambda one: (one[1], one[0]))
    for start in range(0, len(commands), COMMANDS_AT_ONCE):
        messages = []
        for host_uuid, present in commands[start : start + COMMANDS_AT_ONCE]:
            kind = ApplyServicesCommand if present else RemoveServicesCommand
            command = kind(items=_items(by_command[host_uuid, present]))
            messages += [_message(host_uuid, part, LOOSE_COMMAND_SECONDS) for part in split(command)]
        await enqueue(connection, messages)


async def sync(connection: Connection, host_uuid: UUID, *, operation_uuid: UUID | None = None) -> UUID:
    """Send a host its full desired set; return the id of the sync. The caller has locked the host."""
    await service_states.start_sync(connection, host_uuid)
    items = _items(await services.wanted(connection, host_uuid=host_uuid))
    messages = [
        _message(host_uuid, part, LOOSE_COMMAND_SECONDS, operation_uuid)
        for part in split(SyncServicesCommand(items=items))
    ]
    await enqueue(connection, messages)
    return messages[0].message_id


async def sync_if_any(connection: Connection, host_uuid: UUID) -> None:
    """A host is told anew what it should have, if it ever had anything."""
    if await service_states.of_host(connection, host_uuid):
        await sync(connection, host_uuid)


async def inquire(
    connection: Connection, asked: Iterable[ServiceOrder], *, lifetime_seconds: float, operation_uuid: UUID
) -> dict[tuple[UUID, UUID], UUID]:
    """Ask hosts to compare and plan, read-only; return the command's id by (host, instance)."""
    by_host: dict[UUID, list[ServiceOrder]] = defaultdict(list)
    for order in asked:
        by_host[order.host_uuid].append(order)
    ids: dict[tuple[UUID, UUID], UUID] = {}
    messages = []
    for host_uuid, group in by_host.items():
        for part in split(CheckServicesCommand(items=_items(group))):
            message = _message(host_uuid, part, lifetime_seconds, operation_uuid)
            ids |= {(host_uuid, item.service_uuid): message.message_id for item in part.command.items}
            messages.append(message)
    await enqueue(connection, messages)
    return ids


class Sized:
    """A command and its body."""

    def __init__(self, command: AnyCommand) -> None:
        self.command = command
        self.body = command.to_json()


def split(command: AnyCommand) -> list[Sized]:
    """The command, or several that come to the same, each of which a message can carry, and its answer, too.

    The rest of a sync comes as commands to apply; the sync lists their instances, so that it leaves them alone.
    """
    sized = Sized(command)
    items = command.items
    if len(items) <= 1 or (len(items) <= MOST_ITEMS and len(sized.body) <= topology.MAX_COMMAND_BYTES):
        return [sized]
    first, rest = items[: len(items) // 2], items[len(items) // 2 :]
    if isinstance(command, SyncServicesCommand):
        listed = [*command.listed, *(item.service_uuid for item in rest)]
        return [*split(SyncServicesCommand(items=first, listed=listed)), *split(ApplyServicesCommand(items=rest))]
    kind = type(command)
    return [*split(kind(items=first)), *split(kind(items=rest))]


def _items(group: Iterable[ServiceOrder]) -> list[ServiceDesired]:
    return [
        ServiceDesired(
            service_uuid=order.service_uuid, kind=order.kind, generation=order.generation, spec=dict(order.spec)
        )
        for order in sorted(group, key=lambda order: order.service_uuid)
    ]


def _message(host_uuid: UUID, sized: Sized, lifetime_seconds: float, operation_uuid: UUID | None = None) -> Outgoing:
    return Outgoing(
        topology.COMMANDS,
        routing_key=topology.command_key(host_uuid),
        type=sized.command.message_type,
        body=sized.body,
        message_id=uuid4(),
        correlation_id=None if operation_uuid is None else str(operation_uuid),
        expiration_seconds=max(1.0, lifetime_seconds),
    )
