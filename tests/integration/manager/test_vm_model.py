"""Random lives of VMs on a real manager and a real IPAM, beside a model that is a dict: they never disagree."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from integration.manager.eventually import eventually
from integration.manager.scripted_agent import REALIZE, REFUSED, ScriptedAgent
from integration.manager.vms import Vms

from viaduct_common.errors import BackendFailed, Conflict, Exhausted, IpInUse, NotFound
from viaduct_common.messages.l2 import L2NetworkInventory
from viaduct_common.messages.vm import NicInventory

VMS, HOSTS, ACCOUNTS, L3S = 4, 2, 2, 2
# Network 0 is plain and narrow, network 1 has a VNI for one account only: both run out.
CIDRS = ("10.77.0.0/29", "10.78.0.0/24")
FAVOURITES = ("10.77.0.4", "10.78.0.4")
ROOM = 5  # of a /29 without network, broadcast and gateway
RANGED = 1

vms_ = st.integers(0, VMS - 1)
nics_ = st.lists(st.tuples(st.integers(0, L3S - 1), st.booleans()), min_size=1, max_size=3)
step = st.one_of(
    st.tuples(st.just("prepare"), vms_, st.integers(0, HOSTS - 1), nics_, st.sampled_from([False, False, False, True])),
    st.tuples(st.just("release"), vms_, st.booleans()),
    st.tuples(st.just("migrate"), vms_, st.integers(0, HOSTS - 1), st.sampled_from([None, "begin", "finish", "abort"])),
)


@dataclass
class ModelVm:
    """Where it is, where it is going, and its NICs' networks."""

    host: int
    moving_to: int | None = None
    nics: list[NicInventory] = field(default_factory=list)


@dataclass
class Lives:
    """Runs steps on both; after each the answers are compared."""

    vms: Vms
    agents: list[ScriptedAgent]
    l3s: list[UUID]
    plain_l2: UUID
    model: dict[int, ModelVm] = field(default_factory=dict)
    uuids: list[UUID] = field(default_factory=lambda: [uuid4() for _ in range(VMS)])
    accounts: list[UUID] = field(default_factory=lambda: [uuid4() for _ in range(ACCOUNTS)])

    def account(self, vm: int) -> int:
        return vm % ACCOUNTS

    def used(self, network: int) -> int:
        return sum(nic.l3_network_uuid == self.l3s[network] for vm in self.model.values() for nic in vm.nics)

    async def prepare(self, vm: int, host: int, wanted: list[tuple[int, bool]], fails: bool) -> None:
        """Each NIC by its network, and whether it asks for an address that somebody may have."""
        asked: list[dict[str, Any]] = [
            {"l3_network_uuid": self.l3s[network], "ip": FAVOURITES[network] if choosy else None}
            for network, choosy in wanted
        ]
        agent = self.agents[host]
        agent.errors = {REALIZE: REFUSED} if fails else {}
        try:
            given = await self.vms.prepare(self.uuids[vm], agent, asked, account_uuid=self.accounts[self.account(vm)])
        except (IpInUse, Exhausted):
            return
        except BackendFailed:
            assert fails
            return
        except Conflict:
            former = self.model[vm]
            assert former.host != host or former.moving_to is not None
            return
        finally:
            agent.errors = {}
        now = self.model.setdefault(vm, ModelVm(host))
        assert now.host == host
        assert [nic.l3_network_uuid for nic in given] == [one["l3_network_uuid"] for one in asked]
        known = {nic.uuid: nic for nic in now.nics}
        for nic in given:
            assert known.setdefault(nic.uuid, nic) == nic
        now.nics = list(known.values())
        assert self.used(0) <= ROOM

    async def release(self, vm: int, some: bool) -> None:
        has = self.model.get(vm, ModelVm(0)).nics
        named = [nic.uuid for nic in has[:1]] if some and has else None
        released = await self.vms.release(self.uuids[vm], nic_uuids=named)
        gone = {nic.uuid for nic in released}
        assert gone == ({nic.uuid for nic in has} if named is None else set(named))
        left = [nic for nic in has if nic.uuid not in gone]
        if left:
            self.model[vm].nics = left
        else:
            self.model.pop(vm, None)

    async def migrate(self, vm: int, host: int, action: str | None) -> None:
        now = self.model.get(vm)
        try:
            answer = await self.vms.migrate(self.uuids[vm], self.agents[host], action)
        except NotFound:
            assert now is None
            return
        except Conflict:
            assert now is not None
            assert now.moving_to not in {None, host} or action in {"begin", "finish"}
            return
        assert now is not None
        if action == "begin":
            now.moving_to = host
        elif action == "abort":
            now.moving_to = None
        else:
            now.host, now.moving_to = host, None
        assert {nic.uuid for nic in answer} == {nic.uuid for nic in now.nics}
        assert {(nic.mac, *[one.ip for one in nic.ips]) for nic in answer} == {
            (nic.mac, *[one.ip for one in nic.ips]) for nic in now.nics
        }
        now.nics = await self.vms.nics(vm_uuid=self.uuids[vm])

    async def agree(self) -> None:
        """NICs, addresses, and what hosts hold of the network that has a VNI for one account only."""
        shown = {nic.uuid: nic.host_uuid for nic in await self.vms.nics(l3_network_uuid=self.l3s)}
        assert shown == {nic.uuid: self.agents[vm.host].uuid for vm in self.model.values() for nic in vm.nics}
        await self.vms.books_agree(*self.l3s)
        wanted = {
            (self.agents[host].uuid, nic.l2_network_uuid)
            for vm in self.model.values()
            for nic in vm.nics
            for host in (vm.host, vm.moving_to)
            if host is not None and nic.l3_network_uuid == self.l3s[RANGED]
        }
        plain = {nic.l2_network_uuid for vm in self.model.values() for nic in vm.nics} - {l2 for _, l2 in wanted}

        async def held() -> set[tuple[UUID, UUID]]:
            return {(agent.uuid, l2) for agent in self.agents for l2 in agent.held if l2 != self.plain_l2}

        await eventually(held, lambda seen: seen == wanted)
        assert plain <= {self.plain_l2}


@pytest.fixture
async def street(vms: Vms) -> tuple[Vms, L2NetworkInventory, L2NetworkInventory]:
    """Two hosts, a plain network and one with a single VNI."""
    for _ in range(HOSTS):
        await vms.fleet.join()
    return vms, await vms.attached_l2(), await vms.ranged_l2(100, 100)


@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # a life is long; what fails is shown as it is
    suppress_health_check=list(HealthCheck),
)
@given(steps=st.lists(step, min_size=6, max_size=14))
async def test_lives_of_vms_leave_nothing_behind(
    street: tuple[Vms, L2NetworkInventory, L2NetworkInventory], steps: list[tuple[Any, ...]]
) -> None:
    """Whatever is asked for in whatever order: what a VM has is what it was told, and no address is anybody else's."""
    vms, plain, ranged = street
    l3s = [await vms.l3(plain, CIDRS[0]), await vms.l3(ranged, CIDRS[1])]
    lives = Lives(vms, vms.fleet.agents, l3s, plain_l2=plain.uuid)
    for name, *arguments in steps:
        await getattr(lives, name)(*arguments)
    await lives.agree()
    for vm in range(VMS):
        await lives.release(vm, some=False)
    await lives.agree()
    for l3 in l3s:
        await vms.client.l3.delete(uuid=l3)
