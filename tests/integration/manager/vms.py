"""What tests of VMs' networks share: networks with addresses, VMs on them, and the books of both sides."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from integration.manager.eventually import eventually
from integration.manager.scripted_agent import ScriptedAgent

from viaduct_common.client import ViaductClient
from viaduct_common.messages.l2 import L2NetworkInventory
from viaduct_common.messages.vm import NicInventory

if TYPE_CHECKING:
    from integration.manager.conftest import Fleet


@dataclass
class Vms:
    """A cluster of agents, its networks, and who asks for VMs on them."""

    fleet: "Fleet"
    account: UUID = field(default_factory=uuid4)
    _subnet: int = 0

    @property
    def client(self) -> ViaductClient:
        return self.fleet.client

    async def l3(self, l2: L2NetworkInventory, *cidrs: str) -> UUID:
        """An L3 network with these ranges; without, one with a /24 of its own."""
        self._subnet += 1
        network = await self.client.l3.create(l2_network_uuid=l2.uuid, name="l3")
        for cidr in cidrs or (f"10.{self._subnet}.0.0/24",):
            await self.client.range.create(l3_network_uuid=network.uuid, network_cidr=cidr)
        return network.uuid

    async def bare_l3(self, l2: L2NetworkInventory) -> UUID:
        return (await self.client.l3.create(l2_network_uuid=l2.uuid, name="bare")).uuid

    async def attached_l2(self, **fields: Any) -> L2NetworkInventory:
        network = await self.fleet.network(**fields)
        await self.fleet.attach(network)
        return network

    async def ranged_l2(self, first: int, last: int) -> L2NetworkInventory:
        """A VXLAN network of which each account gets a VNI of its own, attached."""
        network = await self.client.l2.create(
            zone_uuid=self.fleet.zone_uuid,
            name="ranged",
            type="L2VxlanNetwork",
            physical_interface="eth1",
            vniRange={"startVni": first, "endVni": last},
        )
        await self.fleet.attach(network)
        return network

    async def prepare(
        self, vm: UUID, agent: ScriptedAgent, l3s: Iterable[UUID | dict[str, Any]], **options: Any
    ) -> list[NicInventory]:
        nics = [one if isinstance(one, dict) else {"l3_network_uuid": one} for one in l3s]
        options = {"account_uuid": self.account, "timeout_seconds": 15, **options}
        return await self.client.vm.prepare_networks(vm_uuid=vm, host_uuid=agent.uuid, nics=nics, **options)

    async def release(self, vm: UUID, **options: Any) -> list[NicInventory]:
        return await self.client.vm.release_networks(vm_uuid=vm, **{"timeout_seconds": 15, **options})

    async def migrate(self, vm: UUID, agent: ScriptedAgent, action: str | None = None, **options: Any) -> Any:
        options = {"timeout_seconds": 15, **options}
        return await self.client.vm.migrate_networks(vm_uuid=vm, host_uuid=agent.uuid, action=action, **options)

    async def nics(self, **filters: Any) -> list[NicInventory]:
        return (await self.client.nic.query(filters=filters, limit=1000)).items

    async def used(self, l3: UUID) -> dict[str, str]:
        """Owner by address, as IPAM has it."""
        page = await self.client.ip.query(filters={"l3_network_uuid": l3}, limit=1000)
        return {str(one.ip): one.owner or "" for one in page.items}

    async def books_agree(self, *l3s: UUID) -> None:
        """IPAM's used addresses are the NICs' addresses, and no NIC is left half done."""

        async def books() -> tuple[Any, Any, str]:
            of_ipam = {ip: owner for l3 in l3s for ip, owner in (await self.used(l3)).items()}
            page = await self.nics(l3_network_uuid=list(l3s))
            of_nics = {str(one.ip): str(nic.uuid) for nic in page for one in nic.ips}
            unsettled = await asyncio.to_thread(
                self.fleet.place.sql, f"SELECT count(*) FROM nic WHERE state <> 'ready' AND {_among('l3_uuid', l3s)}"
            )
            return of_ipam, of_nics, unsettled

        await eventually(books, lambda seen: seen[0] == seen[1] and seen[2] == "0")

    async def lose(self, agent: ScriptedAgent) -> None:
        """The host is silent, and taken for lost at once."""
        await agent.fall_silent()
        update = f"UPDATE host SET state = 'disconnected', beats = 0 WHERE uuid = '{agent.uuid}'"
        await asyncio.to_thread(self.fleet.place.sql, update)

    async def realized(self, l2_uuid: UUID) -> set[UUID]:
        """The hosts that hold a network, as they say."""
        return {agent.uuid for agent in self.fleet.agents if l2_uuid in agent.held}

    async def gone(self, l2_uuid: UUID) -> None:
        """No host has the network, and nothing is desired of it any more."""

        async def rows() -> Any:
            return (await self.client.realization.query(filters={"l2_network_uuid": l2_uuid})).items

        await eventually(rows, lambda seen: seen == [])
        assert await self.realized(l2_uuid) == set()


def _among(column: str, uuids: Iterable[UUID]) -> str:
    return f"{column} IN ({', '.join(repr(str(uuid)) for uuid in uuids)})"
