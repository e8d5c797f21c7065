"""OvsGreL2Network on KVM: an Open vSwitch bridge, with a GRE tunnel to every other host of the network."""

from collections.abc import AsyncIterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_interface
from typing import ClassVar
from uuid import UUID

from viaduct_agent.backends.api import KVM, Action, L2OnHost
from viaduct_agent.backends.linkbackend import own_fields
from viaduct_agent.links.host import Checked, HostLinks
from viaduct_agent.links.watch import Changed
from viaduct_agent.ovs.model import AddBridge, Bridge, Desired, Port, Step
from viaduct_agent.ovs.ovsdb import Ovsdb, default_socket
from viaduct_agent.ovs.switch import Switch
from viaduct_agent.settings import AgentSettings
from viaduct_common import naming
from viaduct_common.errors import Conflict, PreconditionFailed, ViaductError
from viaduct_common.messages.agent import Peer
from viaduct_common.messages.l2 import L2_OVS_GRE, OvsGreFields

# Open vSwitch's type of port, by the IP version of the tunnel's ends.
KINDS = {4: "gre", 6: "ip6gre"}
# Outer IP header (20, IPv6 40), GRE header with key (8, RFC 2890), inner Ethernet header (14).
OVERHEAD_BYTES = {4: 42, 6: 62}


class OvsGreBackend:
    """`ovs-vsctl add-br br_gr_7; ovs-vsctl add-port br_gr_7 gr5d41402abc4b -- set Interface gr5d41402abc4b type=gre
    options:key=7 options:local_ip=10.0.0.1 options:remote_ip=10.0.0.2 -- set Port gr5d41402abc4b protected=true`.

    Every host has a tunnel to every other. Tunnels are protected ports: what comes by one leaves by none, so the mesh
    has no loop and needs no spanning tree. `network.physical_interface` is not used: the tunnels go where the routes
    to the peers lead.
    """

    l2_type: ClassVar[str] = L2_OVS_GRE
    hypervisor_type: ClassVar[str] = KVM
    name: ClassVar[str] = "openvswitch"
    usual: ClassVar[bool] = True

    def __init__(self, links: HostLinks, database: Ovsdb | None = None) -> None:
        self._links = links
        self._use(database or Ovsdb(default_socket()))

    def configure(self, settings: AgentSettings) -> None:
        if settings.ovsdb_socket is not None:
            self._use(Ovsdb(settings.ovsdb_socket))

    async def aclose(self) -> None:
        await self._database.aclose()

    async def unavailable(self) -> ViaductError | None:
        return await self._database.unavailable(KINDS[4])

    def device_names(self, want: L2OnHost) -> frozenset[str]:
        return desired_bridge(want).device_names

    async def realize(self, want: L2OnHost) -> tuple[str, ...]:
        desired = desired_bridge(want)
        await self._refuse_unavailable(want)
        return await self._switch.realize(desired, lambda steps: self._vet(want, steps))

    async def check(self, want: L2OnHost, action: Action = "realize") -> Checked:
        if action == "release":
            if await self._absent():
                return Checked()
            return await self._switch.check_release(want.network.uuid, force=want.force)
        await self._refuse_unavailable(want)
        return await self._switch.check(desired_bridge(want), lambda steps: self._vet(want, steps))

    async def release(self, want: L2OnHost) -> tuple[str, ...]:
        if await self._absent():
            return ()
        # By the mark, not by the names in the message: what we made goes, whatever it is called.
        return await self._switch.release(want.network.uuid, force=want.force)

    def changes(self) -> AsyncIterator[Changed]:
        return self._database.changes()

    async def marked(self) -> Mapping[UUID, int]:
        # Without Open vSwitch there is nothing of ours in it.
        return {} if await self.unavailable() is not None else await self._switch.marked()

    async def leftover_devices(self, uuid: UUID) -> tuple[str, ...]:
        return await self._switch.devices(uuid)

    async def release_leftover(self, uuid: UUID, *, force: bool = False) -> tuple[str, ...]:
        return await self._switch.release(uuid, force=force)

    def _use(self, database: Ovsdb) -> None:
        self._database = database
        self._switch = Switch(database)

    async def _refuse_unavailable(self, want: L2OnHost) -> None:
        version = 4 if want.tunnel_ip is None else want.tunnel_ip.version
        error = await self._database.unavailable(KINDS[version])
        if error is not None:
            raise error

    async def _absent(self) -> bool:
        """Where there never was an Open vSwitch there is nothing to release. If it is only stopped, and was before we
        started, then what is left comes to light by its mark at a later sync."""
        error = await self.unavailable()
        return error is not None and error.details.get("absent") is True

    async def _vet(self, want: L2OnHost, steps: tuple[Step, ...]) -> None:
        """Only where something is to be done: a dump of all links for each look at a network is too much.

        Raises:
            PreconditionFailed: no device carries the tunnel's end, or the network's MTU does not fit that device.
            Conflict: a device of the kernel has the bridge's name.
        """
        links = await self._links.observe_hosts_own()
        made = next((step.bridge.name for step in steps if isinstance(step, AddBridge)), None)
        if made in links:
            raise Conflict(f"the name {made} is taken by a device that is not ours", device=made, owner=None)
        end = _tunnel_end(want)
        carrier = next(
            (
                link for link in links.values()
                if any(ip_interface(address).ip == end for address in link.addresses or ())
            ),
            None,
        )  # fmt: skip
        if carrier is None:
            text = f"no device of this host has the address {end}"
            raise PreconditionFailed(text, field="tunnelIp", tunnelIp=str(end))
        largest = carrier.mtu - OVERHEAD_BYTES[end.version]
        if want.network.mtu > largest:
            text = f"MTU {want.network.mtu} does not fit {carrier.name}, whose MTU of {carrier.mtu} leaves {largest}"
            raise PreconditionFailed(text, device=carrier.name, mtu=carrier.mtu, wanted=want.network.mtu, field="mtu")


