"""DHCP, DNS, SNAT, EIPs and forwarded ports by one router for each L3 network, on a gateway host."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from viaduct_common.errors import PreconditionFailed
from viaduct_common.messages.l2 import L2NetworkInventory
from viaduct_common.messages.l3 import L3NetworkInventory
from viaduct_common.messages.services.specs import VIRTUAL_ROUTER
from viaduct_common.postgres.pool import Connection
from viaduct_manager.model.public_addresses import EIP, PORT_FORWARDING, SNAT
from viaduct_manager.network_services.api import Change, Desired, ServiceKey, provider_uuid
from viaduct_manager.network_services.building import DHCP, DNS, Ports, gateways
from viaduct_manager.network_services.configs import NoConfig, parsed
from viaduct_manager.network_services.dependents import refuse_in_use
from viaduct_manager.network_services.registry import ProviderTools
from viaduct_manager.network_services.virtual_router.gateways import Candidate, place
from viaduct_manager.network_services.virtual_router.snat import SnatAddresses
from viaduct_manager.network_services.virtual_router.spec import Router, router_spec
from viaduct_manager.store import gateways as gateway_hosts
from viaduct_manager.store import service_facts, service_touches
from viaduct_manager.store.service_facts import Facts


class VirtualRouter:
    """Built in, and registered as any other provider."""

    name: str = "VirtualRouter"
    service_types: tuple[str, ...] = (DHCP, DNS, SNAT, EIP, PORT_FORWARDING)

    def __init__(self, tools: ProviderTools) -> None:
        self._uuid = provider_uuid(self.name)
        self._ports = Ports(tools.l2_types)
        self._snat = SnatAddresses(tools.vip_ipam)

    def associates(self, l2: L2NetworkInventory) -> bool:
        return self._ports.has_any(l2)

    async def attaching(
        self, l3: L3NetworkInventory, configs: Mapping[str, Mapping[str, Any]], connection: Connection
    ) -> Mapping[str, Mapping[str, Any]]:
        kept: dict[str, dict[str, Any]] = {}
        for service_type, config in configs.items():
            if service_type != SNAT:
                kept[service_type] = parsed(NoConfig, service_type, config).model_dump(mode="json")
        # IPAM comes last: what it gave for a request that is refused would be nobody's.
        if SNAT in configs:
            kept[SNAT] = await self._snat.ensure(connection, l3, configs[SNAT])
        return kept

    async def detaching(self, l3: L3NetworkInventory, types: Sequence[str], connection: Connection) -> None:
        await refuse_in_use(connection, l3, types)
        if SNAT in types:
            await self._snat.give_up(connection, l3)

    async def touched(self, change: Change, connection: Connection) -> Sequence[ServiceKey]:
        found = await service_touches.l3_networks(
            connection, change, provider_uuid=self._uuid, kind=VIRTUAL_ROUTER, by_host=True
        )
        return [ServiceKey(VIRTUAL_ROUTER, l3_uuid) for l3_uuid in found]

    async def desired(self, keys: Sequence[ServiceKey], connection: Connection) -> Mapping[ServiceKey, Desired]:
        facts = await service_facts.load(connection, [key.subject_uuid for key in keys], self._uuid)
        routers = {key: router for key in keys if (router := _router(key, facts)) is not None}
        current = await gateway_hosts.current(connection, [key.uuid for key in keys])
        hosts = await gateway_hosts.load(connection, set(current.values()), _l2_uuids(routers.values()))
        candidates = {one.uuid: one for one in hosts.candidates}
        found = {}
        for key, router in routers.items():
            found[key] = self._place(router, current.get(key.uuid), candidates, hosts.backends)
            for host_uuid in found[key].by_host.keys() - {current.get(key.uuid)}:
                candidates[host_uuid] = replace(candidates[host_uuid], routers=candidates[host_uuid].routers + 1)
        return found

    def _place(
        self,
        router: Router,
        current: UUID | None,
        candidates: Mapping[UUID, Candidate],
        backends: Mapping[UUID, Mapping[str, str]],
    ) -> Desired:
        network = router.network
        if not gateways(router.nics):
            return Desired(
                problem=PreconditionFailed(
                    f"the ranges of L3 network {network.name} have no gateway: a router has no address there",
                    l3NetworkUuid=str(network.uuid),
                )
            )
        placement = place(
            [one for one in candidates.values() if one.zone_uuid == network.zone_uuid],
            current,
            network.l2.uuid,
            {one.l2.uuid for one in router.outside.values()},
            f"the router of L3 network {network.name}",
        )
        if placement.host_uuid is None:
            return Desired(problem=placement.problem)
        there = backends[placement.host_uuid]
        spec = router_spec(router, lambda l2: self._ports.of(l2, there), placement.left_out)
        return Desired({placement.host_uuid: spec.model_dump(mode="json")}, placement.problem)


def _router(key: ServiceKey, facts: Facts) -> Router | None:
    """None where there is nothing to serve, or nobody."""
    network = facts.networks.get(key.subject_uuid)
    if network is None or not network.types or not facts.nics[network.uuid]:
        return None
    return Router(
        uuid=key.uuid,
        network=network,
        nics=tuple(facts.nics[network.uuid]),
        snats=tuple(facts.snats[network.uuid]),
        eips=tuple(facts.eips[network.uuid]),
        forwardings=tuple(facts.forwardings[network.uuid]),
        publics=facts.networks,
    )


def _l2_uuids(routers: Iterable[Router]) -> set[UUID]:
    return {one.l2.uuid for router in routers for one in (router.network, *router.outside.values())}
