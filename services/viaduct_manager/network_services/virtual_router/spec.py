"""What a router is told, of what there is. Pure."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from uuid import UUID

from viaduct_common.messages.l2 import L2NetworkInventory
from viaduct_common.messages.services.specs import BridgePort, Leg, RouterSpec
from viaduct_manager.model.macs import service_mac
from viaduct_manager.model.public_addresses import EIP, PORT_FORWARDING, SNAT
from viaduct_manager.network_services import building
from viaduct_manager.network_services.facts import (
    Eip,
    Forwarding,
    NicOnNetwork,
    PublicAddress,
    ServedNetwork,
    Snat,
)

PortOf = Callable[[L2NetworkInventory], BridgePort]


@dataclass(frozen=True)
class Router:
    """All that there is for the router of an L3 network; `publics` are the networks of public addresses."""

    uuid: UUID
    network: ServedNetwork
    nics: tuple[NicOnNetwork, ...]
    snats: tuple[Snat, ...]
    eips: tuple[Eip, ...]
    forwardings: tuple[Forwarding, ...]
    publics: Mapping[UUID, ServedNetwork]

    @property
    def outside(self) -> dict[UUID, ServedNetwork]:
        """The public networks that it needs, in one order: first that of SNAT."""
        types = self.network.types
        used = [
            *(one.public for one in self.snats if SNAT in types),
            *(one.public for one in self.eips if EIP in types),
            *(one.public for one in self.forwardings if PORT_FORWARDING in types),
        ]
        first = [one.public.l3_uuid for one in self.snats if SNAT in types]
        ordered = dict.fromkeys([*sorted(first), *sorted({one.l3_uuid for one in used})])
        return {uuid: self.publics[uuid] for uuid in ordered}


def router_spec(router: Router, port_of: PortOf, left_out: Collection[UUID] = ()) -> RouterSpec:
    """Args:
    left_out: L2 networks that its host does not have: what needs them waits.
    """
    network, inside = router.network, building.gateways(router.nics)
    outside = {uuid: one for uuid, one in router.outside.items() if one.l2.uuid not in left_out}
    snats = [one for one in router.snats if SNAT in network.types and one.public.l3_uuid in outside]
    eips = [one for one in router.eips if EIP in network.types and one.public.l3_uuid in outside]
    forwardings = [
        one for one in router.forwardings if PORT_FORWARDING in network.types and one.public.l3_uuid in outside
    ]
    publics: list[PublicAddress] = [
        *(one.public for one in snats),
        *(one.public for one in eips),
        *(one.public for one in forwardings),
    ]
    own = [one.ip for one in inside]
    return RouterSpec(
        l3_network_uuid=network.uuid,
        inside=Leg(
            port=port_of(network.l2),
            mac=service_mac(router.uuid, network.uuid),
            mtu=network.mtu,
            addresses=inside,
        ),
        outside=[building.outside_leg(router.uuid, one, port_of(one.l2), publics) for one in outside.values()],
        nics=building.served_nics(router.nics),
        dhcp=building.dhcp_spec(network, own, own),
        dns=building.dns_spec(network, router.nics),
        snat=sorted((one.public.place.ip for one in snats), key=lambda ip: (ip.version, int(ip))),
        eips=sorted((one.rule for one in eips), key=lambda rule: rule.eip_uuid),
        port_forwardings=sorted((one.rule for one in forwardings), key=lambda rule: rule.rule_uuid),
    )
