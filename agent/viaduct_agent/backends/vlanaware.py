"""L2VlanNetwork on KVM, the other way: one VLAN-aware bridge for all VLANs of a NIC."""

from viaduct_agent.backends.api import L2OnHost
from viaduct_agent.backends.linkbackend import LinkBackend, device_name, own_fields
from viaduct_agent.links.kinds import BRIDGE, VLAN, options
from viaduct_agent.links.marks import SHARED
from viaduct_agent.links.model import UPLINKS, Desired, Link
from viaduct_common import naming
from viaduct_common.messages.l2 import L2_VLAN, VlanFields


class VlanAwareBridgeBackend(LinkBackend):
    """`brv_eth1` filters VLANs and has eth1 as its tagged uplink; VLAN 10 is `bridge vlan add vid 10` on both, and a
    device `eth1.10` on top, which carries the network's mark and is the host's own way in.

    A thousand VLANs are one bridge, so frames are looked up once. VMs' ports get their VLAN from the hypervisor
    (`<vlan>` of libvirt's interface). No VLAN is on by default: a port that nobody gave one hears nothing, and so the
    NIC cannot carry addresses of the host's own.
    """

    l2_type = L2_VLAN
    name = "vlanAwareBridge"
    usual = False

    def desired_links(self, want: L2OnHost) -> Desired:
        vlan = own_fields(want, VlanFields).vlan
        bridge = Link(
            name=naming.vlan_bridge_name(want.network.physical_interface),
            kind=BRIDGE,
            owner=SHARED,
            generation=0,
            mtu=UPLINKS,
            up=True,
            options=options(stp=False, forward_delay=0, vlan_filtering=True, default_pvid=0),
        )
        device = Link(
            name=device_name(want),
            kind=VLAN,
            owner=want.network.uuid,
            generation=want.generation,
            mtu=want.network.mtu,
            parent=bridge.name,
            up=True,
            options=options(vlan_id=vlan),
        )
        return Desired(
            owner=want.network.uuid,
            generation=want.generation,
            uplink=want.interface,
            links=(bridge, device),
            uplink_master=bridge.name,
            members=frozenset({(want.interface, vlan), (bridge.name, vlan)}),
        )
