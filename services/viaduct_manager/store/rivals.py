"""What L2 networks take on a cluster, each thing once: a key, device names, spans of numbers.

Constraints decide, so that of two attaches at the same moment one wins; this says who the other is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from viaduct_common.errors import L2Conflict
from viaduct_common.postgres.pool import Connection
from viaduct_manager.l2_types.api import Span
from viaduct_manager.model.tunnels import Cidr

# Who has to wait for another's constraint sees afterwards whether that one got through.
_STAKE = """
    WITH attached AS (
        INSERT INTO attachment (l2_uuid, cluster_uuid, conflict_key, state, operation_uuid, tunnel_cidr)
        VALUES ($1, $2, $3, 'attaching', $4, $5)
        ON CONFLICT DO NOTHING RETURNING true
    ), named AS (
        INSERT INTO attachment_name (cluster_uuid, device_name, l2_uuid)
        SELECT $2, name, $1 FROM unnest($6::text[]) AS name WHERE EXISTS (SELECT FROM attached)
        ON CONFLICT DO NOTHING RETURNING true
    ), spanned AS (
        INSERT INTO attachment_span (cluster_uuid, l2_uuid, space, span)
        SELECT $2, $1, space, int8range(first, last, '[]')
        FROM unnest($7::text[], $8::bigint[], $9::bigint[]) AS claim(space, first, last)
        WHERE EXISTS (SELECT FROM attached)
        ON CONFLICT DO NOTHING RETURNING true
    )
    SELECT EXISTS (SELECT FROM attached) AND (SELECT count(*) FROM named) = cardinality($6::text[])
       AND (SELECT count(*) FROM spanned) = cardinality($7::text[])
"""
# The last one of a cluster is the one that is told: numbers say more than the key that is made of them.
_RIVALS = """
    SELECT 1 AS rank, attachment.cluster_uuid, attachment.l2_uuid, 'interface and tag' AS about
    FROM attachment
    WHERE attachment.cluster_uuid = ANY($1::uuid[]) AND attachment.conflict_key = $3 AND attachment.l2_uuid <> $2
    UNION ALL
    SELECT 2, cluster_uuid, l2_uuid, 'device name ' || device_name
    FROM attachment_name
    WHERE cluster_uuid = ANY($1::uuid[]) AND device_name = ANY($4::text[]) AND l2_uuid <> $2
    UNION ALL
    SELECT 3, cluster_uuid, l2_uuid, space || ' ' || lower(shared)
           || CASE WHEN upper(shared) - 1 > lower(shared) THEN ' to ' || upper(shared) - 1 ELSE '' END
    FROM (
        SELECT attachment_span.*, span * int8range(first, last, '[]') AS shared
        FROM attachment_span
        JOIN unnest($5::text[], $6::bigint[], $7::bigint[]) AS claim(space, first, last) USING (space)
        WHERE cluster_uuid = ANY($1::uuid[]) AND span && int8range(first, last, '[]') AND l2_uuid <> $2
    ) AS overlap
"""
_NAMED = f"""
    SELECT rival.*, l2_network.name FROM ({_RIVALS}) AS rival JOIN l2_network ON l2_network.uuid = rival.l2_uuid
    ORDER BY rank, rival.l2_uuid
"""


@dataclass(frozen=True)
class Claim:
    """What a network takes on each cluster that it is attached to."""

    l2_uuid: UUID
    conflict_key: str
    device_names: Sequence[str]
    spans: Sequence[Span]


async def stake(
    connection: Connection, cluster_uuid: UUID, claim: Claim, operation_uuid: UUID, tunnel_cidr: Cidr | None
) -> bool:
    """Attach the network, with its key, names and numbers; False if it is attached, or another has one of them."""
    return bool(
        await connection.fetchval(
            _STAKE,
            claim.l2_uuid,
            cluster_uuid,
            claim.conflict_key,
            operation_uuid,
            tunnel_cidr,
            list(claim.device_names),
            *_columns(claim.spans),
        )
    )


async def find(connection: Connection, cluster_uuids: list[UUID], claim: Claim) -> dict[UUID, L2Conflict]:
    """By cluster, the conflict with what is attached there."""
    rows = await connection.fetch(
        _NAMED,
        cluster_uuids,
        claim.l2_uuid,
        claim.conflict_key,
        list(claim.device_names),
        *_columns(claim.spans),
    )
    return {
        row["cluster_uuid"]: L2Conflict(
            f"L2 network {row['name']} has the same {row['about']} on this cluster",
            l2NetworkUuid=str(row["l2_uuid"]),
            clusterUuid=str(row["cluster_uuid"]),
            about=row["about"],
        )
        for row in rows
    }


def _columns(spans: Sequence[Span]) -> tuple[list[str], list[int], list[int]]:
    return [span.space for span in spans], [span.first for span in spans], [span.last for span in spans]
