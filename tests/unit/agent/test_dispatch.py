"""Commands in order, fenced by generations, whatever the broker does with them."""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import ValidationError

from viaduct_agent.backends.api import Registry
from viaduct_agent.backends.novlan import NoVlanBackend
from viaduct_agent.backends.vlan import VlanBackend
from viaduct_agent.dispatch import Dispatcher
from viaduct_agent.holdings import Holdings
from viaduct_agent.lanes import Lanes
from viaduct_agent.links.host import HostLinks
from viaduct_agent.links.kernel import EVERYTHING, Look
from viaduct_agent.links.model import Link
from viaduct_agent.testing import FakeKernel
from viaduct_common.bus import Delivery, GiveBack, PublishFailed
from viaduct_common.digest import holdings_digest
from viaduct_common.errors import InvalidRequest, UnsupportedType
from viaduct_common.messages.agent import (
    CheckL2Command,
    Completion,
    L2Desired,
    L2Inquiry,
    RealizeL2Command,
    ReleaseL2Command,
    SyncHostCommand,
)
from viaduct_common.messages.base import Command
from viaduct_common.messages.l2 import L2NetworkInventory

Make = Callable[..., L2NetworkInventory]


def delivery(command: Command, message_id: UUID | None = None, deadline: float | None = None, **over: Any) -> Delivery:
    values: dict[str, Any] = {
        "body": command.to_json(),
        "type": command.message_type,
        "routing_key": "",
        "message_id": str(message_id or uuid4()),
        "correlation_id": None,
        "reply_to": None,
        "user_id": "manager",
        "app_id": None,
        "headers": {},
        "deadline": deadline,
        "redelivered": False,
        **over,
    }
    return Delivery(**values)


class Host:
    """A dispatcher on a kernel in memory, and what it answered."""

    def __init__(self, nic: Link) -> None:
        self.kernel = FakeKernel([nic])
        self.holdings = Holdings()
        self.lanes = Lanes()
        self.completions: list[Completion] = []
        self.broken_bus = False
        links = HostLinks(self.kernel)
        self.dispatcher = Dispatcher(
            uuid4(),
            backends=Registry([NoVlanBackend, VlanBackend], links),
            links=links,
            holdings=self.holdings,
            lanes=self.lanes,
            send=self._send,
            interface_map={"storage": "eth1"},
        )

    async def _send(self, completion: Completion) -> None:
        if self.broken_bus:
            raise PublishFailed("no broker")
        self.completions.append(completion)

    async def do(self, command: Command, **over: Any) -> Completion:
        await self.dispatcher.handle(delivery(command, **over))
        return self.completions[-1]

    @property
    def owned(self) -> dict[str, int | None]:
        return {link.name: link.generation for link in self.kernel.links.values() if link.owner is not None}


@pytest.fixture
def host(nic: Link) -> Host:
    return Host(nic)


def realize(network: L2NetworkInventory, generation: int) -> RealizeL2Command:
    return RealizeL2Command(items=[L2Desired(generation=generation, l2_network=network)])


def release(network: L2NetworkInventory, generation: int, force: bool = False) -> ReleaseL2Command:
    return ReleaseL2Command(items=[L2Desired(generation=generation, l2_network=network, force=force)])


def sync(*items: tuple[L2NetworkInventory, int]) -> SyncHostCommand:
    return SyncHostCommand(items=[L2Desired(generation=g, l2_network=n) for n, g in items])


async def test_one_command_of_many_networks_is_answered_by_one_completion(host: Host, network: Make) -> None:
    """In the order of its items, each with its own outcome."""
    good, bad = network(vlan=10), network(vlan=11, interface="eth9")
    items = [L2Desired(generation=1, l2_network=net) for net in (good, bad)]
    command_id = uuid4()
    done = await host.do(RealizeL2Command(items=items), message_id=command_id)

    assert done.command_id == command_id
    assert [(item.l2_network_uuid, item.outcome) for item in done.items] == [(good.uuid, "done"), (bad.uuid, "failed")]
    assert len(done.items[0].changes) == 2
    assert done.items[0].took_ms > 0
    assert done.items[1].error is not None
    assert done.items[1].error.code == "PRECONDITION_FAILED"
    assert host.holdings.digest() == holdings_digest([(good.uuid, 1)])
    assert len(host.lanes) == 0


