"""L2NoVlanNetwork on KVM: a bridge with the NIC itself as its port."""

from viaduct_agent.backends.api import L2OnHost
from viaduct_agent.backends.linkbackend import LinkBackend, bridge_link, own_fields
from viaduct_agent.links.model import Desired
from viaduct_common.messages.l2 import L2_NOVLAN, NoVlanFields


class NoVlanBackend(LinkBackend):
    """`ip link add br_eth1 type bridge; ip link set eth1 master br_eth1`, and no more.

    The host's own addresses and routes go from the NIC to the bridge, under guard (see `links.moving`), and come back
    with the release. Those that another program minds, or that cannot be moved, are refused with `PRECONDITION_FAILED`.
    """

    l2_type = L2_NOVLAN

    def desired_links(self, want: L2OnHost) -> Desired:
        own_fields(want, NoVlanFields)
        bridge = bridge_link(want)
        return Desired(
            owner=want.network.uuid,
            generation=want.generation,
            uplink=want.interface,
            links=(bridge,),
            uplink_master=bridge.name,
        )
