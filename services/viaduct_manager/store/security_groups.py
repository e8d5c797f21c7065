"""Security groups in Postgres, and the L3 networks that they are attached to."""

from collections.abc import Collection
from typing import Any
from uuid import UUID

from viaduct_common.errors import NotFound
from viaduct_common.messages.base import Page
from viaduct_common.messages.services.security_groups import (
    CreateSecurityGroup,
    QuerySecurityGroups,
    SecurityGroupInventory,
    UpdateSecurityGroup,
)
from viaduct_common.postgres.paging import Column, Listing, list_page
from viaduct_common.postgres.pool import Connection
from viaduct_manager.store.rows import creating, require_updated

KIND = "security group"

_SELECT = """
    SELECT security_group.*,
           ARRAY(SELECT l3_uuid FROM security_group_l3 WHERE group_uuid = security_group.uuid ORDER BY l3_uuid)
               AS l3_network_uuids,
           (SELECT coalesce(jsonb_agg(jsonb_build_object(
                'uuid', rule.uuid, 'securityGroupUuid', rule.group_uuid, 'direction', rule.direction,
                'ipVersion', rule.ip_version, 'protocol', rule.protocol, 'ports', rule.ports,
                'icmpType', rule.icmp_type, 'icmpCode', rule.icmp_code, 'cidrs', to_jsonb(rule.cidrs::text[]),
                'remoteGroupUuid', rule.remote_group_uuid, 'action', rule.action, 'priority', rule.priority,
                'enabled', rule.enabled, 'default', rule.is_default, 'description', rule.description)
                ORDER BY rule.priority, rule.is_default, rule.place), '[]')
            FROM security_group_rule AS rule WHERE rule.group_uuid = security_group.uuid) AS rules
    FROM security_group
"""
_GET = _SELECT + " WHERE uuid = $1"
_INSERT = "INSERT INTO security_group (uuid, name, description) VALUES ($1, $2, $3)"
_REVISION = "SELECT revision FROM security_group WHERE uuid = $1"
_LOCK = "SELECT uuid FROM security_group WHERE uuid = $1 FOR NO KEY UPDATE"
_LOCK_WHOLE = "SELECT uuid FROM security_group WHERE uuid = $1 FOR UPDATE"
_HOLD = "SELECT uuid FROM security_group WHERE uuid = ANY($1::uuid[]) ORDER BY uuid FOR KEY SHARE"
_UPDATE = """
    UPDATE security_group SET name = coalesce($2, name), description = coalesce($3, description),
                              revision = revision + 1, updated_at = now()
    WHERE uuid = $1 AND ($4::int IS NULL OR revision = $4) RETURNING uuid
"""
_TOUCH = "UPDATE security_group SET revision = revision + 1, updated_at = now() WHERE uuid = $1"
_USERS = """
    SELECT ARRAY(SELECT nic_uuid FROM security_group_member AS member JOIN nic ON nic.uuid = nic_uuid
                 WHERE group_uuid = $1 AND nic.state <> 'releasing' ORDER BY nic_uuid LIMIT 100) AS nic_uuids,
           ARRAY(SELECT uuid FROM security_group_rule
                 WHERE remote_group_uuid = $1 AND group_uuid <> $1 ORDER BY uuid LIMIT 100) AS rule_uuids
"""
_DELETE = (
    "DELETE FROM security_group_member WHERE group_uuid = $1",  # of NICs that are being released
    "DELETE FROM security_group_rule WHERE group_uuid = $1",
    "DELETE FROM security_group WHERE uuid = $1",
)
_ATTACH = """
    INSERT INTO security_group_l3 (group_uuid, l3_uuid) SELECT $1, unnest($2::uuid[]) ON CONFLICT DO NOTHING
    RETURNING l3_uuid
"""
_HOLD_L3S = "SELECT uuid FROM l3_network WHERE uuid = ANY($1::uuid[]) ORDER BY uuid FOR KEY SHARE"
_SERVED = "SELECT l3_uuid FROM l3_service WHERE l3_uuid = ANY($1::uuid[]) AND service_type = 'SecurityGroup'"
_LOCK_ATTACHED = """
    SELECT l3_uuid FROM security_group_l3 WHERE group_uuid = $1 AND l3_uuid = ANY($2::uuid[]) ORDER BY l3_uuid
    FOR UPDATE
"""
_MEMBERS_ON = """
    SELECT nic_uuid FROM security_group_member JOIN nic ON nic.uuid = nic_uuid
    WHERE group_uuid = $1 AND security_group_member.l3_uuid = ANY($2::uuid[]) AND nic.state <> 'releasing'
    ORDER BY nic_uuid LIMIT 100
"""
_DETACH = (
    "DELETE FROM security_group_member WHERE group_uuid = $1 AND l3_uuid = ANY($2::uuid[])",  # of NICs that go
    "DELETE FROM security_group_l3 WHERE group_uuid = $1 AND l3_uuid = ANY($2::uuid[])",
)
_LISTING = Listing(
    select=_SELECT,
    columns={
        "uuid": Column("uuid", "uuid"),
        "name": Column("name", "text"),
        "l3NetworkUuid": Column("uuid", "uuid", "l3_network_uuids && {}"),
        "nicUuid": Column(
            "uuid", "uuid", "uuid IN (SELECT group_uuid FROM security_group_member WHERE nic_uuid = ANY({}))"
        ),
        "createdAt": Column("created_at", "timestamptz"),
    },
    key=Column("uuid", "uuid"),
    default_sort="createdAt",
)