async def test_the_same_generation_again_changes_nothing(host: Host, network: Make) -> None:
    """A doubled command is answered as done."""
    net = network(vlan=10)
    await host.do(realize(net, 3))
    applied = len(host.kernel.applied)
    again = await host.do(realize(net, 3))
    assert (again.items[0].outcome, again.items[0].changes) == ("done", [])
    assert len(host.kernel.applied) == applied


async def test_an_older_generation_is_superseded_also_after_the_release(host: Host, network: Make) -> None:
    """A late realize does not bring a released network back, a late release does not take a new one away."""
    net = network(vlan=10)
    await host.do(realize(net, 3))
    assert (await host.do(release(net, 2))).items[0].outcome == "superseded"
    assert host.owned == {"br_eth1_10": 3, "eth1.10": 3}
    assert (await host.do(release(net, 4))).items[0].outcome == "done"
    assert (await host.do(realize(net, 3))).items[0].outcome == "superseded"
    assert host.owned == {}
    assert host.holdings.digest() == holdings_digest([])


@pytest.mark.parametrize("seed", range(20))
async def test_doubled_and_reordered_commands_end_where_the_newest_says(host: Host, network: Make, seed: int) -> None:
    """Felix's scenario expansion: reversed, doubled, shuffled; all at once."""
    chance = random.Random(seed)
    networks = [network(vlan=vlan) for vlan in (10, 20, 30)]
    newest = {net.uuid: (6, chance.random() < 0.5) for net in networks}
    deliveries: list[Delivery] = []
    for net in networks:
        for generation in range(1, 7):
            present = newest[net.uuid][1] if generation == 6 else chance.random() < 0.5
            command = realize(net, generation) if present else release(net, generation)
            deliveries += [delivery(command)] * chance.choice([1, 2])
    chance.shuffle(deliveries)
    await asyncio.gather(*(host.dispatcher.handle(one) for one in deliveries))

    wanted = {net.bridge_name for net in networks if newest[net.uuid][1]}
    assert {name for name in host.owned if name.startswith("br_")} == wanted
    assert set(host.owned.values()) <= {6}
    expected = holdings_digest([(net.uuid, 6) for net in networks if newest[net.uuid][1]])
    assert host.holdings.digest() == expected
    assert len(host.lanes) == 0


async def test_commands_for_one_network_keep_their_order_and_others_do_not_wait(host: Host, network: Make) -> None:
    """A lane that is stuck delays nobody else."""
    slow, quick = network(vlan=10), network(vlan=20)
    async with host.lanes.enter(slow.uuid):
        first = asyncio.create_task(host.dispatcher.handle(delivery(realize(slow, 1))))
        second = asyncio.create_task(host.dispatcher.handle(delivery(release(slow, 2))))
        await host.do(realize(quick, 1))
        assert not first.done()
    await asyncio.gather(first, second)
    assert [done.command for done in host.completions] == ["l2.realize", "l2.realize", "l2.release"]
    assert list(host.owned) == ["br_eth1_20", "eth1.20"]


async def test_a_command_past_its_deadline_is_not_started(host: Host, network: Make) -> None:
    """TIMEOUT, and nothing was changed."""
    done = await host.do(realize(network(vlan=10), 1), deadline=time.monotonic() - 1)
    assert (done.items[0].outcome, done.items[0].error and done.items[0].error.code) == ("failed", "TIMEOUT")
    assert host.kernel.applied == []


async def test_a_failed_realize_is_neither_held_nor_forgotten(host: Host, network: Make) -> None:
    """It is not in the digest; an older generation is superseded all the same."""
    net = network(vlan=10)
    await host.do(realize(net, 1))
    host.kernel.fail_at = 0
    assert (await host.do(realize(net, 3))).items[0].outcome == "failed"
    assert host.holdings.digest() == holdings_digest([])
    assert (await host.do(realize(net, 2))).items[0].outcome == "superseded"
    assert (await host.do(realize(net, 3))).items[0].outcome == "done"