def desired_bridge(want: L2OnHost) -> Desired:
    """The bridge and its tunnels.

    Raises:
        InvalidRequest: the type's own fields are wrong.
        PreconditionFailed: this host has no tunnel end, or a peer has none that a tunnel could lead to;
            `details.field` is `tunnelIp` or `peers`.
    """
    key = own_fields(want, OvsGreFields).key
    network = want.network
    end = _tunnel_end(want)
    bridge = Bridge(name=network.bridge_name, owner=network.uuid, generation=want.generation, mtu=network.mtu)
    seen: dict[object, str] = {end: "this host"}
    tunnels = []
    for peer in want.peers:
        _refuse_bad_peer(peer, end, seen.get(peer.tunnel_ip))
        seen[peer.tunnel_ip] = f"host {peer.host_uuid}"
        tunnels.append(
            Port(
                name=naming.gre_device_name(key, str(peer.tunnel_ip)),
                kind=KINDS[end.version],
                owner=network.uuid,
                generation=want.generation,
                options=(
                    ("key", str(key)),
                    ("local_ip", str(end)),
                    ("remote_ip", str(peer.tunnel_ip)),
                ),
                protected=True,
            )
        )
    return Desired(bridge.with_ports(tunnels))


def _tunnel_end(want: L2OnHost) -> IPv4Address | IPv6Address:
    if want.tunnel_ip is None:
        raise PreconditionFailed("this host has no end for tunnels (tunnelIp)", field="tunnelIp")
    return want.tunnel_ip


def _refuse_bad_peer(peer: Peer, end: IPv4Address | IPv6Address, other: str | None) -> None:
    details = {"field": "peers", "hostUuid": str(peer.host_uuid), "tunnelIp": str(peer.tunnel_ip)}
    if peer.tunnel_ip.version != end.version:
        text = f"the peer {peer.host_uuid} has the tunnel end {peer.tunnel_ip}, and this host {end}: not one IP version"
        raise PreconditionFailed(text, **details)
    if other is not None:
        raise PreconditionFailed(
            f"the peer {peer.host_uuid} has the tunnel end of {other}: {peer.tunnel_ip}", **details
        )
