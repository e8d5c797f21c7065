"""Tunnelled networks and their hosts, and what the hooks of VMs write about them."""

import asyncio
from ipaddress import ip_address
from uuid import UUID, uuid4

import asyncpg
from integration.manager.conftest import Fleet, eventually
from integration.manager.scripted_agent import ScriptedAgent

from viaduct_common.messages.agent import Peer
from viaduct_common.messages.l2 import L2NetworkInventory
from viaduct_manager import peers

_VNI = iter(range(100, 10_000))


async def vxlan(fleet: Fleet) -> L2NetworkInventory:
    return await fleet.network(type="L2VxlanNetwork", vni=next(_VNI))


async def join(fleet: Fleet, number: int) -> ScriptedAgent:
    return await fleet.join(tunnel_ip=f"192.0.2.{number}")


def end_of(agent: ScriptedAgent) -> str:
    return str(agent.host.tunnel_ip)


def known_to(agent: ScriptedAgent, network: L2NetworkInventory) -> dict[UUID, Peer]:
    """Peers by host, as the newest order names them."""
    told = agent.told(network.uuid)
    return {} if told is None else {peer.host_uuid: peer for peer in told.peers}


async def knows(agent: ScriptedAgent, network: L2NetworkInventory, *peers_: ScriptedAgent) -> None:
    """These and no others, each at its end."""
    expected = {peer.uuid: end_of(peer) for peer in peers_}
    await eventually(
        lambda: asyncio.sleep(0, {uuid: str(peer.tunnel_ip) for uuid, peer in known_to(agent, network).items()}),
        lambda seen: seen == expected,
    )


async def quiet(*agents: ScriptedAgent) -> None:
    """Nothing more is said to them for longer than it takes to notice that they differ."""
    before = [len(agent.heard) for agent in agents]
    await asyncio.sleep(1.5)
    assert [len(agent.heard) for agent in agents] == before, [agent.types() for agent in agents]


class Vms:
    """NICs, written as those who make them do."""

    def __init__(self, fleet: Fleet, database: asyncpg.Connection, network: L2NetworkInventory) -> None:
        self._fleet, self._database, self._network = fleet, database, network
        self._count = 0

    async def prepare(self) -> None:
        l3 = uuid4()
        await self._database.execute(
            "INSERT INTO l3_network (uuid, l2_uuid, zone_uuid, name, category, strategy) "
            "VALUES ($1, $2, $3, 'l3', 'private', 'random')",
            l3,
            self._network.uuid,
            self._fleet.zone_uuid,
        )
        self._l3 = l3

    async def plug(self, agent: ScriptedAgent, l2_uuid: UUID, *, state: str = "ready") -> str:
        """Another NIC on the host, in a transaction of its own; its MAC."""
        self._count += 1
        uuid, mac = uuid4(), f"52:54:00:00:{self._count >> 8:02x}:{self._count & 255:02x}"
        async with self._database.transaction():
            await self._database.execute(
                "INSERT INTO nic (uuid, vm_uuid, host_uuid, account_uuid, l3_uuid, l2_uuid, device_index, device_name, "
                "mac, state) VALUES ($1, $2, $3, $2, $4, $5, 0, $6, $7::text::macaddr, $8)",
                uuid,
                uuid4(),
                agent.uuid,
                self._l3,
                l2_uuid,
                f"vnic{uuid.hex[:11]}",
                mac,
                state,
            )
            for ip in (f"10.1.{self._count >> 8}.{self._count & 255}", f"2001:db8::{self._count:x}"):
                await self._database.execute(
                    "INSERT INTO nic_ip (uuid, nic_uuid, ip, prefix_length) VALUES ($1, $2, $3, 16)",
                    uuid4(),
                    uuid,
                    ip_address(ip),
                )
            await peers.mark_stale(self._database, [l2_uuid])
        return mac

    async def unplug_all(self, l2_uuid: UUID) -> None:
        async with self._database.transaction():
            await self._database.execute("DELETE FROM nic WHERE l2_uuid = $1", l2_uuid)
            await peers.mark_stale(self._database, [l2_uuid])


async def of_account(
    database: asyncpg.Connection, parent: L2NetworkInventory, account_uuid: UUID, vni: int, *agents: ScriptedAgent
) -> UUID:
    """What an account has of a network, wanted on the hosts of these agents, as the hooks of VMs write it."""
    uuid = uuid4()
    async with database.transaction():
        await database.execute(
            "INSERT INTO l2_network (uuid, zone_uuid, name, type, physical_interface, mtu, own_fields, bridge_name, "
            "device_names, parent_uuid, account_uuid, vni) "
            "SELECT $1, zone_uuid, name, type, physical_interface, mtu, own_fields, $5, $6::text::jsonb, $2, $3, $4 "
            "FROM l2_network WHERE uuid = $2",
            uuid,
            parent.uuid,
            account_uuid,
            vni,
            f"br_vx_{vni}",
            f'["br_vx_{vni}", "vxlan{vni}"]',
        )
        for agent in agents:
            await want(database, uuid, agent)
    return uuid


async def want(database: asyncpg.Connection, l2_uuid: UUID, agent: ScriptedAgent) -> None:
    """The row alone: it is due for a retry at once, which is what tells the host."""
    await database.execute(
        "INSERT INTO realization (l2_uuid, host_uuid, desired, generation, state, retry_at) "
        "VALUES ($1, $2, 'present', nextval('generation'), 'pending', now())",
        l2_uuid,
        agent.uuid,
    )
    await peers.mark_stale(database, [l2_uuid], at_once=True)


async def ranged(fleet: Fleet, start: int, end: int) -> L2NetworkInventory:
    vnis = {"startVni": start, "endVni": end}
    return await fleet.network(type="L2VxlanNetwork", vniRange=vnis)
