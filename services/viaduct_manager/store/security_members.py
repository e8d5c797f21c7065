"""Which NICs are in which security groups, in Postgres, and the NICs' default policies."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from viaduct_common.messages.services.security_groups import NicSecurityPolicy, SetNicSecurityPolicy
from viaduct_common.postgres.pool import Connection
from viaduct_manager.model.security_membership import Grounds
from viaduct_manager.store import security_groups

# The L3 networks before the NICs, and all in one order: so nobody waits for who waits for him.
_L3S_OF = "SELECT DISTINCT l3_uuid FROM nic WHERE uuid = ANY($1::uuid[])"
_LOCK_NICS = "SELECT FROM nic WHERE uuid = ANY($1::uuid[]) ORDER BY uuid FOR NO KEY UPDATE"
_NICS = """
    SELECT nic.uuid, nic.l3_uuid,
           ARRAY(SELECT group_uuid FROM security_group_member WHERE nic_uuid = nic.uuid ORDER BY place) AS groups
    FROM nic WHERE nic.uuid = ANY($1::uuid[]) AND nic.state = 'ready'
"""
_HOLD_ATTACHED = """
    SELECT group_uuid, l3_uuid FROM security_group_l3
    WHERE group_uuid = ANY($1::uuid[]) AND l3_uuid = ANY($2::uuid[]) ORDER BY group_uuid, l3_uuid FOR KEY SHARE
"""
_ADD = """
    INSERT INTO security_group_member (nic_uuid, group_uuid, l3_uuid)
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[])
"""
_REMOVE = "DELETE FROM security_group_member WHERE group_uuid = $1 AND nic_uuid = ANY($2::uuid[])"
_PRESENT = "SELECT nic_uuid FROM security_group_member WHERE group_uuid = $1 AND nic_uuid = ANY($2::uuid[])"
_ON_L3 = """
    SELECT DISTINCT nic_uuid FROM security_group_member AS member JOIN nic ON nic.uuid = nic_uuid
    WHERE member.l3_uuid = $1 AND nic.state <> 'releasing' ORDER BY nic_uuid LIMIT 100
"""
_POLICY = """
    SELECT nic.uuid AS nic_uuid, coalesce(ingress, 'drop') AS ingress_policy,
           coalesce(egress, 'allow') AS egress_policy,
           ARRAY(SELECT group_uuid FROM security_group_member WHERE nic_uuid = nic.uuid ORDER BY place)
               AS security_group_uuids
    FROM nic LEFT JOIN nic_security_policy AS policy ON policy.nic_uuid = nic.uuid
    WHERE nic.uuid = $1 AND nic.state = 'ready'
"""
_SET_POLICY = """
    INSERT INTO nic_security_policy AS policy (nic_uuid, ingress, egress)
    VALUES ($1, coalesce($2, 'drop'), coalesce($3, 'allow'))
    ON CONFLICT (nic_uuid) DO UPDATE SET ingress = coalesce($2, policy.ingress), egress = coalesce($3, policy.egress)
"""


@dataclass(frozen=True)
class MemberNic:
    """A NIC, and its groups in order."""

    uuid: UUID
    l3_uuid: UUID
    groups: tuple[UUID, ...]


async def lock_nics(connection: Connection, uuids: Collection[UUID]) -> dict[UUID, MemberNic]:
    """Those of the NICs that are ready. Neither they, nor their groups, nor what serves their L3 networks change until
    the transaction ends."""
    asked = list(uuids)
    l3_uuids = [row["l3_uuid"] for row in await connection.fetch(_L3S_OF, asked)]
    await security_groups.hold_l3s(connection, l3_uuids)
    await connection.execute(_LOCK_NICS, asked)
    rows = await connection.fetch(_NICS, asked)  # by a statement of its own: it sees what we waited for
    return {row["uuid"]: MemberNic(row["uuid"], row["l3_uuid"], tuple(row["groups"])) for row in rows}


async def hold_grounds(connection: Connection, group_uuids: Collection[UUID], l3_uuids: Collection[UUID]) -> Grounds:
    """What decides whether NICs of these L3 networks may be in these groups; it stays so until the transaction ends."""
    _, served = await security_groups.hold_l3s(connection, l3_uuids)
    groups = await security_groups.hold(connection, group_uuids)
    rows = await connection.fetch(_HOLD_ATTACHED, list(group_uuids), list(l3_uuids))
    return Grounds(groups, {(row["group_uuid"], row["l3_uuid"]) for row in rows}, served)


async def add(connection: Connection, joining: Sequence[tuple[UUID, UUID, UUID]]) -> None:
    """(NIC, group, the NIC's L3 network), in the order in which they join; none of them is a member yet."""
    await connection.execute(_ADD, *([one[place] for one in joining] for place in range(3)))


async def present(connection: Connection, group_uuid: UUID, nic_uuids: Collection[UUID]) -> list[UUID]:
    """Those of the NICs that are in the group."""
    return [row["nic_uuid"] for row in await connection.fetch(_PRESENT, group_uuid, list(nic_uuids))]


async def remove(connection: Connection, group_uuid: UUID, nic_uuids: Collection[UUID]) -> None:
    await connection.execute(_REMOVE, group_uuid, list(nic_uuids))


async def on_l3(connection: Connection, l3_uuid: UUID) -> list[UUID]:
    """NICs of an L3 network that are in groups, a hundred at most."""
    return [row["nic_uuid"] for row in await connection.fetch(_ON_L3, l3_uuid)]


async def policy(connection: Connection, nic_uuid: UUID) -> NicSecurityPolicy | None:
    """None: there is no such NIC, or it is not ready yet, or is being released."""
    row = await connection.fetchrow(_POLICY, nic_uuid)
    return None if row is None else NicSecurityPolicy.model_validate(dict(row))


async def set_policy(connection: Connection, request: SetNicSecurityPolicy) -> None:
    await connection.execute(_SET_POLICY, request.nic_uuid, request.ingress_policy, request.egress_policy)
