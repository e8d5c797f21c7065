"""The three backends, told in the manager's words."""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID, uuid5

from viaduct_agent.services.api import ServiceOnHost
from viaduct_agent.services.security.backends import (
    SecurityMembersBackend,
    SecurityNicBackend,
    SecurityRulesBackend,
)
from viaduct_agent.services.security.model import Instance, World, parse
from viaduct_agent.services.tools import ServiceTools
from viaduct_common.messages.services.security_specs import SECURITY_MEMBERS, SECURITY_NIC, SECURITY_RULES

from .machines import BRIDGE, Machine

_SPACE = UUID(int=7)


def named(*words: object) -> UUID:
    """The same uuid for the same words."""
    return uuid5(_SPACE, "/".join(map(str, words)))


def nic(machine: Machine, groups: Iterable[str] = (), *, bridge: str = BRIDGE, **more: Any) -> ServiceOnHost:
    spec = {
        "nicUuid": str(named("nic", machine.netns)), "deviceName": machine.tap, "bridge": bridge,
        "mac": machine.mac, "ips": [str(machine.ipv4), str(machine.ipv6)],
        "groups": [str(named("group", group)) for group in groups], **more,
    }  # fmt: skip
    return ServiceOnHost(named("nic instance", machine.netns), SECURITY_NIC, 1, spec)


def rule(direction: str = "ingress", version: int = 4, protocol: str = "TCP", *, ports: Sequence[tuple[int, int]] = (),
         group: str | None = None, action: str = "allow", **more: Any) -> dict[str, Any]:  # fmt: skip
    return {
        "ruleUuid": str(named("rule", direction, version, protocol, ports, group, action, sorted(more.items()))),
        "direction": direction, "ipVersion": version, "protocol": protocol, "action": action,
        "ports": [{"start": first, "end": last} for first, last in ports],
        "remoteGroupUuid": None if group is None else str(named("group", group)), **more,
    }  # fmt: skip


def rules(group: str, *rules: dict[str, Any]) -> ServiceOnHost:
    spec = {"groupUuid": str(named("group", group)), "rules": list(rules)}
    return ServiceOnHost(named("rules", group), SECURITY_RULES, 1, spec)


def members(group: str, ips: Iterable[object], slice_: int = 0) -> ServiceOnHost:
    spec = {"groupUuid": str(named("group", group)), "slice": slice_, "ips": sorted(map(str, ips))}
    return ServiceOnHost(named("members", group, slice_), SECURITY_MEMBERS, 1, spec)


def world_of(wants: Iterable[ServiceOnHost]) -> World:
    return World({want.uuid: Instance(want.kind, want.generation, parse(want.kind, want.spec)) for want in wants})


class Filter:
    """`wanted` is all that was applied and not removed."""

    def __init__(self, tools: ServiceTools) -> None:
        self.backends = {
            backend.kind: backend
            for backend in (SecurityNicBackend(tools), SecurityRulesBackend(tools), SecurityMembersBackend(tools))
        }
        self.wanted: dict[UUID, ServiceOnHost] = {}

    async def apply(self, *wants: ServiceOnHost) -> tuple[str, ...]:
        steps: tuple[str, ...] = ()
        for want in wants:
            steps += await self.backends[want.kind].apply(want)
            self.wanted[want.uuid] = want
        return steps

    async def remove(self, *wants: ServiceOnHost) -> tuple[str, ...]:
        steps: tuple[str, ...] = ()
        for want in wants:
            steps += await self.backends[want.kind].remove(want.uuid)
            self.wanted.pop(want.uuid, None)
        return steps

    async def clear(self) -> None:
        await self.remove(*list(self.wanted.values()))

    @property
    def world(self) -> World:
        return world_of(self.wanted.values())
