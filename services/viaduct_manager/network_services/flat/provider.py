"""DHCP, DNS and EIPs on every host that has NICs of the L3 network, each host for its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_interface
from typing import Any
from uuid import UUID

from viaduct_common.errors import Exhausted, NotInRange, PreconditionFailed
from viaduct_common.messages.l2 import L2NetworkInventory
from viaduct_common.messages.l3 import L3NetworkInventory
from viaduct_common.messages.services.specs import FLAT
from viaduct_common.postgres.pool import Connection
from viaduct_manager.model.macs import service_mac
from viaduct_manager.model.public_addresses import EIP
from viaduct_manager.network_services.api import Change, Desired, ServiceKey, provider_uuid
from viaduct_manager.network_services.building import DHCP, DNS, Ports
from viaduct_manager.network_services.configs import NoConfig, parsed
from viaduct_manager.network_services.dependents import refuse_in_use
from viaduct_manager.network_services.facts import Interface, NicOnNetwork, ServedNetwork
from viaduct_manager.network_services.flat.spec import FlatNetwork, flat_spec
from viaduct_manager.network_services.registry import ProviderTools
from viaduct_manager.store import clusters, l2_networks, service_facts, service_touches, vm_networks

SERVER = "server"


class Flat:
    """Built in, and registered as any other provider."""

    name: str = "Flat"
    service_types: tuple[str, ...] = (DHCP, DNS, EIP)

    def __init__(self, tools: ProviderTools) -> None:
        self._uuid = provider_uuid(self.name)
        self._ports = Ports(tools.l2_types)
        self._addresses = tools.addresses

    def associates(self, l2: L2NetworkInventory) -> bool:
        return self._ports.has_any(l2)

    async def attaching(
        self, l3: L3NetworkInventory, configs: Mapping[str, Mapping[str, Any]], connection: Connection
    ) -> Mapping[str, Mapping[str, Any]]:
        await self._require_bridge(l3, connection)
        return {
            service_type: parsed(NoConfig, service_type, config).model_dump(mode="json")
            for service_type, config in configs.items()
        }

    async def _require_bridge(self, l3: L3NetworkInventory, connection: Connection) -> None:
        """Raises:
        PreconditionFailed: wherever the L2 network is attached it is in Open vSwitch, where hosts refuse to serve.
        """
        l2 = await l2_networks.get(connection, l3.l2_network_uuid)
        chosen = await clusters.backends_where_attached(connection, l2.uuid)
        if chosen and all(self._ports.of(l2, backends).virtual_port is not None for backends in chosen):
            raise PreconditionFailed(
                f"{self.name} needs bridges of the kernel; {l2.name} is in Open vSwitch wherever it is attached",
                l2NetworkUuid=str(l2.uuid),
            )

    async def detaching(self, l3: L3NetworkInventory, types: Sequence[str], connection: Connection) -> None:
        await refuse_in_use(connection, l3, types)

    async def touched(self, change: Change, connection: Connection) -> Sequence[ServiceKey]:
        found = await service_touches.l3_networks(
            connection, change, provider_uuid=self._uuid, kind=FLAT, by_host=False
        )
        return [ServiceKey(FLAT, l3_uuid) for l3_uuid in found]

    async def desired(self, keys: Sequence[ServiceKey], connection: Connection) -> Mapping[ServiceKey, Desired]:
        facts = await service_facts.load(connection, [key.subject_uuid for key in keys], self._uuid)
        found: dict[ServiceKey, FlatNetwork] = {}
        for key in keys:
            network = facts.networks.get(key.subject_uuid)
            nics = tuple(facts.nics[key.subject_uuid])
            if network is None or not network.types or not nics:
                continue
            found[key] = FlatNetwork(
                uuid=key.uuid,
                network=network,
                nics=nics,
                eips=tuple(facts.eips[network.uuid]),
                servers=await self._servers(connection, key, network, nics),
                publics=facts.networks,
            )
        hosts = sorted({uuid for flat in found.values() for uuid in flat.hosts})
        surroundings = _Surroundings(
            await clusters.backends_of_hosts(connection, hosts), await vm_networks.attached_to(connection, hosts)
        )
        return {key: self._everywhere(flat, surroundings) for key, flat in found.items()}

    async def _servers(
        self, connection: Connection, key: ServiceKey, network: ServedNetwork, nics: Sequence[NicOnNetwork]
    ) -> tuple[Interface, ...]:
        """Its own addresses in the network, one for each IP version that NICs have; the same on every host.

        Raises:
            PreconditionFailed: there is none left. ViaductError: IPAM does not answer.
        """
        try:
            held = await self._addresses.ensure(
                connection,
                key,
                purpose=SERVER,
                l3_uuid=network.uuid,
                versions=sorted({one.ip.version for nic in nics for one in nic.ips}),
                mac=service_mac(key.uuid, network.uuid),
            )
        except (Exhausted, NotInRange) as error:
            raise PreconditionFailed(
                f"no address of L3 network {network.name} is left for its server: {error.message}",
                l3NetworkUuid=str(network.uuid),
            ) from error
        return tuple(ip_interface(f"{one.ip}/{one.prefix_length}") for one in held)

    def _everywhere(self, flat: FlatNetwork, surroundings: "_Surroundings") -> Desired:
        by_host, waiting = {}, set()
        for host_uuid in flat.hosts:
            needed = {flat.publics[one.public.l3_uuid].l2.uuid for one in flat.eips_on(host_uuid)}
            lacking = needed - surroundings.attached.get(host_uuid, frozenset())
            waiting |= lacking
            backends = surroundings.backends.get(host_uuid, {})

            def port_of(l2: L2NetworkInventory, backends: Mapping[str, str] = backends) -> Any:
                return self._ports.of(l2, backends)

            by_host[host_uuid] = flat_spec(flat, host_uuid, port_of, lacking).model_dump(mode="json")
        if not waiting:
            return Desired(by_host)
        problem = PreconditionFailed(
            f"EIPs of NICs on L3 network {flat.network.name} are where their public L2 network is not",
            l3NetworkUuid=str(flat.network.uuid),
            l2NetworkUuids=sorted(map(str, waiting)),
        )
        return Desired(by_host, problem)


@dataclass(frozen=True)
class _Surroundings:
    """By host: the backends that its cluster has chosen, if any, and the L2 networks that it has."""

    backends: Mapping[UUID, Mapping[str, str]]
    attached: Mapping[UUID, frozenset[UUID]]
