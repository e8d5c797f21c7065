"""The stack's zone, clusters and hosts, made through the product's own client."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from viaduct_common.client import ViaductClient

ZONE = "zone1"
CALL_SECONDS = 20.0


@dataclass(frozen=True)
class Enrolled:
    """A registered host; without a password if it was registered before."""

    uuid: UUID
    username: str
    password: str | None


def cluster_of(index: int, count: int) -> str:
    """Return the cluster of the host at `index` of `count`: the first half, rounded up, is cluster1."""
    return "cluster1" if index < (count + 1) // 2 else "cluster2"


async def enrol(amqp_url: str, addresses: Mapping[str, str]) -> dict[str, Enrolled]:
    """Make sure that the zone, the clusters and the hosts exist; what is there is found by its name.

    `addresses` is by the hosts' names, in their order: where each is reached on the management network, which is the
    end of its tunnels, too.
    """
    enrolled = {}
    async with ViaductClient(amqp_url, name="local-stack", timeout_seconds=CALL_SECONDS) as net:
        zone = await _ensure(net.zone, {}, name=ZONE)
        for index, (name, address) in enumerate(addresses.items()):
            cluster = await _ensure(
                net.cluster,
                {"hypervisor_type": "KVM"},
                zone_uuid=zone.uuid,
                name=cluster_of(index, len(addresses)),
            )
            host = await _ensure(net.host, {"cluster_uuid": cluster.uuid, "tunnel_ip": address}, name=name)
            password = host.credentials.password if host.credentials else None
            enrolled[name] = Enrolled(host.uuid, str(host.uuid), password)
    return enrolled


@dataclass(frozen=True)
class Seen:
    """What the manager says of a host: `connected` is the good state."""

    state: str
    last_seen_at: datetime | None

    def connected(self, seen_after: datetime | None = None) -> bool:
        """Tell whether the host is connected, and has been heard of after that time."""
        late = seen_after is not None and (self.last_seen_at is None or self.last_seen_at <= seen_after)
        return self.state == "connected" and not late


async def seen_hosts(amqp_url: str, names: Sequence[str]) -> dict[str, Seen]:
    """Return what the manager says of each host, by its name."""
    async with ViaductClient(amqp_url, name="local-stack", timeout_seconds=CALL_SECONDS) as net:
        page = await net.host.query(filters={"name": list(names)})
    return {host.name: Seen(host.state, host.last_seen_at) for host in page.items}


async def _ensure(family: Any, more: dict[str, Any], **identity: Any) -> Any:
    """Return the one with this identity, made if it does not exist."""
    page = await family.query(filters=identity)
    return page.items[0] if page.items else await family.create(**identity, **more)
