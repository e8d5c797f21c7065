"""What a sync takes away: instances that are found or held, and that nobody listed."""

import asyncio
from collections.abc import Collection
from uuid import UUID

import structlog

from viaduct_agent.lanes import Lanes
from viaduct_agent.services.holdings import ServiceHoldings
from viaduct_agent.services.registry import ServiceRegistry
from viaduct_common.errors import ViaductError

log = structlog.get_logger()


async def remove_leftovers(
    listed: Collection[UUID], *, backends: ServiceRegistry, holdings: ServiceHoldings, lanes: Lanes
) -> list[UUID]:
    """Remove all that is not listed, each in its lane and unless a newer command has come for it; return what is gone.

    What cannot be removed is held, so that the digest tells of it.
    """
    before = holdings.fences()
    found = await backends.found()
    kinds = {uuid: want.kind for uuid, want in holdings.wanted().items()} | dict(found.kinds)

    def is_left(uuid: UUID) -> bool:
        return uuid not in listed and holdings.fence(uuid) == before.get(uuid)

    async def remove(uuid: UUID) -> bool:
        async with lanes.enter(uuid):
            if not is_left(uuid):
                return False
            try:
                changes = await backends.of(kinds[uuid]).remove(uuid)
            except ViaductError as exc:
                log.warning("service_not_removed", service_uuid=str(uuid), code=exc.code, error=exc.message)
            except Exception:  # of a plugin: the others are to go all the same
                log.exception("service_not_removed", service_uuid=str(uuid))
            else:
                holdings.released(uuid)
                log.info("service_leftover_removed", service_uuid=str(uuid), changes=list(changes))
                return True
            if holdings.get(uuid) is None:
                holdings.adopt({uuid: found.generations.get(uuid, 0)})
            return False

    left = sorted(uuid for uuid in kinds if is_left(uuid))
    async with asyncio.TaskGroup() as tasks:
        removals = {uuid: tasks.create_task(remove(uuid)) for uuid in left}
    if found.complete:
        for uuid in holdings.generations().keys() - kinds.keys():  # known by marks that are gone by now
            if is_left(uuid) and not lanes.busy(uuid):
                holdings.released(uuid)
    return [uuid for uuid in left if removals[uuid].result()]
