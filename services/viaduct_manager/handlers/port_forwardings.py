"""`portForwarding.*`: ports of a VIP that are ports of a NIC.

Locked are, in this order for all: the L3 network, the NIC, the rule, the VIP.
"""

from uuid import UUID

from viaduct_common.bus import RequestContext
from viaduct_common.errors import Conflict, InvalidRequest
from viaduct_common.messages.base import Page
from viaduct_common.messages.services.port_forwarding import (
    AttachPortForwarding,
    CreatePortForwarding,
    DeletePortForwarding,
    DetachPortForwarding,
    GetPortForwarding,
    PortForwardingInventory,
    QueryPortForwardings,
    UpdatePortForwarding,
)
from viaduct_common.postgres.pool import Connection
from viaduct_manager import announce
from viaduct_manager.handlers.new import fresh_uuid
from viaduct_manager.model.public_addresses import (
    PORT_FORWARDING,
    Address,
    Network,
    PublicVip,
    TargetNic,
    forwarded_ports,
    require_cidr_of,
    require_forwarding_fits,
    require_unused,
    target_address,
)
from viaduct_manager.network_services.api import Change
from viaduct_manager.network_services.registry import NetworkServices
from viaduct_manager.store import port_forwardings, target_nics, vips


class PortForwardingHandlers:
    def __init__(self, services: NetworkServices) -> None:
        self._services = services

    async def create(
        self, request: CreatePortForwarding, connection: Connection, context: RequestContext
    ) -> PortForwardingInventory:
        ports = forwarded_ports(
            request.vip_port_start, request.vip_port_end, request.private_port_start, request.private_port_end
        )
        if request.nic_uuid is None and request.private_ip is not None:
            raise InvalidRequest.of_field("privateIp", "is wanted with nicUuid only")
        nic = None if request.nic_uuid is None else await target_nics.get_locked(connection, request.nic_uuid)
        vip = await vips.lock_public(connection, request.vip_uuid)
        require_unused(vip, PORT_FORWARDING, shared=True)
        require_cidr_of(vip, request.allowed_cidr)
        private_ip = None if nic is None else _private_ip(vip, nic, request.private_ip, request.allowed_cidr)
        uuid = fresh_uuid(request.uuid, context, "port forwarding")
        await vips.use(connection, vip.uuid, PORT_FORWARDING)
        rule = await port_forwardings.create(
            connection, uuid, request, ports=ports, vip=vip, nic=nic, private_ip=private_ip
        )
        await self._changed(connection, rule)
        await announce.event(connection, "portForwarding.created", rule)
        return rule

    async def get(
        self, request: GetPortForwarding, connection: Connection, context: RequestContext
    ) -> PortForwardingInventory:
        return await port_forwardings.get(connection, request.uuid)

    async def query(
        self, request: QueryPortForwardings, connection: Connection, context: RequestContext
    ) -> Page[PortForwardingInventory]:
        return await port_forwardings.query(connection, request)

    async def update(
        self, request: UpdatePortForwarding, connection: Connection, context: RequestContext
    ) -> PortForwardingInventory:
        rule = await port_forwardings.update(connection, request)
        if request.enabled is not None:
            await self._changed(connection, rule)
        await announce.event(connection, "portForwarding.updated", rule)
        return rule

    async def attach(
        self, request: AttachPortForwarding, connection: Connection, context: RequestContext
    ) -> PortForwardingInventory:
        nic = await target_nics.get_locked(connection, request.nic_uuid)
        rule = await port_forwardings.get_locked(connection, request.uuid)
        if rule.nic_uuid == nic.uuid and request.private_ip in {None, rule.private_ip}:
            return rule
        if rule.nic_uuid is not None:
            raise Conflict(
                f"the ports are forwarded to NIC {rule.nic_uuid}: detach them first",
                field="uuid",
                nicUuid=str(rule.nic_uuid),
                privateIp=str(rule.private_ip),
            )
        vip = await vips.lock_public(connection, rule.vip_uuid)
        private_ip = _private_ip(vip, nic, request.private_ip, rule.allowed_cidr)
        rule = await port_forwardings.lead(connection, rule.uuid, vip, nic, private_ip)
        await self._changed(connection, rule)
        await announce.event(connection, "portForwarding.updated", rule)
        return rule

    async def detach(
        self, request: DetachPortForwarding, connection: Connection, context: RequestContext
    ) -> PortForwardingInventory:
        rule = await port_forwardings.get_locked(connection, request.uuid)
        if rule.nic_uuid is None:
            return rule
        await self._changed(connection, rule)
        rule = await port_forwardings.leave(connection, rule.uuid)
        await announce.event(connection, "portForwarding.updated", rule)
        return rule

    async def delete(
        self, request: DeletePortForwarding, connection: Connection, context: RequestContext
    ) -> PortForwardingInventory | None:
        rule = await port_forwardings.find_locked(connection, request.uuid)
        if rule is None:
            return None
        await self._changed(connection, rule)
        await port_forwardings.delete(connection, rule.uuid)
        await vips.leave(connection, rule.vip_uuid)
        await announce.event(connection, "portForwarding.deleted", rule)
        return rule

    async def _changed(self, connection: Connection, rule: PortForwardingInventory) -> None:
        """To be called while it leads to the NIC that is concerned."""
        nics: frozenset[UUID] = frozenset() if rule.nic_uuid is None else frozenset({rule.nic_uuid})
        await self._services.changed(connection, Change(nic_uuids=nics, subjects=frozenset({rule.uuid, rule.vip_uuid})))


def _private_ip(vip: PublicVip, nic: TargetNic, asked: Address | None, allowed_cidr: Network | None) -> Address:
    """Raises:
    ViaductError: the ports cannot be forwarded to the NIC.
    """
    address = target_address(vip, nic, PORT_FORWARDING, asked)
    require_forwarding_fits(nic, allowed_cidr)
    return address
