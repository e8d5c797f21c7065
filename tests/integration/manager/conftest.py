"""Clusters of scripted agents, on a real manager."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from integration.manager.control_plane import Place
from integration.manager.eventually import eventually
from integration.manager.scripted_agent import ScriptedAgent
from integration.manager.vms import Vms

from local_stack.service import Service
from viaduct_common.client import ViaductClient
from viaduct_common.messages.l2 import L2NetworkInventory
from viaduct_common.messages.realization import RealizationInventory


@dataclass
class Fleet:
    """One cluster in a zone of its own, and its agents."""

    place: Place
    client: ViaductClient
    stack: AsyncExitStack
    zone_uuid: UUID
    cluster_uuid: UUID
    agents: list[ScriptedAgent] = field(default_factory=list)
    _vlan: int = 10

    async def enrol(self, *, tunnel_ip: str | None = None, **script: Any) -> ScriptedAgent:
        """Another host, with an agent that has not said anything yet."""
        host = await self.client.host.create(
            cluster_uuid=self.cluster_uuid, name=f"host{len(self.agents)}", tunnel_ip=tunnel_ip
        )
        agent = await self.stack.enter_async_context(ScriptedAgent(self.place, host, **script))
        self.agents.append(agent)
        return agent

    async def join(self, **script: Any) -> ScriptedAgent:
        """Another host, connected and beating."""
        agent = await self.enrol(**script)
        await agent.hello()
        agent.beat_on()
        await self.state_of(agent, "connected")
        return agent

    async def lose(self, agent: ScriptedAgent) -> None:
        """It falls silent, and the manager need not wait to notice."""
        await agent.fall_silent()
        lost = "UPDATE host SET state = 'disconnected', beats = 0 WHERE uuid = '{}'"
        await asyncio.to_thread(self.place.sql, lost.format(agent.uuid))

    async def state_of(self, agent: ScriptedAgent, state: str, *, seconds: float = 15) -> None:
        await eventually(
            lambda: self.client.host.get(uuid=agent.uuid), lambda host: host.state == state, seconds=seconds
        )

    async def network(self, **fields: Any) -> L2NetworkInventory:
        self._vlan += 1
        own = {} if "type" in fields else {"type": "L2VlanNetwork", "vlan": self._vlan}
        body = {"physical_interface": "eth1", "name": "net"} | own | fields
        return await self.client.l2.create(zone_uuid=self.zone_uuid, **body)

    async def plug(self, agent: ScriptedAgent, network: L2NetworkInventory) -> UUID:
        """A NIC of a VM on the host, by the table alone; its uuid."""
        l3, nic = uuid4(), uuid4()
        mac = f"02:00:00:{nic.hex[:2]}:{nic.hex[2:4]}:{nic.hex[4:6]}"
        statements = (
            "INSERT INTO l3_network (uuid, l2_uuid, zone_uuid, name, category, strategy)"
            f" VALUES ('{l3}', '{network.uuid}', '{self.zone_uuid}', 'l3', 'Private', 'first');"
            "INSERT INTO nic (uuid, vm_uuid, host_uuid, account_uuid, l3_uuid, l2_uuid, device_index, device_name,"
            f" mac, state) VALUES ('{nic}', '{uuid4()}', '{agent.uuid}', '{uuid4()}', '{l3}', '{network.uuid}', 0,"
            f" '{nic.hex[:12]}', '{mac}', 'ready')"
        )
        await asyncio.to_thread(self.place.sql, statements)
        return nic

    async def attach(self, network: L2NetworkInventory, **options: Any) -> Any:
        return await self.client.l2.attach(
            l2_network_uuid=network.uuid, cluster_uuid=self.cluster_uuid, **{"timeout_seconds": 15, **options}
        )

    async def detach(self, network: L2NetworkInventory, **options: Any) -> Any:
        return await self.client.l2.detach(
            l2_network_uuid=network.uuid, cluster_uuid=self.cluster_uuid, **{"timeout_seconds": 15, **options}
        )

    async def attached(self, network: L2NetworkInventory) -> bool:
        return self.cluster_uuid in (await self.client.l2.get(uuid=network.uuid)).attached_cluster_uuids

    async def rows(self, network: L2NetworkInventory) -> dict[UUID, RealizationInventory]:
        page = await self.client.realization.query(filters={"l2_network_uuid": network.uuid})
        return {row.host_uuid: row for row in page.items}

    async def states(self, network: L2NetworkInventory) -> list[str]:
        """Of each agent, in the order in which they were made; `gone` where nothing is known."""
        rows = await self.rows(network)
        return [rows[agent.uuid].state if agent.uuid in rows else "gone" for agent in self.agents]

    async def settles(self, network: L2NetworkInventory, *states: str, seconds: float = 15) -> None:
        await eventually(lambda: self.states(network), lambda seen: seen == list(states), seconds=seconds)


@pytest.fixture
async def fleet(place: Place, client: ViaductClient) -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as stack:
        zone = await client.zone.create(name="zone")
        cluster = await client.cluster.create(zone_uuid=zone.uuid, name="cluster")
        yield Fleet(place, client, stack, zone.uuid, cluster.uuid)


@pytest.fixture
async def vms(fleet: Fleet, ipam: Service) -> Vms:
    """VMs on networks of the fleet's cluster, with a real IPAM behind them."""
    return Vms(fleet)


@pytest.fixture
async def other(fleet: Fleet) -> Fleet:
    """A second cluster in the zone."""
    cluster = await fleet.client.cluster.create(zone_uuid=fleet.zone_uuid, name="other")
    return Fleet(fleet.place, fleet.client, fleet.stack, fleet.zone_uuid, cluster.uuid)


@pytest.fixture
async def database(fleet: Fleet) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(fleet.place.postgres_url())
    yield connection
    await connection.close()


@pytest.fixture(scope="module")
def beacons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the providers of `beacon_provider`, as if they were installed there."""
    folder = tmp_path_factory.mktemp("beacons")
    shutil.copy(Path(__file__).with_name("beacon_provider.py"), folder)
    about = folder / "beacon_provider-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: beacon-provider\nVersion: 1\n")
    points = "[viaduct.service_providers]\nbeacons = beacon_provider:Beacons\nrivals = beacon_provider:Rivals\n"
    (about / "entry_points.txt").write_text(points)
    return folder
