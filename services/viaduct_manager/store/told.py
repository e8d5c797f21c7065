"""What hosts were last told of the tunnels of their realizations.

A generation names one end and one list of peers: once it was sent, others come with a new generation.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from viaduct_common.postgres.pool import Connection
from viaduct_manager.model.tunnels import Place, Tunnels
from viaduct_manager.store.realizations import Ordered

# Rows that somebody holds are left to the next refresh: who tells waits for nobody, and so takes part in no deadlock.
_TELL = """
    WITH due AS (
        SELECT realization.host_uuid, realization.l2_uuid, fresh.digest, fresh.reachable,
               realization.generation AS former, $6 OR realization.told IS NOT NULL AS renewed
        FROM realization JOIN unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::bool[])
            AS fresh(host_uuid, l2_uuid, generation, digest, reachable)
            ON realization.host_uuid = fresh.host_uuid AND realization.l2_uuid = fresh.l2_uuid
        WHERE realization.desired = 'present' AND realization.generation = fresh.generation
          AND realization.told IS DISTINCT FROM fresh.digest
        FOR UPDATE OF realization SKIP LOCKED
    )
    UPDATE realization
    SET told = CASE WHEN due.reachable THEN due.digest END,
        generation = CASE WHEN due.renewed THEN nextval('generation') ELSE generation END,
        state = CASE WHEN due.reachable AND state <> 'realized' THEN 'realizing' ELSE state END,
        retry_at = NULL, since = now()
    FROM due WHERE realization.host_uuid = due.host_uuid AND realization.l2_uuid = due.l2_uuid
    RETURNING realization.l2_uuid, realization.host_uuid, realization.generation, due.former, due.reachable
"""
# An operation waits for the host to do what it was told; that is the new order now. A step that somebody is ending
# just now needs no other.
_FOLLOW = """
    WITH waiting AS (
        SELECT operation_uuid, phase, operation_step.host_uuid, fresh.generation
        FROM operation_step JOIN unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS fresh(host_uuid, former, generation)
            ON operation_step.host_uuid = fresh.host_uuid AND operation_step.generation = fresh.former
        WHERE operation_step.state = 'pending'
        FOR UPDATE OF operation_step SKIP LOCKED
    )
    UPDATE operation_step SET generation = waiting.generation
    FROM waiting
    WHERE operation_step.operation_uuid = waiting.operation_uuid AND operation_step.phase = waiting.phase
      AND operation_step.host_uuid = waiting.host_uuid
"""


@dataclass(frozen=True)
class Telling:
    """What came of it: the rows whose host is told something new, and those that somebody else holds or changed."""

    told: list[Ordered]
    missed: list[Place]


async def tell(connection: Connection, tunnels: Tunnels, places: Sequence[Place], *, anew: bool) -> Telling:
    """Note what the hosts of these realizations are told now; what differs from before gets a new generation.

    Args:
        places: of `tunnels`, each with the generation that was read before `tunnels` was.
        anew: draw a new generation also where the present one was not sent yet.
    """
    if not places:
        return Telling([], [])
    rows = await connection.fetch(
        _TELL,
        [place.host_uuid for place in places],
        [place.l2_uuid for place in places],
        [place.generation for place in places],
        [tunnels.digest(place.l2_uuid, place.host_uuid) for place in places],
        [place.reachable for place in places],
        anew,
    )
    news = [row for row in rows if row["generation"] != row["former"]]
    if news:
        await connection.execute(
            _FOLLOW,
            [row["host_uuid"] for row in news],
            [row["former"] for row in news],
            [row["generation"] for row in news],
        )
    told = [Ordered(row["l2_uuid"], row["host_uuid"], "present", row["generation"], row["reachable"]) for row in rows]
    done = {(order.l2_uuid, order.host_uuid) for order in told}
    return Telling(told, [place for place in places if (place.l2_uuid, place.host_uuid) not in done])
