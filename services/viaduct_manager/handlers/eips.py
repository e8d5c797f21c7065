"""`eip.*`: a VIP that is one NIC's, both ways.

Locked are, in this order for all: the L3 network, the NIC, the EIP, the VIP.
"""

from uuid import UUID

from viaduct_common.bus import RequestContext
from viaduct_common.errors import Conflict, InvalidRequest
from viaduct_common.messages.base import Page
from viaduct_common.messages.services.eips import (
    AttachEip,
    CreateEip,
    DeleteEip,
    DetachEip,
    EipInventory,
    GetEip,
    QueryEips,
    UpdateEip,
)
from viaduct_common.postgres.pool import Connection
from viaduct_manager import announce
from viaduct_manager.handlers.new import fresh_uuid
from viaduct_manager.model.public_addresses import (
    EIP,
    ON_NICS_HOSTS,
    Address,
    PublicVip,
    TargetNic,
    require_eip_fits,
    require_unused,
    target_address,
)
from viaduct_manager.network_services.api import Change
from viaduct_manager.network_services.registry import NetworkServices
from viaduct_manager.store import eips, target_nics, vips


class EipHandlers:
    def __init__(self, services: NetworkServices) -> None:
        self._services = services

    async def create(self, request: CreateEip, connection: Connection, context: RequestContext) -> EipInventory:
        if request.nic_uuid is None and request.private_ip is not None:
            raise InvalidRequest.of_field("privateIp", "is wanted with nicUuid only")
        nic = None if request.nic_uuid is None else await target_nics.get_locked(connection, request.nic_uuid)
        vip = await vips.lock_public(connection, request.vip_uuid)
        require_unused(vip, EIP, shared=False)
        private_ip = None if nic is None else _private_ip(vip, nic, request.private_ip)
        uuid = fresh_uuid(request.uuid, context, "eip")
        await vips.use(connection, vip.uuid, EIP)
        eip = await eips.create(connection, uuid, request, vip, private_ip)
        await self._changed(connection, eip)
        await announce.event(connection, "eip.created", eip)
        return eip

    async def get(self, request: GetEip, connection: Connection, context: RequestContext) -> EipInventory:
        return await eips.get(connection, request.uuid)

    async def query(self, request: QueryEips, connection: Connection, context: RequestContext) -> Page[EipInventory]:
        return await eips.query(connection, request)

    async def update(self, request: UpdateEip, connection: Connection, context: RequestContext) -> EipInventory:
        eip = await eips.update(connection, request)
        if request.enabled is not None:
            await self._changed(connection, eip)
        await announce.event(connection, "eip.updated", eip)
        return eip

    async def attach(self, request: AttachEip, connection: Connection, context: RequestContext) -> EipInventory:
        nic = await target_nics.get_locked(connection, request.nic_uuid)
        eip = await eips.get_locked(connection, request.uuid)
        if eip.nic_uuid == nic.uuid and request.private_ip in {None, eip.private_ip}:
            return eip
        if eip.nic_uuid is not None:
            raise Conflict(
                f"EIP {eip.vip_ip} is attached to NIC {eip.nic_uuid}: detach it first",
                field="uuid",
                nicUuid=str(eip.nic_uuid),
                privateIp=str(eip.private_ip),
            )
        vip = await vips.lock_public(connection, eip.vip_uuid)
        eip = await eips.lead(connection, eip.uuid, vip, nic.uuid, _private_ip(vip, nic, request.private_ip))
        await self._changed(connection, eip)
        await announce.event(connection, "eip.updated", eip)
        return eip

    async def detach(self, request: DetachEip, connection: Connection, context: RequestContext) -> EipInventory:
        eip = await eips.get_locked(connection, request.uuid)
        if eip.nic_uuid is None:
            return eip
        await self._changed(connection, eip)
        eip = await eips.leave(connection, eip.uuid)
        await announce.event(connection, "eip.updated", eip)
        return eip

    async def delete(self, request: DeleteEip, connection: Connection, context: RequestContext) -> EipInventory | None:
        eip = await eips.find_locked(connection, request.uuid)
        if eip is None:
            return None
        await self._changed(connection, eip)
        await eips.delete(connection, eip.uuid)
        await vips.leave(connection, eip.vip_uuid)
        await announce.event(connection, "eip.deleted", eip)
        return eip

    async def _changed(self, connection: Connection, eip: EipInventory) -> None:
        """To be called while it leads to the NIC that is concerned."""
        nics: frozenset[UUID] = frozenset() if eip.nic_uuid is None else frozenset({eip.nic_uuid})
        await self._services.changed(connection, Change(nic_uuids=nics, subjects=frozenset({eip.uuid, eip.vip_uuid})))


def _private_ip(vip: PublicVip, nic: TargetNic, asked: Address | None) -> Address:
    """Raises:
    ViaductError: the NIC cannot have the VIP.
    """
    address = target_address(vip, nic, EIP, asked)
    require_eip_fits(vip, nic, on_its_host=nic.providers[EIP] in ON_NICS_HOSTS)
    return address