async def test_check_answers_status_differences_and_steps_and_changes_nothing(host: Host, network: Make) -> None:
    """missing, ok, drifted; the plan of either action; a refusal is the error."""
    net = network(vlan=10)
    item = L2Inquiry(generation=1, l2_network=net)
    missing = (await host.do(CheckL2Command(items=[item]))).items[0]
    assert (missing.status, len(missing.steps)) == ("missing", 2)
    assert host.kernel.applied == []
    await host.do(realize(net, 1))
    ok = (await host.do(CheckL2Command(items=[item]))).items[0]
    assert (ok.status, ok.steps, ok.differences) == ("ok", [], [])
    leaving = item.model_copy(update={"action": "release"})
    assert len((await host.do(CheckL2Command(items=[leaving]))).items[0].steps) == 2
    host.kernel.links.remove("eth1.10")
    drifted = (await host.do(CheckL2Command(items=[item]))).items[0]
    assert (drifted.status, [found.device for found in drifted.differences]) == ("drifted", ["eth1.10"])
    refused = (
        await host.do(CheckL2Command(items=[L2Inquiry(generation=1, l2_network=network(interface="no"))]))
    ).items[0]
    assert (refused.outcome, refused.error and refused.error.details["device"]) == ("failed", "no")


async def test_sync_realises_repairs_and_releases(host: Host, network: Make) -> None:
    """After it the host has exactly what is listed."""
    kept, gone, new = network(vlan=10), network(vlan=20), network()
    await host.do(realize(kept, 1))
    await host.do(realize(gone, 1))
    host.kernel.links.remove("eth1.10")
    done = await host.do(sync((kept, 1), (new, 2)))
    assert done.released == [gone.uuid]
    assert [item.outcome for item in done.items] == ["done", "done"]
    assert host.owned == {"br_eth1_10": 1, "eth1.10": 1, "br_eth1": 2}
    assert host.holdings.digest() == holdings_digest([(kept.uuid, 1), (new.uuid, 2)])


async def test_a_sync_delivered_again_releases_nothing_that_came_after_it(host: Host, network: Make) -> None:
    """Its list is as old as its first delivery."""
    first, later = network(vlan=10), network(vlan=20)
    command, command_id = sync((first, 1)), uuid4()
    await host.do(command, message_id=command_id)
    await host.do(realize(later, 1))
    assert (await host.do(command, message_id=command_id)).released == []
    assert "br_eth1_20" in host.owned


