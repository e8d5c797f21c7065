"""`serviceProvider.query`, `l3.attachServices`, `l3.detachServices`, `l3.configureService`: who serves what."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from viaduct_common.bus import RequestContext
from viaduct_common.errors import InvalidRequest, NotFound
from viaduct_common.messages.base import Page
from viaduct_common.messages.l3 import L3NetworkInventory
from viaduct_common.messages.services.providers import (
    AttachServices,
    ConfigureService,
    DetachServices,
    QueryServiceProviders,
    ServiceProviderInventory,
)
from viaduct_common.postgres.pool import Connection
from viaduct_manager import announce
from viaduct_manager.model.attaching import Offer, check_offers, check_rivals, field_below, wanted_types
from viaduct_manager.network_services.api import Change, ServiceProvider
from viaduct_manager.network_services.registry import NetworkServices
from viaduct_manager.store import l3_networks, l3_services

Configs = Mapping[str, Mapping[str, Any]]


class ServiceHandlers:
    """The L3 network is locked meanwhile: neither its services nor what its NICs rely on changes under us."""

    def __init__(self, services: NetworkServices) -> None:
        self._services = services

    async def query(
        self, request: QueryServiceProviders, connection: Connection, context: RequestContext
    ) -> Page[ServiceProviderInventory]:
        return await l3_services.query(connection, request)

    async def attach(
        self, request: AttachServices, connection: Connection, context: RequestContext
    ) -> L3NetworkInventory:
        l3 = await l3_networks.lock(connection, request.l3_network_uuid)
        wanted = wanted_types(request.services)
        for service_type in request.config:
            if service_type not in wanted:
                raise InvalidRequest.of_field(f"config.{service_type}", "this type is not among those to be attached")
        providers = {uuid: await self._provider(connection, uuid) for uuid in request.services}
        associated = await l3_services.associated(connection, l3.l2_network_uuid)
        offers = {uuid: Offer(one.name, one.service_types, uuid in associated) for uuid, one in providers.items()}
        check_offers(wanted, offers)
        there = await l3_services.attached(connection, l3.uuid)
        check_rivals(wanted, {name: (one.provider_uuid, one.provider) for name, one in there.items()})
        news: dict[UUID, dict[str, Mapping[str, Any]]] = defaultdict(dict)
        for service_type, uuid in wanted.items():
            if service_type not in there or service_type in request.config:
                news[uuid][service_type] = request.config.get(service_type, {})
        changed = False
        for uuid, configs in news.items():
            try:
                changed |= await self._serve(connection, l3, uuid, configs, there)
            except InvalidRequest as error:
                raise field_below("config", error) from error
        return await self._changed(connection, l3) if changed else l3

    async def configure(
        self, request: ConfigureService, connection: Connection, context: RequestContext
    ) -> L3NetworkInventory:
        l3 = await l3_networks.lock(connection, request.l3_network_uuid)
        there = await l3_services.attached(connection, l3.uuid)
        served = there.get(request.service_type)
        if served is None:
            raise NotFound(
                f"{request.service_type} is not attached to L3 network {l3.name}",
                kind="attached service",
                field="serviceType",
                l3NetworkUuid=str(l3.uuid),
            )
        configs = {request.service_type: request.config}
        try:
            changed = await self._serve(connection, l3, served.provider_uuid, configs, there)
        except InvalidRequest as error:
            raise field_below("config", error, strip=request.service_type) from error
        return await self._changed(connection, l3) if changed else l3

    async def detach(
        self, request: DetachServices, connection: Connection, context: RequestContext
    ) -> L3NetworkInventory:
        l3 = await l3_networks.lock(connection, request.l3_network_uuid)
        there = await l3_services.attached(connection, l3.uuid)
        going: dict[UUID, list[str]] = {}
        for uuid, types in request.services.items():
            await l3_services.name_of(connection, uuid)
            mine = sorted({name for name in types if name in there and there[name].provider_uuid == uuid})
            if mine:
                going[uuid] = mine
        for uuid, types in going.items():
            provider = self._services.find(uuid)
            if provider is not None:  # else its plugin is gone, and nobody objects
                await provider.detaching(l3, types, connection)
        if not going:
            return l3
        # Before the rows go: what is to be removed may be found by them alone. And after, for what is to change.
        await self._services.changed(connection, Change(l3_uuids=frozenset({l3.uuid})))
        for uuid, types in going.items():
            await l3_services.detach(connection, l3.uuid, uuid, types)
        return await self._changed(connection, l3)

    # ---- parts ---------------------------------------------------------------------------------------------------

    async def _provider(self, connection: Connection, uuid: UUID) -> ServiceProvider:
        """Raises:
        NotFound: there is no such provider, or its plugin is not installed here.
        """
        provider = self._services.find(uuid)
        if provider is None:
            name = await l3_services.name_of(connection, uuid)
            raise NotFound(f"the plugin of provider {name} is not installed", kind=l3_services.KIND, uuid=str(uuid))
        return provider

    async def _serve(
        self,
        connection: Connection,
        l3: L3NetworkInventory,
        uuid: UUID,
        configs: Configs,
        there: Mapping[str, l3_services.Attached],
    ) -> bool:
        """Let the provider serve these types by these configs; true if that is something else than before."""
        provider = await self._provider(connection, uuid)
        kept = await provider.attaching(l3, configs, connection)
        news = {
            name: config for name, config in kept.items() if name not in there or dict(there[name].config) != config
        }
        if news:
            await l3_services.attach(connection, l3.uuid, uuid, news)
        return bool(news)

    async def _changed(self, connection: Connection, l3: L3NetworkInventory) -> L3NetworkInventory:
        await self._services.changed(connection, Change(l3_uuids=frozenset({l3.uuid})))
        network = await l3_networks.touch(connection, l3.uuid)
        await announce.event(connection, "l3.updated", network)
        return network
