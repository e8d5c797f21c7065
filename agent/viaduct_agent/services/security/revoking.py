"""Which connections a change may have to do with, and what becomes of each. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from uuid import UUID

from viaduct_agent.services.security.conntrack import Connection
from viaduct_agent.services.security.model import Address, Group, Instance, Members, Nic, World
from viaduct_agent.services.security.rules import named_groups
from viaduct_agent.services.security.verdicts import admitted


def touched(uuid: UUID, before: World, after: World) -> frozenset[Address]:
    """The addresses of whose connections another word may be said, when one instance changed."""
    instances = [world.instances.get(uuid) for world in (before, after)]
    old, new = (None if instance is None else instance.body for instance in instances)
    if old == new:
        return frozenset()
    found: set[Address] = set()
    for body in (old, new):
        if isinstance(body, Nic):
            found |= body.ips
        elif isinstance(body, Group):
            found.update(ip for nic in after.nics.values() if body.uuid in nic.groups for ip in nic.ips)
    groups = {body.group for body in (old, new) if isinstance(body, Members)}
    named = {name for world in (before, after) for group in world.groups.values() for name in named_groups(group)}
    for group in groups & named:
        found |= before.members.get(group, frozenset()) ^ after.members.get(group, frozenset())
    return frozenset(found)


def verdicts(found: Iterable[Connection], world: World, bridge_of: Mapping[int, str]) -> list[tuple[Connection, bool]]:
    """The connections whose mark is wrong, and what it should be: True for revoked."""
    changes = []
    for connection in found:
        flow = replace(connection.flow, bridge=bridge_of.get(connection.zone))
        if connection.revoked == admitted(flow, world):
            changes.append((connection, not connection.revoked))
    return changes


def with_instance(world: World, uuid: UUID, instance: Instance | None) -> World:
    """The world with one instance changed, or without it."""
    instances = {key: value for key, value in world.instances.items() if key != uuid}
    if instance is not None:
        instances[uuid] = instance
    return World(instances)
