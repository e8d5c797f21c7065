"""Hosts learn of each other: when a tunnelled network's hosts, their ends or their NICs change, the others are told.

Whoever changes them marks the network, in the transaction of the change, and is done: marks are only ever added, so
nobody waits for anybody. The `PeerRefresher` of some manager looks at marked networks, one at a time each, in a
transaction that begins after the change was committed: of two hosts that join at the same moment both marks are
looked at after both are in, and each learns of the other. It compares what each host was last told with what it
should know, so a mark too many costs a look and no message, and it waits for no lock.
"""

from collections.abc import Iterable
from uuid import UUID

import structlog

from viaduct_common.postgres.pool import Connection, Pool, single_statements, transaction
from viaduct_common.postgres.wakeful import Wakeful
from viaduct_manager import announce
from viaduct_manager.store import told, tunnels

log = structlog.get_logger()

# NICs come and go by the thousand: those of so long are told of together.
GATHER_SECONDS = 0.4
# Whatever another manager left behind, or was put off, is found so soon.
POLL_SECONDS = 0.2
# A crowd of commits is one look.
SPACING_SECONDS = 0.02
# What somebody else was at just now is looked at again.
AGAIN_SECONDS = 0.1
NETWORKS_AT_ONCE = 512


async def mark_stale(connection: Connection, l2_uuids: Iterable[UUID], *, at_once: bool = False) -> None:
    """These networks' hosts, ends or NICs change in this transaction; those that are not tunnelled do not matter.

    Args:
        at_once: tell after the commit, not together with what else comes within `GATHER_SECONDS`: for hosts that come
            and go, and for a NIC that moves while its VM runs.
    """
    await tunnels.mark_stale(connection, l2_uuids, after_seconds=0 if at_once else GATHER_SECONDS)


async def mark_host(connection: Connection, host_uuid: UUID) -> None:
    """The host comes, goes, moves, or its tunnels end elsewhere: all its networks, those it must release included."""
    await mark_stale(connection, await tunnels.of_host(connection, host_uuid), at_once=True)


async def refresh(connection: Connection, l2_uuids: list[UUID]) -> int:
    """Order anew where a host knows another end or other peers than there are; return how many realizations.

    A host gets one message, however many of its networks changed. A network that is in use stays `realized` meanwhile.
    """
    seen = await tunnels.load(connection, l2_uuids)
    telling = await told.tell(connection, seen, seen.untold(), anew=True)
    await tunnels.mark_stale(connection, [place.l2_uuid for place in telling.missed], after_seconds=AGAIN_SECONDS)
    await announce.orders(connection, telling.told, seen=seen)
    return len(telling.told)


class PeerRefresher:
    """Any number of managers may run one each."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._loop = Wakeful("peers", self._look, poll_seconds=POLL_SECONDS, spacing_seconds=SPACING_SECONDS)

    def wake(self) -> None:
        """Something was committed: do not wait for the next poll."""
        self._loop.wake()

    async def run(self) -> None:
        """Until cancelled."""
        await self._loop.run()

    async def _look(self) -> bool:
        async with single_statements(self._pool) as connection:
            if not await tunnels.any_stale(connection):
                return False
        async with transaction(self._pool) as connection:
            l2_uuids = await tunnels.take_stale(connection, NETWORKS_AT_ONCE)
            if not l2_uuids:  # another manager is at them
                return False
            renewed = await refresh(connection, l2_uuids)
        if renewed:
            log.info("peers_told", l2_networks=len(l2_uuids), realizations=renewed)
        return False
