"""Is a host a place for a VM's networks?"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from viaduct_common.errors import HostUnreachable, NotFound, PreconditionFailed
from viaduct_common.messages.host import HostInventory
from viaduct_common.messages.l2 import L2NetworkInventory
from viaduct_common.postgres.pool import Connection
from viaduct_manager.store import hosts, l2_networks, l3_networks, vm_networks


@dataclass(frozen=True)
class Site:
    """A host that is good, locked with its cluster and networks until the transaction ends.

    Attributes:
        l2_by_l3: the L2 network on which each L3 network lies.
        networks: these L2 networks by uuid.
        disabled: L3 networks that get no new NIC.
    """

    host: HostInventory
    l2_by_l3: dict[UUID, UUID]
    networks: dict[UUID, L2NetworkInventory]
    disabled: frozenset[UUID]


async def enter(connection: Connection, host_uuid: UUID, l3_uuids: Sequence[UUID]) -> Site:
    """Lock what the decision rests on, in the order that all keep to, and decide.

    Args:
        l3_uuids: of each NIC, in order; a refusal names the place of the first that does not exist.

    Raises:
        NotFound: no such host or L3 network.
        PreconditionFailed: the host is in maintenance or being removed; or its cluster lacks L2 networks, all of which
            are in `details.l2NetworkUuids`.
        HostUnreachable: the host is not connected.
    """
    places = await l3_networks.places_of(connection, list(dict.fromkeys(l3_uuids)))
    l2_by_l3 = {uuid: places[uuid].l2_uuid for uuid in dict.fromkeys(l3_uuids) if uuid in places}
    for index, l3_uuid in enumerate(l3_uuids):
        if l3_uuid not in l2_by_l3:
            missing = NotFound.of(l3_networks.KIND, l3_uuid)
            missing.details["field"] = f"nics.{index}.l3NetworkUuid"
            raise missing
    networks = {uuid: await l2_networks.hold(connection, uuid) for uuid in sorted(set(l2_by_l3.values()))}
    host = await _enter_host(connection, host_uuid)
    lacking = await vm_networks.unattached(connection, list(dict.fromkeys(l2_by_l3.values())), host.cluster_uuid)
    if lacking:
        names = ", ".join(networks[uuid].name for uuid in lacking)
        raise PreconditionFailed(
            f"the cluster of host {host.name} has not: {names}",
            field="hostUuid",
            hostUuid=str(host.uuid),
            clusterUuid=str(host.cluster_uuid),
            l2NetworkUuids=[str(uuid) for uuid in lacking],
        )
    return Site(host, l2_by_l3, networks, frozenset(uuid for uuid, place in places.items() if not place.enabled))


async def _enter_host(connection: Connection, host_uuid: UUID) -> HostInventory:
    await hosts.hold_cluster(connection, host_uuid)
    host = await hosts.find_locked(connection, host_uuid)
    if host is None:
        raise NotFound.of(hosts.KIND, host_uuid)
    if host.maintenance or await hosts.is_deleting(connection, host_uuid):
        what = "in maintenance" if host.maintenance else "being removed"
        raise PreconditionFailed(f"host {host.name} is {what}", field="hostUuid", hostUuid=str(host_uuid))
    if host.state != "connected":
        raise HostUnreachable(f"host {host.name} is {host.state}", field="hostUuid", hostUuid=str(host_uuid))
    return host
