"""What tests of security groups share: L3 networks with the service, groups, and what hosts hold of them."""

import asyncio
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from integration.manager.eventually import eventually
from integration.manager.scripted_agent import ScriptedAgent
from integration.manager.scripted_services import APPLY, REMOVE
from integration.manager.vms import Vms

from viaduct_common.client import ViaductClient
from viaduct_common.messages.services.security_groups import SecurityGroupInventory
from viaduct_common.messages.services.security_specs import SECURITY_MEMBERS, SECURITY_NIC, SECURITY_RULES
from viaduct_common.messages.vm import NicInventory
from viaduct_manager.model.security_rules import slice_of
from viaduct_manager.network_services.api import ServiceKey, provider_uuid

PROVIDER = provider_uuid("SecurityGroup")
SSH: dict[str, Any] = {"direction": "ingress", "protocol": "TCP", "ports": [{"start": 22}]}


@dataclass
class Guarded:
    vms: Vms

    @property
    def client(self) -> ViaductClient:
        return self.vms.client

    async def join(self, **script: Any) -> ScriptedAgent:
        return await self.vms.fleet.join(**script)

    async def l3(self, *, served: bool = True) -> UUID:
        l3 = await self.vms.l3(await self.vms.attached_l2())
        if served:
            await self.serve(l3)
        return l3

    async def serve(self, l3: UUID) -> None:
        await self.client.l3.attach_services(l3_network_uuid=l3, services={PROVIDER: ["SecurityGroup"]})

    async def unserve(self, l3: UUID) -> None:
        await self.client.l3.detach_services(l3_network_uuid=l3, services={PROVIDER: ["SecurityGroup"]})

    async def group(self, *l3s: UUID) -> SecurityGroupInventory:
        group = await self.client.security_group.create(name="group")
        if l3s:
            await self.client.security_group.attach_l3(security_group_uuid=group.uuid, l3_network_uuids=list(l3s))
        return group

    async def nic(self, agent: ScriptedAgent, l3: UUID, *groups: UUID, vm: UUID | None = None) -> NicInventory:
        request = {"l3_network_uuid": l3, "security_group_uuids": list(groups)}
        [nic] = await self.vms.prepare(vm or uuid4(), agent, [request])
        return nic

    async def add(self, group: UUID, *nics: UUID) -> SecurityGroupInventory:
        return await self.client.security_group.add_nics(security_group_uuid=group, nic_uuids=list(nics))

    async def remove(self, group: UUID, *nics: UUID) -> SecurityGroupInventory:
        return await self.client.security_group.remove_nics(security_group_uuid=group, nic_uuids=list(nics))

    async def rule(self, group: UUID, **rule: Any) -> UUID:
        """Add one; its uuid."""
        before = {one.uuid for one in (await self.client.security_group.get(uuid=group)).rules}
        after = await self.client.security_group.add_rules(security_group_uuid=group, rules=[{**SSH, **rule}])
        [new] = {one.uuid for one in after.rules} - before
        return new

    async def policy(self, nic: UUID) -> Any:
        return await self.client.nic.get_security_policy(nic_uuid=nic)

    async def quiet(self) -> None:
        """Nothing is marked, and every host of the cluster has done what it was told."""
        hosts = ", ".join(f"'{agent.uuid}'" for agent in self.vms.fleet.agents)
        unsettled = (
            "SELECT (SELECT count(*) FROM stale_service), count(*) FROM service_on_host"
            f" WHERE state <> 'applied' AND host_uuid IN ({hosts})"
        )

        async def seen() -> str:
            return await asyncio.to_thread(self.vms.fleet.place.sql, unsettled)

        await eventually(seen, lambda one: one == "0|0", seconds=30)


def held(agent: ScriptedAgent, kind: str, subject: UUID, part: int = 0) -> Any:
    """What a host holds of an instance, None for nothing."""
    found = agent.services.held.get(ServiceKey(kind, subject, part).uuid)
    return None if found is None else found.spec


def groups_of(agent: ScriptedAgent, nic: UUID) -> list[str] | None:
    """The groups of a NIC, as a host has it; None if it does not have the NIC."""
    spec = held(agent, SECURITY_NIC, nic)
    return None if spec is None else spec["groups"]


def rules(agent: ScriptedAgent, group: UUID) -> list[dict[str, Any]] | None:
    spec = held(agent, SECURITY_RULES, group)
    return None if spec is None else spec["rules"]


def members(agent: ScriptedAgent, group: UUID) -> set[str]:
    """The addresses of a group's members that a host has."""
    found = (held(agent, SECURITY_MEMBERS, group, part) for part in range(64))
    return {ip for spec in found if spec is not None for ip in spec["ips"]}


def knows(agent: ScriptedAgent, group: UUID, nic: NicInventory) -> bool:
    spec = held(agent, SECURITY_MEMBERS, group, slice_of(nic.uuid))
    return spec is not None and str(nic.ips[0].ip) in spec["ips"]


def told(agent: ScriptedAgent, since: int) -> list[Any]:
    """The service commands that a host heard since it had heard so many commands."""
    return [one for one in agent.heard[since:] if one.type in {APPLY, REMOVE}]
