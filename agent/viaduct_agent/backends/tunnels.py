"""What tunnelled networks share: this host's end, the bridge on it, and what is known of the others' NICs."""

import hashlib

from viaduct_agent.backends.api import IpAddress, L2OnHost
from viaduct_agent.backends.linkbackend import bridge_link
from viaduct_agent.links.entries import Entry, Neighbour
from viaduct_agent.links.kinds import options
from viaduct_agent.links.model import Link, with_values
from viaduct_common.errors import PreconditionFailed

# Ports of tunnels: ARP and neighbour discovery are answered here where the answer is known, and not sent to everybody.
TUNNEL_PORT = options(neigh_suppress=True)
# More than one tunnel in a bridge: what came by one must never leave by another (a full mesh is a loop otherwise).
MESH_PORT = options(neigh_suppress=True, isolated=True)


def local_end(want: L2OnHost) -> IpAddress:
    """Raises:
    PreconditionFailed: the host has no address for tunnels.
    """
    if want.tunnel_ip is None:
        text = "this host has no tunnelIp, and no single address in the attachment's tunnelCidr"
        raise PreconditionFailed(text, field="tunnelIp", l2NetworkUuid=str(want.network.uuid))
    return want.tunnel_ip


def remote_ends(want: L2OnHost) -> list[str]:
    """The peers' ends, without our own (a host that changed its address is told of itself for a moment)."""
    local = local_end(want)
    remotes = {peer.tunnel_ip for peer in want.peers if peer.tunnel_ip != local}
    return sorted(str(remote) for remote in remotes if remote.version == local.version)


def tunnel_bridge(want: L2OnHost) -> Link:
    """The bridge, with the addresses of all NICs behind the peers. Its MAC is its own on each host, and always the
    same: there is no NIC to take it from, and with none given it would follow the ports."""
    known: set[Entry] = {Neighbour(ip, mac) for ip, mac in _macs_by_ip(want).items()}
    digest = hashlib.sha256(f"{want.network.uuid}/{local_end(want)}".encode()).digest()
    return with_values(bridge_link(want), mac=f"02:{digest[:5].hex(':')}", entries=frozenset(known))


def remotes_by_mac(want: L2OnHost) -> dict[str, str]:
    """Behind which peer each known NIC is. A MAC that two claim (a VM on the move) is the first's: the kernel keeps
    one entry for each."""
    found: dict[str, str] = {}
    for remote in remote_ends(want):
        for peer in want.peers:
            if str(peer.tunnel_ip) == remote:
                found |= {nic.mac: remote for nic in peer.nics if nic.mac not in found}
    return found


def _macs_by_ip(want: L2OnHost) -> dict[str, str]:
    behind = remotes_by_mac(want)
    pairs = [
        (str(ip), nic.mac)
        for peer in want.peers for nic in peer.nics for ip in nic.ips if behind.get(nic.mac) == str(peer.tunnel_ip)
    ]  # fmt: skip
    return dict(sorted(pairs, reverse=True))
