"""Tunnelled networks in Postgres: which hosts are in them, and whose peers are to be looked at again."""

from collections import defaultdict
from collections.abc import Iterable
from uuid import UUID

from viaduct_common.messages.agent import PeerNic
from viaduct_common.postgres.pool import Connection
from viaduct_manager.model.tunnels import Cidr, Place, Tunnels, tunnel_end

# Beside the hosts that should have a network: those of a cluster that would, and those that are asked about it.
_PLACES = """
    WITH tunnelled AS (
        SELECT l2_network.uuid AS l2_uuid, origin.uuid AS origin_uuid
        FROM l2_network JOIN l2_network AS origin ON origin.uuid = coalesce(l2_network.parent_uuid, l2_network.uuid)
        WHERE l2_network.uuid = ANY($1::uuid[]) AND origin.tunnelled
    ), place AS (
        SELECT l2_uuid, host_uuid, bool_or(member) AS member
        FROM (
            SELECT l2_uuid, host_uuid, true AS member
            FROM tunnelled JOIN realization USING (l2_uuid) WHERE realization.desired = 'present'
            UNION ALL
            SELECT l2_uuid, host.uuid, true FROM tunnelled, host WHERE host.cluster_uuid = $2
            UNION ALL
            SELECT l2_uuid, asked.host_uuid, false
            FROM tunnelled JOIN unnest($3::uuid[], $4::uuid[]) AS asked(l2_uuid, host_uuid) USING (l2_uuid)
        ) AS found
        GROUP BY l2_uuid, host_uuid
    ), cidr AS (
        SELECT place.l2_uuid, host.uuid AS host_uuid,
               CASE WHEN host.cluster_uuid = $2 AND $5::cidr IS NOT NULL THEN $5 ELSE attachment.tunnel_cidr END AS cidr
        FROM place JOIN tunnelled USING (l2_uuid) JOIN host ON host.uuid = place.host_uuid
        LEFT JOIN attachment
            ON attachment.l2_uuid = tunnelled.origin_uuid AND attachment.cluster_uuid = host.cluster_uuid
    )
    SELECT l2_uuid, host_uuid, place.member AND NOT host.deleting AS member, cidr.cidr, host.tunnel_ip,
           CASE WHEN cidr.cidr IS NULL THEN '{}' ELSE host.addresses END AS addresses,
           realization.generation, realization.told,
           host.state = 'connected' AND NOT host.maintenance AND NOT host.deleting AS reachable
    FROM place JOIN cidr USING (l2_uuid, host_uuid) JOIN host ON host.uuid = host_uuid
    LEFT JOIN (SELECT * FROM realization WHERE desired = 'present') AS realization USING (l2_uuid, host_uuid)
    ORDER BY l2_uuid, host_uuid
"""
# A NIC on its way to another host counts where it is now.
_NICS = """
    SELECT l2_uuid, host_uuid, mac::text,
           ARRAY(SELECT host(ip) FROM nic_ip WHERE nic_ip.nic_uuid = nic.uuid ORDER BY ip) AS ips
    FROM nic WHERE l2_uuid = ANY($1::uuid[]) AND state = 'ready'
    ORDER BY l2_uuid, mac
"""
_MARK = """
    INSERT INTO stale_peers (l2_uuid, due_at)
    SELECT l2_network.uuid, now() + make_interval(secs => $2)
    FROM l2_network JOIN l2_network AS origin ON origin.uuid = coalesce(l2_network.parent_uuid, l2_network.uuid)
    WHERE l2_network.uuid = ANY($1::uuid[]) AND origin.tunnelled
"""
_OF_HOST = "SELECT l2_uuid FROM realization WHERE host_uuid = $1"
_ANY_DUE = "SELECT EXISTS (SELECT FROM stale_peers WHERE due_at <= now())"
# One refresh of a network at a time: who comes later must not write what it read earlier.
_CLAIM = """
    WITH due AS MATERIALIZED (
        SELECT DISTINCT l2_uuid FROM stale_peers WHERE due_at <= now() ORDER BY l2_uuid LIMIT $1
    )
    SELECT l2_uuid FROM due WHERE pg_try_advisory_xact_lock(hashtextextended('viaduct peers of ' || l2_uuid::text, 0))
"""
_TAKE = "DELETE FROM stale_peers WHERE l2_uuid = ANY($1::uuid[])"


async def load(
    connection: Connection,
    l2_uuids: Iterable[UUID],
    *,
    asked: Iterable[tuple[UUID, UUID]] = (),
    joining: UUID | None = None,
    cidr: Cidr | None = None,
) -> Tunnels:
    """Those of the networks that are tunnelled.

    Args:
        asked: (L2 network, host) pairs whose end is wanted also where the host is no member.
        joining: a cluster whose hosts count as members.
        cidr: of that cluster, instead of its attachment's.
    """
    pairs = list(asked)
    rows = await connection.fetch(
        _PLACES,
        list(set(l2_uuids)),
        joining,
        [l2_uuid for l2_uuid, _ in pairs],
        [host_uuid for _, host_uuid in pairs],
        cidr,
    )
    places = [
        Place(
            row["l2_uuid"],
            row["host_uuid"],
            row["member"],
            tunnel_end(row["cidr"], row["tunnel_ip"], row["addresses"]),
            row["generation"],
            row["told"],
            row["reachable"],
        )
        for row in rows
    ]
    nics: dict[tuple[UUID, UUID], list[PeerNic]] = defaultdict(list)
    if places:
        for row in await connection.fetch(_NICS, list({place.l2_uuid for place in places})):
            nics[row["l2_uuid"], row["host_uuid"]].append(PeerNic(mac=row["mac"], ips=row["ips"]))
    return Tunnels(places, nics)


async def mark_stale(connection: Connection, l2_uuids: Iterable[UUID], *, after_seconds: float) -> None:
    """Have the peers of those that are tunnelled looked at, so much later at the earliest."""
    await connection.execute(_MARK, list(set(l2_uuids)), after_seconds)


async def of_host(connection: Connection, host_uuid: UUID) -> list[UUID]:
    """All networks that are realised there, or were and are not released yet."""
    return [row["l2_uuid"] for row in await connection.fetch(_OF_HOST, host_uuid)]


async def any_stale(connection: Connection) -> bool:
    return bool(await connection.fetchval(_ANY_DUE))


async def take_stale(connection: Connection, limit: int) -> list[UUID]:
    """Networks whose peers are to be looked at now; nobody else looks at them until the transaction ends."""
    claimed = [row["l2_uuid"] for row in await connection.fetch(_CLAIM, limit)]
    # A statement of its own, after the locks: what it takes was committed, so whoever looks next sees its cause.
    await connection.execute(_TAKE, claimed)
    return claimed
