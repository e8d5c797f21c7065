"""Everything that leaves the manager goes through the outbox: commands, answers, events."""

from collections import defaultdict
from collections.abc import Iterable
from uuid import UUID, uuid4

from viaduct_common import topology
from viaduct_common.bus import Outgoing
from viaduct_common.bus.letters import reply_to as make_reply
from viaduct_common.messages.agent import (
    CheckL2Command,
    L2Desired,
    L2Inquiry,
    ListOrphansCommand,
    RealizeL2Command,
    ReleaseL2Command,
    SyncHostCommand,
)
from viaduct_common.messages.base import Command, WireModel
from viaduct_common.messages.l2 import L2_NOVLAN, L2NetworkInventory
from viaduct_common.postgres.outbox import enqueue
from viaduct_common.postgres.pool import Connection
from viaduct_manager.desired import Knowledge, know
from viaduct_manager.model.tunnels import Cidr, Place, Tunnels
from viaduct_manager.store import hosts, l2_networks, realizations, told, tunnels
from viaduct_manager.store.realizations import Ordered

# A command outside an operation: a host that cannot take it within a minute is told anew by its next sync.
LOOSE_COMMAND_SECONDS = 60.0
# The answer to one has a result for each, of up to some 2 KiB where every step of it is told.
MOST_ITEMS = 8000
# Each host's command names all its peers: a large cluster's are not made, nor held in memory, all at once.
COMMANDS_AT_ONCE = 64


async def event(connection: Connection, name: str, subject: WireModel) -> None:
    """Tell the world, for whoever listens; `name` is `<entity>.<what happened>`, the body the subject's inventory."""
    await enqueue(
        connection,
        [Outgoing(topology.EVENTS, routing_key=name, type=name, body=subject.to_json(), mandatory=False)],
    )


async def answer(connection: Connection, waiters: Iterable[tuple[str, str]], body: bytes) -> None:
    """Answer everyone who waits: (reply_to, correlation_id) each."""
    await enqueue(connection, [make_reply(address, correlation_id, None, body) for address, correlation_id in waiters])


async def orders(
    connection: Connection,
    ordered: Iterable[Ordered],
    *,
    lifetime_seconds: float = LOOSE_COMMAND_SECONDS,
    operation_uuid: UUID | None = None,
    seen: Tunnels | None = None,
) -> dict[UUID, UUID]:
    """Tell each host that can be reached what to realize and release; return the command's id by host.

    A host gets one command to realize and one to release, with what others stand on first; more only where one would
    be too large.

    Args:
        seen: the networks' tunnels, by a caller who has noted already what the hosts are told of them.
    """
    by_command: dict[tuple[UUID, str], list[Ordered]] = defaultdict(list)
    for order in ordered:
        if order.reachable:
            by_command[order.host_uuid, order.desired].append(order)
    pairs = [(order.l2_uuid, order.host_uuid) for group in by_command.values() for order in group]
    networks = await l2_networks.get_many(connection, list({l2_uuid for l2_uuid, _ in pairs}))
    knowledge = await know(connection, pairs, seen)
    if seen is None:
        present = [(o.l2_uuid, o.host_uuid) for group in by_command.values() for o in group if o.desired == "present"]
        await _note_told(connection, knowledge, knowledge.realized(present))
    ids: dict[UUID, UUID] = {}
    commands = list(by_command.items())
    for start in range(0, len(commands), COMMANDS_AT_ONCE):
        messages = []
        for (host_uuid, desired), group in commands[start : start + COMMANDS_AT_ONCE]:
            items = [
                knowledge.item(host_uuid, networks[order.l2_uuid], order.generation, force=order.forced)
                for order in group
            ]
            kind = RealizeL2Command if desired == "present" else ReleaseL2Command
            parts = [
                _command(host_uuid, part, lifetime_seconds, operation_uuid)
                for part in split(kind(items=parents_first(items)))
            ]
            ids[host_uuid] = parts[0].message_id
            messages += parts
        await enqueue(connection, messages)
    return ids


async def inquiries(
    connection: Connection,
    host_uuids: Iterable[UUID],
    network: L2NetworkInventory,
    action: str,
    *,
    lifetime_seconds: float,
    operation_uuid: UUID,
    forced: bool = False,
    joining: UUID | None = None,
    cidr: Cidr | None = None,
) -> dict[UUID, UUID]:
    """Ask hosts to compare and plan; return the command's id by host. Generation 0 stands for a host told nothing.

    Args:
        joining: the cluster that the network would be attached to: its hosts are each other's peers then.
        cidr: of that attach.
    """
    ids: dict[UUID, UUID] = {}
    messages = []
    asked = list(host_uuids)
    pairs = [(network.uuid, host_uuid) for host_uuid in asked]
    generations = await realizations.generations(connection, network.uuid, asked)
    seen = await tunnels.load(connection, [network.uuid], asked=pairs, joining=joining, cidr=cidr)
    knowledge = await know(connection, pairs, seen)
    for host_uuid in asked:
        item = knowledge.item(host_uuid, network, generations.get(host_uuid, 0), force=forced)
        inquiry = L2Inquiry.model_validate({**dict(item), "action": action})
        message = _command(host_uuid, Sized(CheckL2Command(items=[inquiry])), lifetime_seconds, operation_uuid)
        ids[host_uuid] = message.message_id
        messages.append(message)
    await enqueue(connection, messages)
    return ids


