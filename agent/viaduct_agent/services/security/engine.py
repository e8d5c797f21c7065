"""The one filter of a host, which the backends of all three kinds share."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from uuid import UUID
from weakref import WeakValueDictionary

from viaduct_agent.links import parse, requests
from viaduct_agent.links.dialogue import Dialogue
from viaduct_agent.links.kinds import BRIDGE as BRIDGE_KIND
from viaduct_agent.links.model import Link
from viaduct_agent.services.api import CheckedService, ServiceOnHost
from viaduct_agent.services.security import conntrack, zones
from viaduct_agent.services.security.compiling import (
    BRIDGE,
    Bridges,
    Mechanism,
    compile_world,
    mark_key,
    marks_set,
)
from viaduct_agent.services.security.keeping import Keeper
from viaduct_agent.services.security.listing import all_marks, known_zones, marked
from viaduct_agent.services.security.model import Address, Instance, Nic, World
from viaduct_agent.services.security.model import parse as parse_spec
from viaduct_agent.services.security.overlay import differences, overlaid, sparing
from viaduct_agent.services.security.probing import probe
from viaduct_agent.services.security.revoking import touched, verdicts, with_instance
from viaduct_agent.services.security.ruleset import Key, Ruleset, plan
from viaduct_agent.services.security.tables import Tables
from viaduct_agent.services.security.watching import transactions
from viaduct_agent.services.tools import ServiceTools
from viaduct_common.errors import BackendFailed, PreconditionFailed, ViaductError

# By the identity of the host's netlink, which an engine keeps alive: gone with the last backend that uses it.
_ENGINES: WeakValueDictionary[int, "Engine"] = WeakValueDictionary()


def engine_of(tools: ServiceTools) -> "Engine":
    """The engine of the host that these are the tools of."""
    engine = _ENGINES.get(id(tools.netlink))
    if engine is None:
        engine = _ENGINES[id(tools.netlink)] = Engine(tools)
    return engine


class Engine:
    """Everything that changes goes through one lock: a transaction of nftables is one at a time anyway.

    `world` is what is wanted, `tables` knows what is there. The first change after a start brings the whole ruleset to
    what was kept; where nothing differs, as after a restart, nothing is touched.
    """

    def __init__(self, tools: ServiceTools) -> None:
        self._netlink = tools.netlink
        self._netns = tools.netns
        self._keeper = Keeper(tools.state_dir / "security")
        self._tables = Tables(tools.netlink, tools.netns)
        self._lock = asyncio.Lock()
        self._mechanism: Mechanism | None = None
        self._world: World | None = None
        self._bridges = Bridges({}, {})
        self._all_judged = False

    async def unavailable(self) -> ViaductError | None:
        try:
            async with self._lock:
                await self._known()
        except ViaductError as exc:
            return exc
        return None

    async def apply(self, want: ServiceOnHost) -> tuple[str, ...]:
        instance = Instance(want.kind, want.generation, parse_spec(want.kind, want.spec))
        async with self._lock:
            return await self._change(want.uuid, instance, want)

    async def remove(self, uuid: UUID) -> tuple[str, ...]:
        async with self._lock:
            return await self._change(uuid, None, None)

    async def check(self, want: ServiceOnHost) -> CheckedService:
        instance = Instance(want.kind, want.generation, parse_spec(want.kind, want.spec))
        async with self._lock:
            world, mechanism = await self._known()
            have = await self._tables.look()
            after = with_instance(world, want.uuid, instance)
            bridges = await self._bridges_of(after, instance, have)
        without = compile_world(with_instance(world, want.uuid, None), mechanism, bridges)
        wanted = overlaid(compile_world(after, mechanism, bridges), without, have)
        marks = have.sets.get(Key(BRIDGE, marks_set(want.kind)))
        steps = tuple(f"nft {line}" for line in plan(wanted, have))
        found = tuple(differences(wanted, have))
        return CheckedService(marks is not None and mark_key(want.uuid) in marks.elements, found, steps)

    async def found(self, kind: str) -> Mapping[UUID, int]:
        """A mark counts as generation 0 while the spec that belongs to it is not kept: it has to be told again."""
        async with self._lock:
            world, _ = await self._known()
            marks = marked(kind, await self._tables.look())
        kept = {uuid: instance.generation for uuid, instance in world.instances.items()}
        return {uuid: generation if kept.get(uuid) == generation else 0 for uuid, generation in marks.items()}

    async def changes(self) -> AsyncIterator[UUID]:
        """Instances whose rules another hand may have changed: all of them, for no rule is one instance's alone."""
        async for _ in transactions(self._netlink):
            for uuid in await self._if_changed_by_others():
                yield uuid

    async def _if_changed_by_others(self) -> tuple[UUID, ...]:
        async with self._lock:
            if self._world is None:
                return ()
            before, instances = self._tables.seen, tuple(self._world.instances)
            try:
                after = await self._tables.look()
            except BackendFailed:  # whoever looks at one of them says so
                return instances
        return instances if after != before else ()

    async def _change(self, uuid: UUID, instance: Instance | None, want: ServiceOnHost | None) -> tuple[str, ...]:
        before, mechanism = await self._known()
        after = with_instance(before, uuid, instance)
        have = await self._tables.look()
        bridges = await self._bridges_of(after, instance, have)
        # Kept first: should the agent die now, the mark in the kernel is the old one, and the command comes again.
        kept = self._keeper.drop(uuid) if want is None else self._keeper.put(want)
        try:
            lines = await self._tables.change(self._wanted(uuid, after, mechanism, bridges, have))
        except BackendFailed:
            self._keeper.restore(uuid, kept)
            raise
        self._world, self._bridges = after, bridges
        return (*(f"nft {line}" for line in lines), *await self._judge(touched(uuid, before, after)))

    def _wanted(self, uuid: UUID, after: World, mechanism: Mechanism, bridges: Bridges, have: Ruleset) -> Ruleset:
        """All of it; but where the files of specs were lost, what is not told yet goes on as it is."""
        want = compile_world(after, mechanism, bridges)
        if all_marks(have) <= {mark_key(uuid), *map(mark_key, after.instances)}:
            return want
        without = compile_world(with_instance(after, uuid, None), mechanism, bridges)
        return sparing(want, without, have, None if uuid in after.instances else uuid)

    async def _judge(self, addresses: Iterable[Address]) -> tuple[str, ...]:
        """Mark the connections that are admitted no more, and those that are again."""
        chosen = frozenset(addresses) if self._all_judged else None
        if chosen is not None and not chosen:
            return ()
        world, _ = await self._known()
        bridge_of = {zone: name for name, zone in self._bridges.zones.items()}
        self._all_judged = False
        try:
            changes = verdicts(await self._netlink.run(conntrack.connections, chosen), world, bridge_of)
            if changes:
                await self._netlink.run(conntrack.mark, changes)
        except OSError as exc:
            raise BackendFailed(f"the connections cannot be read or marked: {exc}", errno=exc.errno) from exc
        self._all_judged = True
        return tuple(conntrack.words(connection, revoked=revoked) for connection, revoked in changes)

    async def _known(self) -> tuple[World, Mechanism]:
        if self._mechanism is None:
            self._mechanism = await probe(self._netns)
        if self._world is None:
            world = self._keeper.load()
            names = tuple(sorted(world.bridges))
            macs = _macs(await self._netlink.converse(_links, names))
            self._bridges = Bridges(zones.assign(names, known_zones(await self._tables.look())), macs)
            self._world = world
        return self._world, self._mechanism

    async def _bridges_of(self, world: World, instance: Instance | None, have: Ruleset) -> Bridges:
        """With the MAC of a NIC's bridge as it is now."""
        known = {**known_zones(have), **self._bridges.zones}
        macs = {name: mac for name, mac in self._bridges.macs.items() if name in world.bridges}
        if instance is not None and isinstance(instance.body, Nic):
            macs.pop(instance.body.bridge, None)
            found = await self._netlink.converse(_links, (instance.body.bridge,))
            _refuse_others(found)
            macs |= _macs(found)
        return Bridges(zones.assign(world.bridges, known), macs)


def _links(dialogue: Dialogue, names: tuple[str, ...]) -> list[Link]:
    """Those that are there."""
    answers = dialogue.ask([requests.get(name, 0) for name in names])
    return [parse.parse_link(bodies[0]).link for bodies in answers if bodies]


def _macs(links: Iterable[Link]) -> dict[str, str]:
    return {link.name: link.mac for link in links if link.mac}


def _refuse_others(links: Iterable[Link]) -> None:
    """What a switch of another kind carries never comes by nftables: a rule for it would be a promise not kept."""
    for link in links:
        if link.kind != BRIDGE_KIND:
            raise PreconditionFailed(
                f"{link.name} is no bridge of the kernel's: security groups cannot see what it carries",
                device=link.name,
            )
