"""The manager's end: who may have a load balancer, on which host it is, and what it is told."""

from collections.abc import Mapping, Sequence
from ipaddress import ip_interface
from typing import Any
from uuid import UUID

from viaduct_common.errors import InvalidRequest, PreconditionFailed
from viaduct_common.messages.l2 import L2NetworkInventory
from viaduct_common.messages.l3 import L3NetworkInventory
from viaduct_common.messages.services.specs import Leg
from viaduct_common.postgres.pool import Connection
from viaduct_lb_haproxy.fields import (
    KIND,
    LOAD_BALANCER,
    HaproxySpec,
    Listener,
    LoadBalancerConfig,
    ServedListener,
    Server,
)
from viaduct_manager.model.macs import service_mac
from viaduct_manager.network_services.api import Change, Desired, ServiceKey, provider_uuid
from viaduct_manager.network_services.building import Ports
from viaduct_manager.network_services.configs import parsed
from viaduct_manager.network_services.facts import NicOnNetwork, ServedNetwork
from viaduct_manager.network_services.registry import ProviderTools
from viaduct_manager.store import service_facts, service_touches

_FRONT = "front"  # the purpose of its addresses
_CONFIGS = "SELECT l3_uuid, config FROM l3_service WHERE l3_uuid = ANY($1::uuid[]) AND service_type = $2"
_NIC_L3S = "SELECT uuid, l3_uuid FROM nic WHERE uuid = ANY($1::uuid[]) AND state IN ('preparing', 'ready')"
# Where it is already comes first, then the host with the fewest. A host that is away or in maintenance is no host.
_HOSTS = """
    SELECT host.uuid, cluster.backends
    FROM realization JOIN host ON host.uuid = realization.host_uuid JOIN cluster ON cluster.uuid = host.cluster_uuid
    LEFT JOIN service_on_host AS here
        ON here.host_uuid = host.uuid AND here.service_uuid = $2 AND here.desired = 'present'
    WHERE realization.l2_uuid = $1 AND realization.desired = 'present' AND realization.state = 'realized'
      AND host.state = 'connected' AND NOT host.maintenance AND NOT host.deleting AND host.capabilities ? $3
    ORDER BY here.host_uuid IS NULL,
             (SELECT count(*) FROM service_on_host JOIN service ON service.uuid = service_uuid
              WHERE host_uuid = host.uuid AND kind = $4 AND desired = 'present'),
             host.uuid
    LIMIT 1
"""


class HaproxyProvider:
    """Implements `viaduct_manager.network_services.api.ServiceProvider`: one load balancer for each L3 network that has
    listeners, with an address of its own there."""

    name: str = "HAProxy"
    service_types: tuple[str, ...] = (LOAD_BALANCER,)

    def __init__(self, tools: ProviderTools) -> None:
        self._uuid = provider_uuid(self.name)
        self._ports = Ports(tools.l2_types)
        self._addresses = tools.addresses

    def associates(self, l2: L2NetworkInventory) -> bool:
        return self._ports.has_any(l2)  # it needs a bridge to be plugged in

    async def attaching(
        self, l3: L3NetworkInventory, configs: Mapping[str, Mapping[str, Any]], connection: Connection
    ) -> Mapping[str, Mapping[str, Any]]:
        config = parsed(LoadBalancerConfig, LOAD_BALANCER, configs[LOAD_BALANCER])
        await _require_targets_on(l3, config.listeners, connection)
        return {LOAD_BALANCER: config.model_dump(mode="json", by_alias=True)}

    async def detaching(self, l3: L3NetworkInventory, types: Sequence[str], connection: Connection) -> None:
        """Nothing depends on it: its listeners are its own, and go with it."""

    async def touched(self, change: Change, connection: Connection) -> Sequence[ServiceKey]:
        found = await service_touches.l3_networks(connection, change, provider_uuid=self._uuid, kind=KIND, by_host=True)
        return [ServiceKey(KIND, l3_uuid) for l3_uuid in found]

    async def desired(self, keys: Sequence[ServiceKey], connection: Connection) -> Mapping[ServiceKey, Desired]:
        l3_uuids = [key.subject_uuid for key in keys]
        facts = await service_facts.load(connection, l3_uuids, self._uuid)
        rows = await connection.fetch(_CONFIGS, l3_uuids, LOAD_BALANCER)
        configs = {row["l3_uuid"]: LoadBalancerConfig.model_validate(row["config"]) for row in rows}
        found: dict[ServiceKey, Desired] = {}
        for key in keys:
            network, config = facts.networks.get(key.subject_uuid), configs.get(key.subject_uuid)
            if network is None or config is None or not network.types or not config.listeners:
                continue
            found[key] = await self._place(key, network, config, facts.nics[network.uuid], connection)
        return found

    async def _place(
        self,
        key: ServiceKey,
        network: ServedNetwork,
        config: LoadBalancerConfig,
        nics: Sequence[NicOnNetwork],
        connection: Connection,
    ) -> Desired:
        host = await connection.fetchrow(_HOSTS, network.l2.uuid, key.uuid, f"service/{KIND}", KIND)
        if host is None:
            problem = PreconditionFailed(
                f"no host that is connected has L2 network {network.l2.name} and the capability service/{KIND}",
                l3NetworkUuid=str(network.uuid),
            )
            return Desired(problem=problem)
        mac = service_mac(key.uuid, network.uuid)
        # Asked for so that it may be done again: after a crash IPAM gives the same addresses.
        held = await self._addresses.ensure(
            connection,
            key,
            purpose=_FRONT,
            l3_uuid=network.uuid,
            versions=await self._addresses.versions_of(network.uuid),
            mac=mac,
        )
        leg = Leg(
            port=self._ports.of(network.l2, host["backends"]),
            mac=mac,
            mtu=network.mtu,
            addresses=[ip_interface(f"{one.ip}/{one.prefix_length}") for one in held],
            gateways=[one.gateway for one in held if one.gateway is not None],
        )
        spec = HaproxySpec(
            l3_network_uuid=network.uuid, leg=leg, listeners=[served(listener, nics) for listener in config.listeners]
        )
        return Desired({host["uuid"]: spec.model_dump(mode="json")})


def served(listener: Listener, nics: Sequence[NicOnNetwork]) -> ServedListener:
    """A listener as a host has to know it. A target whose NIC is gone is left out, and comes back with it."""
    by_uuid = {nic.uuid: nic for nic in nics}
    servers = [
        Server(name=str(target.nic_uuid), ip=nic.ips[0].ip, port=target.port, weight=target.weight)
        for target in listener.targets
        if (nic := by_uuid.get(target.nic_uuid)) is not None
    ]
    return ServedListener(
        name=listener.name,
        protocol=listener.protocol,
        port=listener.port,
        balance=listener.balance,
        servers=servers,
    )


async def _require_targets_on(l3: L3NetworkInventory, listeners: Sequence[Listener], connection: Connection) -> None:
    """Raises:
    InvalidRequest: a target is no NIC, or one on another L3 network.
    """
    places: dict[UUID, str] = {}
    for number, listener in enumerate(listeners):
        for index, target in enumerate(listener.targets):
            path = f"{LOAD_BALANCER}.listeners.{number}.targets.{index}.nicUuid"
            places.setdefault(target.nic_uuid, path)
    known = {row["uuid"]: row["l3_uuid"] for row in await connection.fetch(_NIC_L3S, list(places))}
    for nic_uuid, path in places.items():
        if known.get(nic_uuid) != l3.uuid:
            raise InvalidRequest.of_field(path, f"no NIC {nic_uuid} on this L3 network")