async def sync(connection: Connection, host_uuid: UUID, *, operation_uuid: UUID | None = None) -> UUID:
    """Send a host its full desired set; return the id of the sync."""
    await realizations.start_sync(connection, host_uuid)
    wanted = {
        row.uuid: row.generation
        for row in await realizations.of_host(connection, host_uuid)
        if row.desired == "present"
    }
    networks = await l2_networks.get_many(connection, list(wanted))
    knowledge = await know(connection, [(l2_uuid, host_uuid) for l2_uuid in wanted])
    wanted |= await _tell_current_peers(connection, knowledge, host_uuid, list(wanted))
    items = [knowledge.item(host_uuid, networks[l2_uuid], generation) for l2_uuid, generation in wanted.items()]
    commands = split(SyncHostCommand(items=parents_first(items)))
    messages = [_command(host_uuid, command, LOOSE_COMMAND_SECONDS, operation_uuid) for command in commands]
    await enqueue(connection, messages)
    await hosts.mark_synced(connection, host_uuid)
    return messages[0].message_id


async def orphans(
    connection: Connection,
    host_uuid: UUID,
    *,
    lifetime_seconds: float,
    operation_uuid: UUID,
    sweep: bool = False,
    force: bool = False,
) -> UUID:
    """Ask a host what it has and should not have; return the command's id.

    What is on its way to it, or off it, is no orphan: somebody looks after that already.
    """
    listed = sorted(row.uuid for row in await realizations.of_host(connection, host_uuid))
    command = ListOrphansCommand(listed=listed, sweep=sweep, force=force)
    message = _command(host_uuid, Sized(command), lifetime_seconds, operation_uuid)
    await enqueue(connection, [message])
    return message.message_id


def parents_first(items: Iterable[L2Desired]) -> list[L2Desired]:
    """An interface's untagged network before those that stand on the same interface beside it. Agents begin the items
    of one command in their order."""
    return sorted(items, key=lambda item: (item.l2_network.type != L2_NOVLAN, str(item.l2_network.uuid)))


class Sized:
    """A command and its body."""

    def __init__(self, command: Command) -> None:
        self.command = command
        self.body = command.to_json()


def split(command: RealizeL2Command | ReleaseL2Command | SyncHostCommand) -> list[Sized]:
    """The command, or several that come to the same, each of which a message can carry, and its answer, too.

    The rest of a sync comes as commands to realize; the sync lists their networks, so that it leaves them alone.
    """
    sized = Sized(command)
    items = command.items
    if len(items) <= 1 or (len(items) <= MOST_ITEMS and len(sized.body) <= topology.MAX_COMMAND_BYTES):
        return [sized]
    first, rest = items[: len(items) // 2], items[len(items) // 2 :]
    if isinstance(command, SyncHostCommand):
        listed = [*command.listed, *(item.l2_network.uuid for item in rest)]
        return [*split(SyncHostCommand(items=first, listed=listed)), *split(RealizeL2Command(items=rest))]
    kind = type(command)
    return [*split(kind(items=first)), *split(kind(items=rest))]


async def _tell_current_peers(
    connection: Connection, knowledge: Knowledge, host_uuid: UUID, l2_uuids: list[UUID]
) -> dict[UUID, int]:
    """The generations under which a sync tells the host of the peers that there are now, by tunnelled network."""
    places = knowledge.realized([(l2_uuid, host_uuid) for l2_uuid in l2_uuids])
    current = {place.l2_uuid: place.generation for place in places if place.generation is not None}
    noted = await _note_told(connection, knowledge, knowledge.untold(places))
    return current | {order.l2_uuid: order.generation for order in noted}


async def _note_told(connection: Connection, knowledge: Knowledge, places: list[Place]) -> list[Ordered]:
    """Note what the hosts are told now; return those of which this is news.

    What others commit meanwhile is not in it, and a refresh that comes before our commit does not see us: so there is
    to be another look after it.
    """
    telling = await told.tell(connection, knowledge.tunnels, places, anew=False)
    if places:
        await tunnels.mark_stale(connection, [place.l2_uuid for place in places], after_seconds=0)
    return telling.told


def _command(host_uuid: UUID, sized: Sized, lifetime_seconds: float, operation_uuid: UUID | None) -> Outgoing:
    return Outgoing(
        topology.COMMANDS,
        routing_key=topology.command_key(host_uuid),
        type=sized.command.message_type,
        body=sized.body,
        message_id=uuid4(),
        correlation_id=None if operation_uuid is None else str(operation_uuid),
        expiration_seconds=max(1.0, lifetime_seconds),
    )
