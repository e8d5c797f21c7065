"""What this host has and should not have: leftovers with our mark, and wanted names that strangers have.

A sync releases the leftovers it finds; `host.orphans` lists them, and releases them when it is asked to.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from uuid import UUID

import structlog

from viaduct_agent.backends.abilities import Leftovers
from viaduct_agent.backends.api import L2OnHost, Registry
from viaduct_agent.holdings import Holdings
from viaduct_agent.lanes import Lanes
from viaduct_agent.links.host import HostLinks
from viaduct_agent.links.marks import SHARED
from viaduct_agent.links.model import Link
from viaduct_agent.links.table import LinkTable
from viaduct_common.errors import Conflict, ViaductError
from viaduct_common.messages.agent import Orphan

log = structlog.get_logger()
Release = Callable[[], Awaitable[tuple[str, ...]]]


@dataclass(frozen=True, slots=True)
class _Kept:
    """What a network has on this host by the word of a backend that keeps marks of its own."""

    uuid: UUID
    generation: int
    devices: tuple[str, ...]
    backend: Leftovers


class Orphanage:
    """Finds orphans, and releases leftovers in their lanes, unless a newer command has come for them."""

    def __init__(self, backends: Registry, links: HostLinks, holdings: Holdings, lanes: Lanes) -> None:
        self._backends = backends
        self._links = links
        self._holdings = holdings
        self._lanes = lanes

    async def find(self, listed: Collection[UUID]) -> list[Orphan]:
        """Both kinds; `listed` are the networks that are to be here. Changes nothing.

        Raises:
            ViaductError: the kernel cannot be read.
        """
        before = self._holdings.fences()
        links = await self._links.observe()
        left = [self._unlisted(uuid, devices) for uuid, devices in self._leftovers(links, listed, before).items()]
        kept = [self._kept_elsewhere(one) for one in await self._kept(listed, before)]
        return left + kept + await self._taken(links)

    async def sweep(self, listed: Collection[UUID], *, force: bool = False) -> list[Orphan]:
        """Release the leftovers; return all orphans, those that stay with the reason.

        Raises:
            ViaductError: the kernel cannot be read.
        """
        swept = await self.release_leftovers(listed, force=force)
        return swept + await self._taken(await self._links.observe())

    async def release_leftovers(self, listed: Collection[UUID], *, force: bool = False) -> list[Orphan]:
        """Release the leftovers; return them, those that stay with the reason.

        Raises:
            ViaductError: the kernel cannot be read; nothing was changed.
        """
        before = self._holdings.fences()
        links = await self._links.observe()
        done = []
        for uuid, devices in self._leftovers(links, listed, before).items():
            orphan = self._unlisted(uuid, devices)
            done.append(await self._release(orphan, before.get(uuid), partial(self._links.release, uuid, force=force)))
        for kept in await self._kept(listed, before):
            release = partial(kept.backend.release_leftover, kept.uuid, force=force)
            done.append(await self._release(self._kept_elsewhere(kept), before.get(kept.uuid), release))
        try:
            await self._links.release_unused()
        except ViaductError as exc:  # it is in nobody's way
            log.warning("unused_not_released", code=exc.code, error=exc.message)
        return [orphan for orphan in done if orphan is not None]

    async def _kept(self, listed: Collection[UUID], before: Mapping[UUID, int]) -> list["_Kept"]:
        """The same of what is marked elsewhere than in links' aliases."""
        found = []
        for backend in self._backends.all():
            if not isinstance(backend, Leftovers):
                continue
            for uuid, generation in sorted((await backend.marked()).items()):
                if uuid not in listed and self._holdings.fence(uuid) == before.get(uuid):
                    found.append(_Kept(uuid, generation, await backend.leftover_devices(uuid), backend))
        return found

    def _leftovers(
        self, links: LinkTable, listed: Collection[UUID], before: Mapping[UUID, int]
    ) -> dict[UUID, list[Link]]:
        """Devices by owner, of owners that are not listed and of whom no command has come since `before`: the newest
        generation known of each network when the listing came."""
        unlisted = sorted(links.owners().keys() - {SHARED} - set(listed))
        return {uuid: links.owned_by(uuid) for uuid in unlisted if self._holdings.fence(uuid) == before.get(uuid)}

    async def _release(self, orphan: Orphan, fence: int | None, release: Release) -> Orphan | None:
        """Take one away, in its lane; None if it is no orphan any more, for a newer command has come for it."""
        uuid = orphan.l2_network_uuid
        async with self._lanes.enter(uuid):
            if self._holdings.fence(uuid) != fence:
                return None
            try:
                changes = await release()
            except ViaductError as exc:  # in use by VMs, as a rule
                log.warning("leftover_not_released", l2_uuid=str(uuid), code=exc.code, error=exc.message)
                return orphan.model_copy(update={"error": exc.to_body()})
            self._holdings.released(uuid)
            log.info("leftover_released", l2_uuid=str(uuid), changes=list(changes))
            return orphan.model_copy(update={"swept": True})

    def _unlisted(self, uuid: UUID, devices: list[Link]) -> Orphan:
        generations = sorted({link.generation for link in devices if link.generation is not None})
        return Orphan(
            l2_network_uuid=uuid,
            reason="unlisted",
            devices=sorted(link.name for link in devices),
            detail=f"of generation {', '.join(map(str, generations))}",
        )

    def _kept_elsewhere(self, kept: "_Kept") -> Orphan:
        return Orphan(
            l2_network_uuid=kept.uuid,
            reason="unlisted",
            devices=sorted(kept.devices),
            detail=f"of generation {kept.generation}",
        )

    async def _taken(self, links: LinkTable) -> list[Orphan]:
        found = []
        for uuid, want in self._holdings.wanted().items():
            try:
                orphan = await self._taken_from(uuid, want, links)
            except ViaductError as exc:  # of a type without a backend here, or with wrong fields
                log.warning("orphans_not_told", l2_uuid=str(uuid), code=exc.code, error=exc.message)
                continue
            if orphan is not None:
                found.append(orphan)
        return found

    async def _taken_from(self, uuid: UUID, want: L2OnHost, links: LinkTable) -> Orphan | None:
        """The dump tells who may have lost a name; that it did is the backend's word, for devices may be shared."""
        backend = self._backends.of(want)
        names = backend.device_names(want) - {want.interface}
        if all(links[name].owner in {uuid, SHARED} for name in names & links.keys()):
            return None
        refusal = (await backend.check(want)).refusal
        device = None if refusal is None else refusal.details.get("device")
        if not isinstance(refusal, Conflict) or device is None:
            return None
        return Orphan(l2_network_uuid=uuid, reason="taken", devices=[str(device)], detail=refusal.message)
