"""Tunnelled networks: where a host's end is, who its peers are, and whether it has been told."""

import hashlib
import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeAlias
from uuid import UUID

from viaduct_common.messages.agent import InterfaceFact, Peer, PeerNic

Address: TypeAlias = IPv4Address | IPv6Address
Cidr: TypeAlias = IPv4Network | IPv6Network
FINGERPRINT_BYTES = 16


def tunnel_end(cidr: Cidr | None, tunnel_ip: Address | None, addresses: Iterable[Address]) -> Address | None:
    """The address at which a host's tunnels end; None if it has none.

    Args:
        cidr: of the attachment; None leaves the choice to the host's `tunnelIp`.
        tunnel_ip: the host's. With a CIDR it only decides between several addresses in it.
        addresses: those that the host has.
    """
    if cidr is None:
        return tunnel_ip
    inside = {address for address in addresses if address.version == cidr.version and address in cidr}
    if tunnel_ip in inside:
        return tunnel_ip
    return inside.pop() if len(inside) == 1 else None  # of several, nobody can say which the others reach


def host_addresses(interfaces: Iterable[InterfaceFact]) -> list[Address]:
    """All addresses that a host says it has, in order; what is none is left out."""
    found: set[Address] = set()
    for text in (text for interface in interfaces for text in interface.addresses):
        try:
            found.add(ipaddress.ip_interface(text).ip)
        except ValueError:
            continue
    return sorted(found, key=lambda address: (address.version, int(address)))


@dataclass(frozen=True)
class Place:
    """One host and one tunnelled network.

    `member`: it should have the network, so the other members are told of it. `generation` and `told` are those of its
    realization, None without one.
    """

    l2_uuid: UUID
    host_uuid: UUID
    member: bool
    end: Address | None
    generation: int | None = None
    told: str | None = None
    reachable: bool = True


class Tunnels:
    """Some tunnelled networks and their hosts, as the database knew them at one moment."""

    def __init__(self, places: Iterable[Place], nics: Mapping[tuple[UUID, UUID], list[PeerNic]]) -> None:
        """`nics`: by (L2 network, host)."""
        self._places = {(place.l2_uuid, place.host_uuid): place for place in places}
        self._peers: dict[UUID, dict[UUID, Peer]] = defaultdict(dict)
        self._fingerprints: dict[tuple[UUID, UUID], int] = {}
        self._all: dict[UUID, int] = defaultdict(int)
        for (l2_uuid, host_uuid), place in self._places.items():
            if place.member and place.end is not None:
                peer = Peer(host_uuid=host_uuid, tunnel_ip=place.end, nics=nics.get((l2_uuid, host_uuid), []))
                self._peers[l2_uuid][host_uuid] = peer
                self._fingerprints[l2_uuid, host_uuid] = _fingerprint(peer)
                self._all[l2_uuid] ^= self._fingerprints[l2_uuid, host_uuid]

    def place(self, l2_uuid: UUID, host_uuid: UUID) -> Place | None:
        """None for a network that is not tunnelled."""
        return self._places.get((l2_uuid, host_uuid))

    def end(self, l2_uuid: UUID, host_uuid: UUID) -> Address | None:
        """None without an end, and for a network that is not tunnelled."""
        place = self._places.get((l2_uuid, host_uuid))
        return None if place is None else place.end

    def peers(self, l2_uuid: UUID, host_uuid: UUID) -> list[Peer]:
        """The other members that have an end."""
        everybody = self._peers.get(l2_uuid, {})
        return [peer for uuid, peer in everybody.items() if uuid != host_uuid]

    def digest(self, l2_uuid: UUID, host_uuid: UUID) -> str:
        """Equal for equal ends and peers, whatever their order."""
        # A host is told of all but itself: the exclusive or of all, less its own part, costs no loop over the others.
        others = self._all.get(l2_uuid, 0) ^ self._fingerprints.get((l2_uuid, host_uuid), 0)
        return f"{self.end(l2_uuid, host_uuid)} {others:0{FINGERPRINT_BYTES * 2}x}"

    def untold(self) -> list[Place]:
        """Realizations whose host knows another end or other peers.

        A host that is away and was told nothing yet is left in peace: it is told when it returns.
        """
        return [
            place
            for (l2_uuid, host_uuid), place in self._places.items()
            if place.generation is not None
            and (place.reachable or place.told is not None)
            and place.told != self.digest(l2_uuid, host_uuid)
        ]


def _fingerprint(peer: Peer) -> int:
    return int.from_bytes(hashlib.sha256(peer.to_json()).digest()[:FINGERPRINT_BYTES], "big")
