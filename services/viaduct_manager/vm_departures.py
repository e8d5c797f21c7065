"""NICs that leave a host: what it had for their sake only is released, and others hear of it."""

from collections import defaultdict
from collections.abc import Iterable
from uuid import UUID

from viaduct_common.postgres.pool import Connection
from viaduct_manager import announce, peers
from viaduct_manager.store import hosts, vm_networks
from viaduct_manager.store.nics import Nic


async def leave(connection: Connection, l2s_by_host: dict[UUID, set[UUID]]) -> None:
    """Release what NICs have left behind. It is not waited for: a host that is away does it when it returns, and one
    where a tap is still plugged in when that is gone.

    Args:
        l2s_by_host: the networks that NICs were on; the rows say that they are not any more.
    """
    for host_uuid in sorted(l2s_by_host):
        # Locked, so that no NIC comes meanwhile: whoever brings one locks the host, too.
        await hosts.find_locked(connection, host_uuid)
        ordered = await vm_networks.leave(connection, host_uuid, sorted(l2s_by_host[host_uuid]))
        await announce.orders(connection, ordered)
    await peers.mark_stale(connection, set().union(*l2s_by_host.values()), at_once=True)


def places(nics: Iterable[Nic]) -> dict[UUID, set[UUID]]:
    """The networks of NICs by host, both hosts of those that are being moved."""
    found: dict[UUID, set[UUID]] = defaultdict(set)
    for nic in nics:
        for host_uuid in (nic.host_uuid, nic.migrating_to_host_uuid):
            if host_uuid is not None:
                found[host_uuid].add(nic.l2_uuid)
    return dict(found)


def destinations(nics: Iterable[Nic]) -> dict[UUID, set[UUID]]:
    """The networks of NICs by the host that they are being moved to."""
    found: dict[UUID, set[UUID]] = defaultdict(set)
    for nic in nics:
        if nic.migrating_to_host_uuid is not None:
            found[nic.migrating_to_host_uuid].add(nic.l2_uuid)
    return dict(found)
