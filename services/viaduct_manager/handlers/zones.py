"""`zone.*`."""

from viaduct_common.bus import RequestContext
from viaduct_common.messages.base import Page
from viaduct_common.messages.zone import CreateZone, DeleteZone, GetZone, QueryZones, UpdateZone, ZoneInventory
from viaduct_common.postgres.pool import Connection
from viaduct_manager import announce
from viaduct_manager.handlers.new import fresh_uuid
from viaduct_manager.store import zones


async def create(request: CreateZone, connection: Connection, context: RequestContext) -> ZoneInventory:
    zone = await zones.create(connection, fresh_uuid(request.uuid, context, "zone"), request)
    await announce.event(connection, "zone.created", zone)
    return zone


async def get(request: GetZone, connection: Connection, context: RequestContext) -> ZoneInventory:
    return await zones.get(connection, request.uuid)


async def query(request: QueryZones, connection: Connection, context: RequestContext) -> Page[ZoneInventory]:
    return await zones.query(connection, request)


async def update(request: UpdateZone, connection: Connection, context: RequestContext) -> ZoneInventory:
    zone = await zones.update(connection, request)
    await announce.event(connection, "zone.updated", zone)
    return zone


async def delete(request: DeleteZone, connection: Connection, context: RequestContext) -> ZoneInventory | None:
    zone = await zones.delete(connection, request.uuid)
    if zone is not None:
        await announce.event(connection, "zone.deleted", zone)
    return zone
