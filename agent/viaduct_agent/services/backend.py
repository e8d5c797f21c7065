"""A service that is a network namespace: how any of them is made, compared and taken away."""

import asyncio
import contextlib
import shutil
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, TypeVar
from uuid import UUID

import structlog
from pydantic import ValidationError

from viaduct_agent.services import conntrack, nft, records, translation
from viaduct_agent.services.announce import announce
from viaduct_agent.services.api import CheckedService, ServiceOnHost
from viaduct_agent.services.files import make_directory
from viaduct_agent.services.layout import Layout
from viaduct_agent.services.programs import may_make_namespaces
from viaduct_agent.services.space import INSIDE
from viaduct_agent.services.spacelook import do, look, namespace_exists, namespaces, remove_space
from viaduct_agent.services.spaceplan import Step, plan_namespace, plan_space, require_bridges
from viaduct_agent.services.supervise import Supervisor
from viaduct_agent.services.tools import ServiceTools
from viaduct_common.errors import BackendFailed, InvalidRequest, PreconditionFailed, ViaductError
from viaduct_common.messages.base import WireModel
from viaduct_common.messages.l2 import Difference

log = structlog.get_logger()
S = TypeVar("S", bound=WireModel)
_TOOLS = ("ip", "nsenter", "sysctl", "nft", "conntrack")
_AT_ONCE = 8  # each runs several programs
_ROUNDS = 3  # the kernel takes routes away with the address that they needed: the next look finds them missing


