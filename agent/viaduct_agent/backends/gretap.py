"""OvsGreL2Network on KVM without Open vSwitch: a gretap device to each peer, all in one bridge (RFC 2784, RFC 2890)."""

from viaduct_agent.backends.api import L2OnHost
from viaduct_agent.backends.linkbackend import LinkBackend, own_fields
from viaduct_agent.backends.tunnels import MESH_PORT, local_end, remote_ends, remotes_by_mac, tunnel_bridge
from viaduct_agent.links.entries import Forwarding
from viaduct_agent.links.kinds import GRETAP, options
from viaduct_agent.links.model import Desired, Link
from viaduct_common import naming
from viaduct_common.errors import PreconditionFailed
from viaduct_common.messages.l2 import L2_OVS_GRE, OvsGreFields

_OVERHEAD_BYTES = 20 + 4 + 4 + 14  # IPv4, GRE, its key, the inner Ethernet header
_HAS_KEY = 0x2000  # GRE_KEY of linux/if_tunnel.h


class GretapBackend(LinkBackend):
    """`ip link add gr... type gretap local 10.0.0.1 remote 10.0.0.2 key 7`, one for each peer.

    The same frames on the wire as Open vSwitch's GRE ports with `options:key`: hosts of both kinds share a network.
    """

    l2_type = L2_OVS_GRE
    name = "gretap"
    usual = False

    def desired_links(self, want: L2OnHost) -> Desired:
        key, local, bridge = own_fields(want, OvsGreFields).key, local_end(want), tunnel_bridge(want)
        if local.version != 4:
            raise PreconditionFailed(f"GRE tunnels go over IPv4, not from {local}", field="tunnelIp")
        tunnels = tuple(_tunnel(want, bridge, key, str(local), remote) for remote in remote_ends(want))
        return Desired(
            owner=want.network.uuid,
            generation=want.generation,
            uplink=None,
            links=(bridge, *tunnels),
            tunnel_ip=str(local),
            overhead=_OVERHEAD_BYTES,
        )


def _tunnel(want: L2OnHost, bridge: Link, key: int, local: str, remote: str) -> Link:
    nics = [mac for mac, behind in remotes_by_mac(want).items() if behind == remote]
    return Link(
        name=naming.gre_device_name(key, remote),
        kind=GRETAP,
        owner=want.network.uuid,
        generation=want.generation,
        mtu=want.network.mtu,
        master=bridge.name,
        up=True,
        options=options(local=local, remote=remote, in_key=key, out_key=key, in_flags=_HAS_KEY, out_flags=_HAS_KEY),
        port=MESH_PORT,
        entries=frozenset(Forwarding(mac) for mac in nics),
    )
