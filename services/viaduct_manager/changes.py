"""Changes of VLAN or MTU: the part of the conductor that alters an attached network, and puts it back.

Every function runs in a transaction that holds the lock on the operation.
"""

from viaduct_common.postgres.pool import Connection
from viaduct_manager import announce
from viaduct_manager.store import changes, l2_networks, service_marks
from viaduct_manager.store.changes import Values
from viaduct_manager.store.operations import Operation
from viaduct_manager.store.realizations import Ordered


async def apply(connection: Connection, operation: Operation) -> list[Ordered]:
    """The network is as it is wanted from here on; what its hosts are to be told."""
    return await _put(connection, operation, (await changes.of_operation(connection, operation.uuid)).wanted)


async def revert(connection: Connection, operation: Operation) -> list[Ordered]:
    """The network is as it was from here on; what its hosts are to be told."""
    return await _put(connection, operation, (await changes.of_operation(connection, operation.uuid)).former)


async def close(connection: Connection, operation: Operation, *, changed: bool) -> None:
    """Keep the place that the network has now, and no other."""
    if operation.l2_uuid is not None:
        change = await changes.of_operation(connection, operation.uuid)
        await changes.disclaim(connection, operation.l2_uuid, change.wanted if changed else change.former)


async def _put(connection: Connection, operation: Operation, values: Values) -> list[Ordered]:
    if operation.l2_uuid is None:
        return []
    await changes.put(connection, operation.l2_uuid, values)
    await service_marks.mark_l2(connection, operation.l2_uuid)
    await changes.lock_clusters(connection, operation.l2_uuid)  # or a host that joins just now is told the old values
    await announce.event(connection, "l2.updated", await l2_networks.get(connection, operation.l2_uuid))
    return await changes.renew(connection, operation.l2_uuid)