class SpaceBackend(ABC):
    """`ServiceBackend`; a kind says with `layout` what it is made of."""

    kind: ClassVar[str]
    prefix: ClassVar[str]  # of its namespaces' names
    program: ClassVar[str]  # that serves in them, and the name of its directory

    def __init__(self, tools: ServiceTools) -> None:
        self._tools = tools
        self._directory = tools.state_dir / self.kind
        self._changed: asyncio.Queue[UUID] = asyncio.Queue()
        self._supervisor = Supervisor(on_end=lambda directory: self._changed.put_nowait(UUID(directory.parent.name)))
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._announcing: set[asyncio.Task[None]] = set()

    @abstractmethod
    def layout(self, want: ServiceOnHost) -> Layout:
        """Pure; raises InvalidRequest for a spec that is not one of this kind."""

    def host_table(self, uuid: UUID) -> str | None:
        """The name of the instance's table of the bridge family in the host's own namespace, if the kind has one."""
        return None

    async def unavailable(self) -> ViaductError | None:
        missing = [program for program in (*_TOOLS, self.program) if shutil.which(program) is None]
        if missing:
            return PreconditionFailed(f"this host has no {', '.join(missing)}", programs=missing)
        if not await asyncio.to_thread(may_make_namespaces):
            return PreconditionFailed("the agent may make no network namespaces: it lacks CAP_SYS_ADMIN")
        if refused := await nft.refusal(translation.table(translation.Rules(inside=())), self._tools.netns):
            return PreconditionFailed(f"this kernel cannot translate addresses by nftables: {refused}")
        return None

    async def apply(self, want: ServiceOnHost) -> tuple[str, ...]:
        async with self._slots:
            return await self._apply(want)

    async def check(self, want: ServiceOnHost) -> CheckedService:
        async with self._slots:
            return await self._check(want)

    async def remove(self, uuid: UUID) -> tuple[str, ...]:
        async with self._slots:
            return await self._remove(uuid)

    async def changes(self) -> AsyncIterator[UUID]:
        """Instances whose programs ended by themselves."""
        while True:
            yield await self._changed.get()

    async def _apply(self, want: ServiceOnHost) -> tuple[str, ...]:
        layout, directory = self.layout(want), self._directory / str(want.uuid)
        name = layout.space.name
        have = await look(layout.space, self._tools)
        require_bridges(layout.space, have)
        before = records.load(directory)
        make_directory(directory)
        done, anew = [], False
        steps = plan_namespace(layout.space, have)
        await do(steps, name, self._tools)
        done += _commands(steps, name)
        done += await self._apply_tables(layout, directory, before)
        for _ in range(_ROUNDS):
            steps = plan_space(layout.space, await look(layout.space, self._tools))
            if not steps:
                break
            await do(steps, name, self._tools)
            done += _commands(steps, name)
            anew = anew or any(f"peer name {INSIDE} " in step.words for step in steps)
            self._announce(layout, steps)
        else:
            left = plan_space(layout.space, await look(layout.space, self._tools))
            if left:
                text = "; ".join(_commands(left, name))
                raise BackendFailed(f"it is not as it should be after all was done: {text}", step=text)
        changed = layout.translations ^ self._translations(want, before)
        done += await conntrack.forget(changed, name)
        done += await self._apply_programs(layout, directory, anew=anew)
        record = replace(records.load(directory), generation=want.generation, spec=dict(want.spec))
        records.save(directory, record)
        return tuple(done)

    async def _check(self, want: ServiceOnHost) -> CheckedService:
        layout, directory = self.layout(want), self._directory / str(want.uuid)
        name = layout.space.name
        if not namespace_exists(name):
            return CheckedService(present=False)
        have = await look(layout.space, self._tools)
        steps = [*plan_namespace(layout.space, have), *plan_space(layout.space, have)]
        differences = [step.difference for step in steps]
        commands = _commands(steps, name)
        before = records.load(directory)
        for table, netns in layout.tables:
            listed = await nft.listed(table.family, table.name, netns or self._tools.netns)
            known = before.tables.get(_key(table))
            if listed is None or known != (table.digest, listed):
                wanted = None if known is None else known[1]
                differences.append(
                    Difference(
                        device=f"{netns or 'host'} {_key(table)}", attribute="rules", desired=wanted, actual=listed
                    )
                )
                commands.append(f"nft -f - # table {_key(table)}")
        programs = self._program_differences(layout, directory)
        differences += programs
        commands += [f"{one.device}: {one.attribute}" for one in programs]
        return CheckedService(present=True, differences=tuple(differences), steps=tuple(commands))

    async def _remove(self, uuid: UUID) -> tuple[str, ...]:
        directory, done = self._directory / str(uuid), []
        if await self._supervisor.stop(directory / self.program):
            done.append(f"kill $(cat {self.program}.pid)")
        done += await remove_space(uuid, f"{self.prefix}{uuid}", self._tools, openvswitch=self._ports(uuid))
        table = self.host_table(uuid)
        if table is not None and await nft.remove_table("bridge", table, self._tools.netns):
            done.append(f"nft delete table bridge {table}")
        if directory.exists():
            await asyncio.to_thread(shutil.rmtree, directory)
            done.append(f"rm -r {directory}")
            with contextlib.suppress(OSError):  # others are in it
                self._directory.rmdir()
        return tuple(done)

    async def found(self) -> Mapping[UUID, int]:
        """By namespaces and directories; programs of those that are there are watched from now on. Of a directory
        without a namespace, as a boot of the host leaves it, nothing is there: generation 0."""
        present = set(namespaces(self.prefix))
        remembered = set()
        if self._directory.is_dir():
            for path in self._directory.iterdir():
                with contextlib.suppress(ValueError):
                    remembered.add(UUID(path.name))
        if self._tools.netns is not None:  # hosts on one machine share its names: ours are those that we remember
            present &= remembered
        for uuid in present:
            self._supervisor.adopt(self._directory / str(uuid) / self.program)
        found = {uuid: records.load(self._directory / str(uuid)).generation for uuid in present}
        return {**dict.fromkeys(remembered, 0), **found}

    async def aclose(self) -> None:
        for task in self._announcing:
            task.cancel()
        if self._announcing:
            await asyncio.wait(self._announcing)
        await self._supervisor.aclose()

    # ---- parts -------------------------------------------------------------------------------------------------

    async def _apply_tables(self, layout: Layout, directory: Path, before: records.Record) -> list[str]:
        """Before the legs: nothing passes that the rules would stop."""
        done, tables = [], dict(before.tables)
        for table, netns in layout.tables:
            where = netns or self._tools.netns
            listed = await nft.listed(table.family, table.name, where)
            if listed is None or tables.get(_key(table)) != (table.digest, listed):
                tables[_key(table)] = (table.digest, await nft.replace_table(table, where))
                done.append(f"nft -f - # table {_key(table)}")
        if done:
            records.save(directory, replace(before, tables=tables))
        return done

    async def _apply_programs(self, layout: Layout, directory: Path, *, anew: bool) -> list[str]:
        own = directory / self.program
        if layout.serving is not None:
            return await layout.serving.serve(own, layout.space.name, self._supervisor, anew=anew)
        if not own.exists():
            return []
        await self._supervisor.stop(own)
        await asyncio.to_thread(shutil.rmtree, own)
        return [f"kill $(cat {self.program}.pid)"]

    def _program_differences(self, layout: Layout, directory: Path) -> Sequence[Difference]:
        own = directory / self.program
        if layout.serving is not None:
            return layout.serving.differences(own, layout.space.name)
        if own.exists():
            return [Difference(device=self.program, attribute="running", desired=False, actual=True)]
        return []

    def _translations(self, want: ServiceOnHost, before: records.Record) -> frozenset[conntrack.Translation]:
        """Those of the spec that was applied before; none if there was none that can be read."""
        try:
            return self.layout(replace(want, spec=before.spec)).translations if before.spec else frozenset()
        except InvalidRequest:
            return frozenset()

    def _ports(self, uuid: UUID) -> list[str]:
        """Its devices in Open vSwitch."""
        record = records.load(self._directory / str(uuid))
        try:
            layout = self.layout(ServiceOnHost(uuid, self.kind, record.generation, record.spec))
        except InvalidRequest:  # nothing was ever applied to its end
            return []
        return [leg.outer for leg in layout.space.legs if leg.openvswitch]

    def _announce(self, layout: Layout, steps: Sequence[Step]) -> None:
        """In the background: the first is sent at once, the others are for those who missed it."""
        addresses = [step.announce for step in steps if step.announce is not None]
        macs = {leg.inner: leg.mac for leg in layout.space.legs}
        if addresses:
            task = asyncio.create_task(_announced(layout.space.name, macs, addresses))
            self._announcing.add(task)
            task.add_done_callback(self._announcing.discard)


def parsed(model: type[S], want: ServiceOnHost) -> S:
    """The spec as it came over the wire.

    Raises:
        InvalidRequest: it is not one of these.
    """
    try:
        return model.model_validate(dict(want.spec))
    except ValidationError as exc:
        first = exc.errors()[0]
        raise InvalidRequest.of_field(".".join(map(str, first["loc"])), first["msg"]) from exc


async def _announced(netns: str, macs: dict[str, str], addresses: list[tuple[str, str]]) -> None:
    try:
        await announce(netns, macs, addresses)
    except OSError as exc:  # the instance may have gone meanwhile
        log.warning("announcement_not_sent", netns=netns, error=str(exc))


def _commands(steps: Sequence[Step], netns: str) -> list[str]:
    return [step.command(netns) for step in steps]


def _key(table: nft.Table) -> str:
    return f"{table.family} {table.name}"
