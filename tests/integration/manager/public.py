"""What tests of public addresses share: a private L3 network that is served, a public one, gateway hosts."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from integration.manager.eventually import eventually
from integration.manager.scripted_agent import ScriptedAgent
from integration.manager.vms import Vms

from viaduct_common.client import ViaductClient
from viaduct_common.messages.l3 import L3NetworkInventory
from viaduct_common.messages.services.eips import EipInventory
from viaduct_common.messages.services.instances import ServiceInventory
from viaduct_common.messages.services.port_forwarding import PortForwardingInventory
from viaduct_common.messages.services.specs import FLAT, VIRTUAL_ROUTER, FlatSpec, RouterSpec
from viaduct_common.messages.services.vips import VipInventory
from viaduct_common.messages.vm import NicInventory
from viaduct_manager.network_services.api import ServiceKey, provider_uuid

ROUTERS, FLATS = provider_uuid("VirtualRouter"), provider_uuid("Flat")
CAPABLE = ["L2VlanNetwork", "service/virtualRouter", "service/flat"]
_SUBNETS = iter(range(1, 200))


@dataclass
class Public:
    """A cluster with VMs on private networks and addresses of public ones."""

    vms: Vms
    gateways: list[ScriptedAgent] = field(default_factory=list)

    @property
    def client(self) -> ViaductClient:
        return self.vms.client

    async def gateway(self) -> ScriptedAgent:
        """Another host, on which routers may live."""
        agent = await self.vms.fleet.join(capabilities=CAPABLE)
        await self.client.host.update(uuid=agent.uuid, labels={"gateway": "true"})
        self.gateways.append(agent)
        return agent

    async def network(self, *cidrs: str, category: str = "public", **fields: Any) -> L3NetworkInventory:
        """A public L3 network with these ranges, on an L2 network of its own that is attached."""
        l2 = await self.vms.attached_l2()
        l3 = await self.client.l3.create(l2_network_uuid=l2.uuid, name=category, category=category, **fields)
        for cidr in cidrs or (f"203.0.{next(_SUBNETS)}.0/24",):
            await self.client.range.create(l3_network_uuid=l3.uuid, network_cidr=cidr)
        return l3

    async def private(self, *types: str, cidr: str | None = None, provider: UUID = ROUTERS, **fields: Any) -> UUID:
        """A private L3 network with these services."""
        l3 = await self.network(cidr or f"10.{next(_SUBNETS)}.0.0/24", category="private", **fields)
        if types:
            await self.attach(l3.uuid, *types, provider=provider)
        return l3.uuid

    async def attach(self, l3: UUID, *types: str, provider: UUID = ROUTERS, **configs: Any) -> L3NetworkInventory:
        return await self.client.l3.attach_services(
            l3_network_uuid=l3, services={provider: list(types)}, config=configs
        )

    async def detach(self, l3: UUID, *types: str, provider: UUID = ROUTERS) -> L3NetworkInventory:
        return await self.client.l3.detach_services(l3_network_uuid=l3, services={provider: list(types)})

    async def nic(self, agent: ScriptedAgent, *l3s: Any, vm: UUID | None = None, **options: Any) -> NicInventory:
        """The first NIC of a VM on these L3 networks."""
        return (await self.vms.prepare(vm or uuid4(), agent, l3s, **options))[0]

    async def vip(self, l3: UUID, **fields: Any) -> VipInventory:
        return await self.client.vip.create(l3_network_uuid=l3, **{"name": "vip", **fields})

    async def eip(self, vip: VipInventory, **fields: Any) -> EipInventory:
        return await self.client.eip.create(vip_uuid=vip.uuid, **{"name": "eip", **fields})

    async def forward(self, vip: VipInventory, start: int, **fields: Any) -> PortForwardingInventory:
        fields = {"name": "web", "protocol": "TCP", **fields}
        return await self.client.port_forwarding.create(vip_uuid=vip.uuid, vip_port_start=start, **fields)

    async def settle(self, subject: UUID) -> list[ServiceInventory]:
        return await self.client.service.wait(subject_uuid=subject, timeout_seconds=15)

    async def instances(self, l3: UUID) -> list[ServiceInventory]:
        return (await self.client.service.query(filters={"subject_uuid": l3}, limit=1000)).items

    async def home(self, l3: UUID) -> UUID | None:
        """The host on which the router is to be, None for nowhere."""
        rows = [one for one in await self.instances(l3) if one.desired == "present"]
        return rows[0].host_uuid if rows else None

    async def moves(self, l3: UUID, *to: ScriptedAgent) -> RouterSpec:
        """Wait until the router is on one of these hosts, and on no other; what it was told."""

        async def holders() -> list[ScriptedAgent]:
            return [agent for agent in self.vms.fleet.agents if router(agent, l3) is not None]

        [there] = await eventually(holders, lambda seen: len(seen) == 1 and seen[0] in to)
        spec = router(there, l3)
        assert spec is not None
        return spec


def router(agent: ScriptedAgent, l3: UUID) -> RouterSpec | None:
    """What a host holds of the router of an L3 network."""
    held = agent.services.held.get(ServiceKey(VIRTUAL_ROUTER, l3).uuid)
    return None if held is None else RouterSpec.model_validate(held.spec)


def flat(agent: ScriptedAgent, l3: UUID) -> FlatSpec | None:
    """What a host holds of the flat services of an L3 network."""
    held = agent.services.held.get(ServiceKey(FLAT, l3).uuid)
    return None if held is None else FlatSpec.model_validate(held.spec)
