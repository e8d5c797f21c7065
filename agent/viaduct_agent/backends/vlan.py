"""L2VlanNetwork on KVM: a VLAN device on the NIC, in a bridge of its own."""

from viaduct_agent.backends.api import L2OnHost
from viaduct_agent.backends.linkbackend import LinkBackend, bridge_link, own_fields
from viaduct_agent.links.model import VLAN, Desired, Link
from viaduct_common.errors import InvalidRequest
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
            name=_device_name(want),
            kind=VLAN,
            owner=want.network.uuid,
            generation=want.generation,
            mtu=want.network.mtu,
            master=bridge.name,
            parent=want.interface,
            vlan_id=vlan,
            up=True,
        )
        return Desired(
            owner=want.network.uuid, generation=want.generation, uplink=want.interface, links=(bridge, device)
        )


def _device_name(want: L2OnHost) -> str:
    """The one recorded name that is not the bridge's."""
    others = [name for name in want.network.device_names if name != want.network.bridge_name]
    if len(others) != 1:
        text = f"a VLAN network has one device beside its bridge, not {others}"
        raise InvalidRequest.of_field("l2Network.deviceNames", text)
    return others[0]
