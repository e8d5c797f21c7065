"""Telling the world when an L3 network fills up."""

from viaduct_common import topology
from viaduct_common.bus import Outgoing
from viaduct_common.messages.ipam import IpamEvent, IpCapacity, ScopeFill
from viaduct_common.postgres.outbox import enqueue
from viaduct_common.postgres.pool import Connection
from viaduct_ipam.model.fill import fill_level
from viaduct_ipam.model.state import ScopeState

_SET_LEVEL_V4 = "UPDATE scope SET fill_level_v4 = $2 WHERE l3_network_uuid = $1"
_SET_LEVEL_V6 = "UPDATE scope SET fill_level_v6 = $2 WHERE l3_network_uuid = $1"


def changed_levels(state: ScopeState) -> dict[int, int]:
    """The new level by IP version, where it is another than was announced last."""
    changed = {}
    for version, fill in state.fill().items():
        level = fill_level(fill.used + fill.cooling, fill.total - fill.reserved, state.fill_levels[version])
        if level != state.fill_levels[version]:
            changed[version] = level
    return changed


async def announce_fill(connection: Connection, state: ScopeState) -> None:
    """Publish `scope.filled` or `scope.relieved` with the transaction, for each IP version whose level has changed. The
    scope is locked, and its state is what the transaction has made of it."""
    for version, level in changed_levels(state).items():
        event_type = "scope.filled" if level > state.fill_levels[version] else "scope.relieved"
        fill = state.fill()[version]
        subject = ScopeFill(
            l3_network_uuid=state.l3_network_uuid,
            l2_network_uuid=state.l2_network_uuid,
            zone_uuid=state.zone_uuid,
            ip_version=version,
            level=level,
            capacity=IpCapacity(
                total=fill.total,
                used=fill.used,
                reserved=fill.reserved,
                available=fill.total - fill.used - fill.cooling - fill.reserved,
                cooling=fill.cooling,
            ),
        )
        await connection.execute(_SET_LEVEL_V4 if version == 4 else _SET_LEVEL_V6, state.l3_network_uuid, level)
        body = IpamEvent(subject=subject.model_dump(mode="json")).to_json()
        await enqueue(
            connection,
            [Outgoing(topology.EVENTS, routing_key=event_type, type=event_type, body=body, mandatory=False)],
        )
        state.fill_levels[version] = level
