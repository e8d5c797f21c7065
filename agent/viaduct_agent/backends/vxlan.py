"""L2VxlanNetwork on KVM: one VXLAN device in a bridge (RFC 7348)."""

from viaduct_agent.backends.api import L2OnHost
from viaduct_agent.backends.linkbackend import LinkBackend, device_name, own_fields
from viaduct_agent.backends.tunnels import TUNNEL_PORT, local_end, remote_ends, remotes_by_mac, tunnel_bridge
from viaduct_agent.links.entries import EVERYBODY, Entry, Forwarding
from viaduct_agent.links.kinds import VXLAN, options
from viaduct_agent.links.model import Desired, Link
from viaduct_common.errors import InvalidRequest
from viaduct_common.messages.l2 import L2_VXLAN, VxlanFields

# Of the underlay's MTU: IP, UDP, VXLAN and the inner Ethernet header. The outer one is not counted in it.
_OVERHEAD_BYTES = {4: 20 + 8 + 8 + 14, 6: 40 + 8 + 8 + 14}


class VxlanBackend(LinkBackend):
    """`ip link add vxlan7 type vxlan id 7 local 10.0.0.1 dstport 4789`, a port of `br_vx_7`.

    Frames for everybody go to each peer by unicast: no multicast in the underlay is needed. What is for a NIC that the
    manager knows goes to its host alone; other addresses are learned.
    """

    l2_type = L2_VXLAN

    def desired_links(self, want: L2OnHost) -> Desired:
        fields = own_fields(want, VxlanFields)
        if fields.vni is None:
            raise InvalidRequest.of_field("l2Network.vni", "a network with a VNI range is realised by account")
        local, remotes, bridge = local_end(want), remote_ends(want), tunnel_bridge(want)
        end = options(local=str(local)) if local.version == 4 else options(local6=str(local))
        device = Link(
            name=device_name(want),
            kind=VXLAN,
            owner=want.network.uuid,
            generation=want.generation,
            mtu=want.network.mtu,
            master=bridge.name,
            up=True,
            options=tuple(sorted((*end, *options(vni=fields.vni, udp_port=fields.udp_port, learning=True)))),
            port=TUNNEL_PORT,
            entries=frozenset(_forwarding(want, remotes)),
        )
        return Desired(
            owner=want.network.uuid,
            generation=want.generation,
            uplink=None,
            links=(bridge, device),
            tunnel_ip=str(local),
            overhead=_OVERHEAD_BYTES[local.version],
        )


def _forwarding(want: L2OnHost, remotes: list[str]) -> set[Entry]:
    """Everybody's frames to every peer; a known NIC's to its host, in both tables: the bridge's says which port, the
    device's says which peer."""
    entries: set[Entry] = {Forwarding(EVERYBODY, remote) for remote in remotes}
    for mac, remote in remotes_by_mac(want).items():
        entries |= {Forwarding(mac, remote), Forwarding(mac)}
    return entries
