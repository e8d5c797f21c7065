"""What a host is told of the flat services of an L3 network. Pure."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from viaduct_common.messages.l2 import L2NetworkInventory
from viaduct_common.messages.services.specs import BridgePort, FlatEip, FlatSpec, Leg
from viaduct_manager.model.macs import service_mac
from viaduct_manager.model.public_addresses import EIP
from viaduct_manager.network_services import building
from viaduct_manager.network_services.facts import Eip, Interface, NicOnNetwork, ServedNetwork

PortOf = Callable[[L2NetworkInventory], BridgePort]


@dataclass(frozen=True)
class FlatNetwork:
    """All that there is for the flat services of an L3 network; `servers` are their own addresses in it, `publics` the
    networks of EIPs."""

    uuid: UUID
    network: ServedNetwork
    nics: tuple[NicOnNetwork, ...]
    eips: tuple[Eip, ...]
    servers: tuple[Interface, ...]
    publics: Mapping[UUID, ServedNetwork]

    @property
    def hosts(self) -> list[UUID]:
        return sorted({host_uuid for nic in self.nics for host_uuid in nic.hosts})

    def eips_on(self, host_uuid: UUID) -> list[Eip]:
        """Of NICs whose VMs run there: while one is being moved its EIP is at one place only."""
        here = {nic.uuid for nic in self.nics if nic.host_uuid == host_uuid}
        found = [one for one in self.eips if EIP in self.network.types and one.nic_uuid in here]
        return sorted(found, key=lambda one: one.rule.eip_uuid)


def flat_spec(flat: FlatNetwork, host_uuid: UUID, port_of: PortOf, left_out: Collection[UUID] = ()) -> FlatSpec:
    """Args:
    left_out: L2 networks that the host does not have: EIPs that need them wait.
    """
    network = flat.network
    nics = [nic for nic in flat.nics if host_uuid in nic.hosts]
    servers: Sequence[Interface] = sorted(flat.servers, key=lambda one: (one.version, int(one.ip)))
    return FlatSpec(
        l3_network_uuid=network.uuid,
        inside=Leg(
            port=port_of(network.l2),
            mac=service_mac(flat.uuid, network.uuid),
            mtu=network.mtu,
            addresses=list(servers),
        ),
        nics=building.served_nics(nics),
        dhcp=building.dhcp_spec(network, [one.ip for one in servers], [one.ip for one in building.gateways(flat.nics)]),
        dns=building.dns_spec(network, flat.nics),
        eips=[
            FlatEip(
                rule=one.rule,
                nic_uuid=one.nic_uuid,
                # By the EIP: two of one network, on one host or on two, have different places in it.
                outside=building.outside_leg(one.rule.eip_uuid, public, port_of(public.l2), [one.public]),
            )
            for one in flat.eips_on(host_uuid)
            if (public := flat.publics[one.public.l3_uuid]).l2.uuid not in left_out
        ],
    )
