"""`owner.*`: who holds addresses; IPAM asks, for it knows nothing of what they are held for."""

from collections.abc import Iterable
from uuid import UUID

from viaduct_common.bus import RequestContext
from viaduct_common.messages.owner import LookUpOwners
from viaduct_common.postgres.pool import Connection
from viaduct_manager.store import owners
from viaduct_manager.vip_ipam import OWNER_PREFIX


async def look_up(request: LookUpOwners, connection: Connection, context: RequestContext) -> list[str]:
    """The known ones as they were written, in the order in which they were named, each once.

    An owner that is neither a uuid nor a VIP's (`vip:<uuid>`) is somebody else's business, and unknown.
    """
    uuid_by_owner = _uuids(request.owners)
    known = await owners.known(connection, set(uuid_by_owner.values()))
    return [owner for owner, uuid in uuid_by_owner.items() if uuid in known]


def _uuids(names: Iterable[str]) -> dict[str, UUID]:
    """Only the usual form counts; `UUID` would take others, with braces or without hyphens."""
    found = {}
    for name in names:
        try:
            uuid = UUID(name.removeprefix(OWNER_PREFIX))
        except ValueError:
            continue
        if str(uuid) == name.removeprefix(OWNER_PREFIX).lower():
            found[name] = uuid
    return found
