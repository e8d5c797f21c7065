"""`vip.*`: addresses of public L3 networks for services."""

from viaduct_common.bus import RequestContext
from viaduct_common.errors import AlreadyExists, InUse, InvalidRequest
from viaduct_common.messages.base import Page
from viaduct_common.messages.services.vips import CreateVip, DeleteVip, GetVip, QueryVips, UpdateVip, VipInventory
from viaduct_common.postgres.pool import Connection
from viaduct_manager import announce
from viaduct_manager.handlers.new import fresh_uuid
from viaduct_manager.network_services.api import Change
from viaduct_manager.network_services.registry import NetworkServices
from viaduct_manager.store import public_networks, vips
from viaduct_manager.vip_ipam import VipIpam


class VipHandlers:
    def __init__(self, ipam: VipIpam, services: NetworkServices) -> None:
        self._ipam = ipam
        self._services = services

    async def create(self, request: CreateVip, connection: Connection, context: RequestContext) -> VipInventory:
        version = request.ip_version
        if request.ip is not None and version not in {None, request.ip.version}:
            raise InvalidRequest.of_field("ipVersion", f"{request.ip} is none of IPv{version}")
        await public_networks.require_public(connection, request.l3_network_uuid, field="l3NetworkUuid")
        uuid = fresh_uuid(request.uuid, context, "vip")
        # IPAM comes last: what it gave for a request that is refused would be nobody's.
        if await vips.exists(connection, uuid):
            raise AlreadyExists(f"{vips.KIND} {uuid} exists already", kind=vips.KIND, uuid=str(uuid))
        given = await self._ipam.allocate(
            uuid,
            request.l3_network_uuid,
            ip=request.ip,
            version=version,
            asked_by=f"{context.sender} {context.message_id}",
        )
        vip = await vips.create(connection, uuid, given, name=request.name, description=request.description)
        await announce.event(connection, "vip.created", vip)
        return vip

    async def get(self, request: GetVip, connection: Connection, context: RequestContext) -> VipInventory:
        return await vips.get(connection, request.uuid)

    async def query(self, request: QueryVips, connection: Connection, context: RequestContext) -> Page[VipInventory]:
        return await vips.query(connection, request)

    async def update(self, request: UpdateVip, connection: Connection, context: RequestContext) -> VipInventory:
        vip = await vips.update(connection, request)
        if request.enabled is not None:
            await self._services.changed(connection, Change(subjects=frozenset({vip.uuid})))
        await announce.event(connection, "vip.updated", vip)
        return vip

    async def delete(self, request: DeleteVip, connection: Connection, context: RequestContext) -> VipInventory | None:
        found = await vips.find_locked(connection, request.uuid)
        if found is None:
            return None
        if found.used_for is not None:
            raise InUse(
                f"VIP {found.ip} is used for {found.used_for}",
                kind=vips.KIND,
                uuid=str(found.uuid),
                usedFor=found.used_for,
                usedBy=[str(uuid) for uuid in await vips.users(connection, found.uuid)],
            )
        await vips.delete(connection, found.uuid)
        await announce.event(connection, "vip.deleted", found)
        return found