async def test_a_network_that_was_commanded_while_a_sync_runs_stays(
    host: Host, network: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The realize came after the sync; the dump that the sync looks at has it already."""
    later, realized, observe = network(vlan=20), asyncio.Event(), host.kernel.observe

    async def observe_late(look: Look = EVERYTHING) -> Any:
        if look.names is None:
            await realized.wait()
        return await observe(look)

    monkeypatch.setattr(host.kernel, "observe", observe_late)
    running = asyncio.create_task(host.dispatcher.handle(delivery(sync())))
    await asyncio.sleep(0)
    await host.do(realize(later, 1))
    realized.set()
    await running
    assert host.completions[-1].released == []
    assert "br_eth1_20" in host.owned


async def test_after_a_restart_marks_are_held_but_differ_until_a_sync(host: Host, nic: Link, network: Make) -> None:
    """Leftovers are told by the digest and released by the sync, also with the NIC in a bridge."""
    kept, leftover = network(vlan=10), network()
    await host.do(realize(kept, 4))
    await host.do(realize(leftover, 2))
    reborn = Host(nic)
    reborn.kernel = host.kernel
    reborn.dispatcher._links._kernel = host.kernel  # the same kernel under a new process
    reborn.holdings.adopt((await host.kernel.observe()).owners())

    assert {(held.l2_network_uuid, held.generation) for held in reborn.holdings.held()} == {
        (kept.uuid, 4),
        (leftover.uuid, 2),
    }
    assert reborn.holdings.digest() != holdings_digest([(kept.uuid, 4), (leftover.uuid, 2)])
    assert (await reborn.do(realize(kept, 3))).items[0].outcome == "superseded"
    done = await reborn.do(sync((kept, 4)))
    assert done.released == [leftover.uuid]
    assert reborn.kernel.links["eth1"].master is None
    assert reborn.holdings.digest() == holdings_digest([(kept.uuid, 4)])


async def test_a_network_whose_vlan_changes_keeps_its_bridge_and_what_is_plugged_in(host: Host, network: Make) -> None:
    """The new device is in the bridge, the old one is gone; and the way back."""
    net = network(vlan=10)
    await host.do(realize(net, 1))
    bridge = host.kernel.links["br_eth1_10"]
    host.kernel.links.put(Link("tap0", "tun", index=99, master="br_eth1_10"))
    for generation, vlan in ((2, 20), (3, 10)):
        names = {"device_names": ["br_eth1_10", f"eth1.{vlan}"]}
        changed = net.model_copy(update={"vlan": vlan, **names})
        done = await host.do(realize(changed, generation))
        assert done.items[0].outcome == "done"
        assert host.owned == {"br_eth1_10": generation, f"eth1.{vlan}": generation}
        assert host.kernel.links["br_eth1_10"].index == bridge.index
        assert {link.name for link in host.kernel.links.values() if link.master == "br_eth1_10"} == {
            "tap0",
            f"eth1.{vlan}",
        }


async def test_a_label_is_mapped_to_the_hosts_own_device(host: Host, network: Make) -> None:
    """`physicalInterface` may be a label; the names are the inventory's."""
    done = await host.do(realize(network(interface="storage", bridge_name="br_storage"), 1))
    assert done.items[0].outcome == "done"
    assert host.kernel.links["eth1"].master == "br_storage"


async def test_a_foreign_device_of_the_wanted_name_is_a_conflict_and_stays(host: Host, network: Make) -> None:
    """Named in the error; as it was."""
    stranger = Link("br_eth1_10", "bridge", index=77)
    host.kernel.links.put(stranger)
    done = await host.do(realize(network(vlan=10), 1))
    assert done.items[0].error is not None
    assert (done.items[0].error.code, done.items[0].error.details["device"]) == ("CONFLICT", "br_eth1_10")
    assert host.kernel.links["br_eth1_10"] == stranger


async def test_wrong_fields_and_unknown_types_fail_their_item_alone(host: Host, network: Make) -> None:
    """INVALID_REQUEST with the path; UNSUPPORTED_TYPE."""
    wrong, odd, good = network(vlan=5000), network(vlan=9, type="L2Odd"), network(vlan=10)
    items = [L2Desired(generation=1, l2_network=net) for net in (wrong, odd, good)]
    done = await host.do(RealizeL2Command(items=items))
    codes = [item.error and item.error.code for item in done.items]
    assert codes == ["INVALID_REQUEST", "UNSUPPORTED_TYPE", None]
    assert done.items[0].error is not None
    assert done.items[0].error.details["field"] == "l2Network.vlan"


async def test_a_command_whose_completion_is_not_taken_goes_back(
    host: Host, network: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Acked only after the completion was confirmed; done again it changes nothing."""
    monkeypatch.setattr("viaduct_agent.items.GIVE_BACK_PAUSE_SECONDS", 0)
    host.broken_bus = True
    one = delivery(realize(network(vlan=10), 1))
    with pytest.raises(GiveBack):
        await host.dispatcher.handle(one)
    host.broken_bus = False
    await host.dispatcher.handle(one)
    assert host.completions[0].items[0].outcome == "done"


async def test_what_is_no_command_is_refused_to_the_dead_letters(host: Host, network: Make) -> None:
    """Not answered, for nobody knows what it was; nothing is left in a lane."""
    good = realize(network(vlan=10), 1)
    with pytest.raises(UnsupportedType):
        await host.dispatcher.handle(delivery(good, type="l2.explode"))
    with pytest.raises(ValidationError):
        await host.dispatcher.handle(delivery(good, body=b"{"))
    with pytest.raises(InvalidRequest):
        await host.dispatcher.handle(_bad_id(good))
    assert host.completions == []
    assert len(host.lanes) == 0


def _bad_id(command: Command) -> Delivery:
    values = dict(vars(delivery(command)))
    return Delivery(**{**values, "message_id": "x"})


async def test_a_crashing_backend_is_an_internal_error_of_its_item(nic: Link, network: Make) -> None:
    """The text of the bug stays in the log."""

    class Crashing(VlanBackend):
        async def realize(self, want: Any) -> Any:
            raise RuntimeError("secret")

    host = Host(nic)
    host.dispatcher._backends = Registry([Crashing], HostLinks(host.kernel))
    done = await host.do(realize(network(vlan=10), 1))
    assert done.items[0].error is not None
    assert done.items[0].error.code == "INTERNAL"
    assert "secret" not in done.items[0].error.message
