"""What tests of network services share: L3 networks with the test provider's services, and what hosts have of them."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from integration.manager.beacon_provider import BEACON
from integration.manager.eventually import eventually
from integration.manager.scripted_agent import ScriptedAgent
from integration.manager.vms import Vms

from viaduct_common.client import ViaductClient
from viaduct_common.messages.l3 import L3NetworkInventory
from viaduct_common.messages.services.instances import ServiceInventory
from viaduct_manager.network_services.api import ServiceKey, provider_uuid

BEACONS, RIVALS = provider_uuid("Beacons"), provider_uuid("Rivals")


@dataclass
class Services:
    vms: Vms

    @property
    def client(self) -> ViaductClient:
        return self.vms.client

    async def served_l3(self, **config: Any) -> UUID:
        """An L3 network on an attached L2 network, with a beacon that is told this."""
        l3 = await self.vms.l3(await self.vms.attached_l2())
        await self.attach(l3, **config)
        return l3

    async def attach(self, l3: UUID, *types: str, provider: UUID = BEACONS, **config: Any) -> L3NetworkInventory:
        services = {provider: list(types or ("Beacon",))}
        configs = {"Beacon": config} if config else {}
        return await self.client.l3.attach_services(l3_network_uuid=l3, services=services, config=configs)

    async def detach(self, l3: UUID, *types: str, provider: UUID = BEACONS) -> L3NetworkInventory:
        return await self.client.l3.detach_services(l3_network_uuid=l3, services={provider: list(types or ("Beacon",))})

    async def settle(self, subject: UUID, **options: Any) -> list[ServiceInventory]:
        options = {"timeout_seconds": 15, **options}
        return await self.client.service.wait(subject_uuid=subject, **options)

    async def rows(self, **filters: Any) -> list[ServiceInventory]:
        return (await self.client.service.query(filters=filters, limit=1000)).items

    async def gone(self, l3: UUID) -> None:
        """No host has anything for the network, and nothing is known of it any more."""
        await eventually(lambda: self.rows(subject_uuid=l3), lambda rows: rows == [])


def beacon(agent: ScriptedAgent, l3: UUID) -> Any:
    """What a host holds of the beacon of an L3 network, None for nothing."""
    held = agent.services.held.get(ServiceKey(BEACON, l3).uuid)
    return None if held is None else held.spec
