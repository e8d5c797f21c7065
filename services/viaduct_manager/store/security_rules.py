"""Rules of security groups in Postgres. Who changes them has locked their group."""

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from viaduct_common.errors import NotFound
from viaduct_common.messages.services.security_groups import NewRule, UpdateSecurityGroupRule
from viaduct_common.postgres.pool import Connection
from viaduct_manager.model.security_rules import StoredRule, already_there, matches

KIND = "security group rule"

_OF = "SELECT * FROM security_group_rule WHERE group_uuid = ANY($1::uuid[]) ORDER BY place"
_GROUP_OF = "SELECT group_uuid FROM security_group_rule WHERE uuid = $1"
_ADD = """
    INSERT INTO security_group_rule (uuid, group_uuid, direction, ip_version, protocol, ports, icmp_type, icmp_code,
                                     cidrs, remote_group_uuid, action, priority, enabled, is_default, description,
                                     matches)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
"""
_UPDATE = """
    UPDATE security_group_rule SET description = coalesce($2, description), enabled = coalesce($3, enabled),
                                   priority = coalesce($4, priority), action = coalesce($5, action)
    WHERE uuid = $1
"""
_SAME = """
    SELECT other.uuid FROM security_group_rule AS rule JOIN security_group_rule AS other
      ON other.group_uuid = rule.group_uuid AND other.matches = rule.matches AND other.uuid <> rule.uuid
    WHERE rule.uuid = $1
"""
_REMOVE = "DELETE FROM security_group_rule WHERE uuid = ANY($1::uuid[])"


async def of(connection: Connection, group_uuids: Collection[UUID]) -> dict[UUID, list[StoredRule]]:
    """By group; one without rules, or that is not there, is missing."""
    found: dict[UUID, list[StoredRule]] = {}
    for row in await connection.fetch(_OF, list(group_uuids)):
        found.setdefault(row["group_uuid"], []).append(_stored(row))
    return found


async def group_of(connection: Connection, rule_uuid: UUID) -> UUID:
    """Raises:
    NotFound: there is no such rule.
    """
    found: UUID | None = await connection.fetchval(_GROUP_OF, rule_uuid)
    if found is None:
        missing = NotFound.of(KIND, rule_uuid)
        missing.details["field"] = "ruleUuid"
        raise missing
    return found


async def add(connection: Connection, group_uuid: UUID, rules: Sequence[NewRule], *, default: bool = False) -> None:
    """None of them is there yet."""
    rows = [
        (
            uuid4(),
            group_uuid,
            one.direction,
            one.ip_version,
            one.protocol,
            [ports.model_dump(mode="json") for ports in one.ports],
            one.icmp_type,
            one.icmp_code,
            list(one.cidrs),
            one.remote_group_uuid,
            one.action,
            one.priority,
            one.enabled,
            default,
            one.description,
            matches(one),
        )
        for one in rules
    ]
    await connection.executemany(_ADD, rows)


async def update(connection: Connection, request: UpdateSecurityGroupRule) -> None:
    """Raises:
    AlreadyExists: with this action it is the same as another.
    """
    try:
        async with connection.transaction():  # a savepoint: which other is looked up after
            await connection.execute(
                _UPDATE, request.rule_uuid, request.description, request.enabled, request.priority, request.action
            )
    except asyncpg.UniqueViolationError as error:
        raise already_there("action", await connection.fetchval(_SAME, request.rule_uuid)) from error


async def remove(connection: Connection, rule_uuids: Collection[UUID]) -> None:
    await connection.execute(_REMOVE, list(rule_uuids))


def _stored(row: Any) -> StoredRule:
    rule = NewRule.model_validate(
        {
            "direction": row["direction"],
            "ip_version": row["ip_version"],
            "protocol": row["protocol"],
            "ports": row["ports"],
            "icmp_type": row["icmp_type"],
            "icmp_code": row["icmp_code"],
            "cidrs": row["cidrs"],
            "remote_group_uuid": row["remote_group_uuid"],
            "action": row["action"],
            "priority": row["priority"],
            "enabled": row["enabled"],
            "description": row["description"],
        }
    )
    return StoredRule(row["uuid"], rule, row["is_default"], row["place"])