async def create(connection: Connection, uuid: UUID, request: CreateSecurityGroup) -> None:
    """Without rules."""
    with creating(KIND, uuid):
        await connection.execute(_INSERT, uuid, request.name, request.description)


async def find(connection: Connection, uuid: UUID) -> SecurityGroupInventory | None:
    row = await connection.fetchrow(_GET, uuid)
    return None if row is None else _inventory(row)


async def get(connection: Connection, uuid: UUID) -> SecurityGroupInventory:
    """Raises:
    NotFound: there is none.
    """
    found = await find(connection, uuid)
    if found is None:
        raise NotFound.of(KIND, uuid)
    return found


async def query(connection: Connection, request: QuerySecurityGroups) -> Page[SecurityGroupInventory]:
    page = await list_page(connection, _LISTING, request, request.filters)
    return Page(items=[_inventory(row) for row in page.rows], after=page.after)


async def lock(connection: Connection, uuid: UUID, *, field: str) -> None:
    """Its rules and where it is attached do not change until the transaction ends; NICs may join it meanwhile.

    Raises:
        NotFound: there is none; `details.field` is `field`.
    """
    if await connection.fetchval(_LOCK, uuid) is None:
        missing = NotFound.of(KIND, uuid)
        missing.details["field"] = field
        raise missing


async def find_locked(connection: Connection, uuid: UUID) -> SecurityGroupInventory | None:
    """Nobody else reaches it, nor refers to it, until the transaction ends."""
    await connection.execute(_LOCK_WHOLE, uuid)
    return await find(connection, uuid)


async def hold(connection: Connection, uuids: Collection[UUID]) -> set[UUID]:
    """Those that there are; they are not deleted until the transaction ends."""
    return {row["uuid"] for row in await connection.fetch(_HOLD, list(uuids))}


async def update(connection: Connection, request: UpdateSecurityGroup) -> SecurityGroupInventory:
    row = await connection.fetchrow(_UPDATE, request.uuid, request.name, request.description, request.revision)
    await require_updated(connection, row, KIND, request.uuid, exists_sql=_REVISION, revision=request.revision)
    return await get(connection, request.uuid)


async def touch(connection: Connection, uuid: UUID) -> SecurityGroupInventory:
    """Its rules or networks are others."""
    await connection.execute(_TOUCH, uuid)
    return await get(connection, uuid)


async def users(connection: Connection, uuid: UUID) -> tuple[list[UUID], list[UUID]]:
    """NICs in the group, and rules of other groups that name it; a hundred of each at most."""
    row = await connection.fetchrow(_USERS, uuid)
    return row["nic_uuids"], row["rule_uuids"]


async def delete(connection: Connection, uuid: UUID) -> None:
    for statement in _DELETE:
        await connection.execute(statement, uuid)


async def hold_l3s(connection: Connection, l3_uuids: Collection[UUID]) -> tuple[set[UUID], set[UUID]]:
    """The L3 networks that there are, and those with the service; neither changes until the transaction ends."""
    known = {row["uuid"] for row in await connection.fetch(_HOLD_L3S, list(l3_uuids))}
    return known, {row["l3_uuid"] for row in await connection.fetch(_SERVED, list(known))}


async def attach(connection: Connection, uuid: UUID, l3_uuids: Collection[UUID]) -> bool:
    """True if that is news."""
    return bool(await connection.fetch(_ATTACH, uuid, list(l3_uuids)))


async def lock_attached(connection: Connection, uuid: UUID, l3_uuids: Collection[UUID]) -> list[UUID]:
    """Those of the L3 networks that it is attached to; no NIC there becomes a member until the transaction ends."""
    return [row["l3_uuid"] for row in await connection.fetch(_LOCK_ATTACHED, uuid, list(l3_uuids))]


async def members_on(connection: Connection, uuid: UUID, l3_uuids: Collection[UUID]) -> list[UUID]:
    """NICs of these L3 networks that are members, a hundred at most."""
    return [row["nic_uuid"] for row in await connection.fetch(_MEMBERS_ON, uuid, list(l3_uuids))]


async def detach(connection: Connection, uuid: UUID, l3_uuids: Collection[UUID]) -> None:
    for statement in _DETACH:
        await connection.execute(statement, uuid, list(l3_uuids))


def _inventory(row: Any) -> SecurityGroupInventory:
    return SecurityGroupInventory.model_validate(dict(row))
