"""L2VlanNetwork on KVM: a VLAN device on the NIC, in a bridge of its own."""

from viaduct_agent.backends.api import L2OnHost
from viaduct_agent.backends.linkbackend import LinkBackend, bridge_link, device_name, own_fields
from viaduct_agent.links.kinds import VLAN, options
from viaduct_agent.links.model import Desired, Link
from viaduct_common.messages.l2 import L2_VLAN, VlanFields


class VlanBackend(LinkBackend):
    """`ip link add link eth1 name eth1.10 type vlan id 10`, a port of bridge `br_eth1_10` (IEEE 802.1Q).

    Both names are the inventory's, recorded when the network was created, never computed here.
    """

    l2_type = L2_VLAN

    def desired_links(self, want: L2OnHost) -> Desired:
        vlan = own_fields(want, VlanFields).vlan
        bridge = bridge_link(want)
        device = Link(
            name=device_name(want),
            kind=VLAN,
            owner=want.network.uuid,
            generation=want.generation,
            mtu=want.network.mtu,
            master=bridge.name,
            parent=want.interface,
            options=options(vlan_id=vlan),
            up=True,
        )
        return Desired(
            owner=want.network.uuid, generation=want.generation, uplink=want.interface, links=(bridge, device)
        )
