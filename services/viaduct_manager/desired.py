"""What a host is told of an L2 network beside its inventory: the backend, its tunnel end, its peers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

from viaduct_common.messages.agent import L2Desired
from viaduct_common.messages.l2 import L2NetworkInventory
from viaduct_common.postgres.pool import Connection
from viaduct_manager.model.tunnels import Place, Tunnels
from viaduct_manager.store import clusters, tunnels


@dataclass(frozen=True)
class Knowledge:
    """`backends`: by host what its cluster chose, backend by L2 type."""

    backends: Mapping[UUID, Mapping[str, str]]
    tunnels: Tunnels

    def item(self, host_uuid: UUID, network: L2NetworkInventory, generation: int, *, force: bool = False) -> L2Desired:
        """The whole desired state of the network on the host."""
        return L2Desired(
            generation=generation,
            l2_network=network,
            backend=self.backends.get(host_uuid, {}).get(network.type),
            tunnel_ip=self.tunnels.end(network.uuid, host_uuid),
            peers=self.tunnels.peers(network.uuid, host_uuid),
            force=force,
        )

    def realized(self, pairs: Iterable[tuple[UUID, UUID]]) -> list[Place]:
        """Of these (L2 network, host) pairs the tunnelled ones that have a realization."""
        places = (self.tunnels.place(l2_uuid, host_uuid) for l2_uuid, host_uuid in pairs)
        return [place for place in places if place is not None and place.generation is not None]

    def untold(self, places: Iterable[Place]) -> list[Place]:
        """Those whose host was told something else, or nothing yet."""
        return [place for place in places if place.told != self.tunnels.digest(place.l2_uuid, place.host_uuid)]


async def know(connection: Connection, pairs: Iterable[tuple[UUID, UUID]], seen: Tunnels | None = None) -> Knowledge:
    """All that there is to know of these (L2 network, host) pairs; `seen` are their tunnels, if they are known."""
    asked = list(pairs)
    backends = await clusters.backends_of_hosts(connection, list({host_uuid for _, host_uuid in asked}))
    if seen is None:
        seen = await tunnels.load(connection, {l2_uuid for l2_uuid, _ in asked}, asked=asked)
    return Knowledge(backends, seen)
