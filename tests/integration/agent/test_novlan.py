"""The NoVlan backend on the running kernel, and the same faults as in memory."""

import asyncio
import signal
import sys
from collections.abc import Callable, MutableMapping, Sequence
from pathlib import Path

import pytest

from viaduct_agent.backends.api import L2OnHost
from viaduct_agent.backends.novlan import NoVlanBackend
from viaduct_agent.links.host import HostLinks
from viaduct_agent.links.kernel import EVERYTHING, Applied, Look
from viaduct_agent.links.kinds import options
from viaduct_agent.links.model import AddLink, Link, Step
from viaduct_agent.links.netlink import Netlink
from viaduct_agent.links.table import LinkTable
from viaduct_common.errors import BackendFailed, Conflict, InUse, PreconditionFailed
from viaduct_common.messages.l2 import L2NetworkInventory

from .conftest import Namespace

pytestmark = pytest.mark.lab
Make = Callable[..., L2NetworkInventory]


class Failing:
    """The real kernel, but for one step."""

    def __init__(self, netlink: Netlink, fail_at: int) -> None:
        self.netlink = netlink
        self.left = fail_at

    async def observe(self, look: Look = EVERYTHING) -> LinkTable:
        return await self.netlink.observe(look)

    async def apply(self, plans: Sequence[Sequence[Step]], indexes: MutableMapping[str, int]) -> list[Applied]:
        if self.left < 0:
            return await self.netlink.apply(plans, indexes)
        ((good, bad),) = [(steps[: self.left], steps[self.left]) for steps in plans]
        (applied,) = await self.netlink.apply([good], indexes)
        self.left = -1
        return [Applied(applied.done, BackendFailed("injected", step=bad.command))]


def backend(netlink: Netlink) -> NoVlanBackend:
    return NoVlanBackend(HostLinks(netlink))


async def test_realize_check_release(namespace: Namespace, netlink: Netlink, network: Make) -> None:
    """What `ip -d link` shows is what the design says; after the release the NIC is free and the bridge gone."""
    net = network(mtu=1400)
    want, novlan = L2OnHost(3, net, "eth1"), backend(netlink)
    assert not (await novlan.check(want)).present
    assert len(await novlan.realize(want)) == 3
    bridge, nic = namespace.link("br_eth1"), namespace.link("eth1")
    options = bridge["linkinfo"]["info_data"]
    assert (options["stp_state"], options["forward_delay"]) == (0, 0)
    assert bridge["ifalias"] == f"viaduct:{net.uuid}:3"
    assert (bridge["address"], bridge["mtu"]) == (nic["address"], 1400)
    assert ("UP" in bridge["flags"], "UP" in nic["flags"], nic["master"]) == (True, True, "br_eth1")
    assert await novlan.realize(want) == ()
    checked = await novlan.check(want)
    assert (checked.present, checked.differences, checked.steps, checked.refusal) == (True, (), (), None)
    assert len(await novlan.realize(L2OnHost(4, net, "eth1"))) == 1
    assert namespace.link("br_eth1")["ifalias"] == f"viaduct:{net.uuid}:4"
    assert len(await novlan.release(want)) == 2
    assert await novlan.release(want) == ()
    assert "master" not in namespace.link("eth1")
    assert namespace.names() == {"lo", "eth1", "peer1"}


async def test_every_attribute_that_another_hand_changed_is_found_and_mended(
    namespace: Namespace, netlink: Netlink, network: Make
) -> None:
    """Options, MTU, MAC, up, port: found by check, mended by realize."""
    want, novlan = L2OnHost(1, network(), "eth1"), backend(netlink)
    await novlan.realize(want)
    changes = {
        "link set br_eth1 type bridge stp_state 1": "stp",
        "link set br_eth1 type bridge stp_state 0 forward_delay 1500": "forward_delay",
        "link set br_eth1 mtu 1300": "mtu",
        "link set br_eth1 address 02:00:00:00:00:77": "mac",
        "link set br_eth1 down": "up",
        "link set eth1 down": "up",
        "link set eth1 nomaster": "master",
        f"link set br_eth1 alias viaduct:{want.network.uuid}:0": "generation",
    }
    for command, attribute in changes.items():
        namespace.ip(command)
        assert attribute in {found.attribute for found in (await novlan.check(want)).differences}, command
        assert await novlan.realize(want)
        assert (await novlan.check(want)).differences == (), command


async def test_stp_and_delay_changed_together_are_mended(namespace: Namespace, netlink: Netlink, network: Make) -> None:
    """While STP is on the kernel takes no forward delay of 0: the order matters."""
    want, novlan = L2OnHost(1, network(), "eth1"), backend(netlink)
    await novlan.realize(want)
    namespace.ip("link set br_eth1 type bridge forward_delay 1500 stp_state 1")
    await novlan.realize(want)
    assert (await novlan.check(want)).differences == ()


@pytest.mark.parametrize("mtu", [1500, 1400, 68])
async def test_the_bridges_mtu_does_not_follow_its_ports(
    namespace: Namespace, netlink: Netlink, network: Make, mtu: int
) -> None:
    """Pinned, although the kernel pins it only when it is changed after the creation."""
    want, novlan = L2OnHost(1, network(mtu=mtu), "eth1"), backend(netlink)
    await novlan.realize(want)
    namespace.ip("link add tap0 mtu 1290 type veth peer name tap0p")
    namespace.ip("link set tap0 master br_eth1")
    assert namespace.link("br_eth1")["mtu"] == mtu
    assert (await novlan.check(want)).differences == ()


@pytest.mark.parametrize("fail_at", [0, 1, 2])
async def test_whichever_step_fails_the_host_is_as_it_was(
    namespace: Namespace, netlink: Netlink, network: Make, fail_at: int
) -> None:
    """On the real kernel, too."""
    before = await netlink.observe()
    kernel = Failing(netlink, fail_at)
    with pytest.raises(BackendFailed):
        await NoVlanBackend(HostLinks(kernel)).realize(L2OnHost(1, network(), "eth1"))
    assert kernel.left < 0  # the fault was really hit
    assert await netlink.observe() == before


async def test_a_foreign_device_of_the_wanted_name_stays_untouched(
    namespace: Namespace, netlink: Netlink, network: Make
) -> None:
    """Refused by the planner; and if it appears after the look, by the kernel, without marking it."""
    namespace.ip("link add br_eth1_10 type bridge forward_delay 1500")
    before = namespace.link("br_eth1_10")
    net = network("br_eth1_10")
    with pytest.raises(Conflict) as caught:
        await backend(netlink).realize(L2OnHost(1, net, "eth1"))
    assert caught.value.details["device"] == "br_eth1_10"
    step = AddLink(Link("br_eth1_10", "bridge", net.uuid, 1, up=True, options=options(stp=False, forward_delay=0)))
    (refused,) = await netlink.apply([[step]], {})
    assert refused.done == []
    assert refused.refusal is not None
    assert refused.refusal.details["error"] == "EEXIST"
    after = namespace.link("br_eth1_10")
    assert "ifalias" not in after
    assert after["flags"] == before["flags"]


async def test_a_vms_tap_is_never_unplugged_unless_forced(
    namespace: Namespace, netlink: Netlink, network: Make
) -> None:
    """IN_USE, naming it; nothing was changed."""
    net, novlan = network(), backend(netlink)
    await novlan.realize(L2OnHost(1, net, "eth1"))
    namespace.ip("link add vnet0 type veth peer name guest0")
    namespace.ip("link set vnet0 master br_eth1")
    with pytest.raises(InUse) as caught:
        await novlan.release(L2OnHost(2, net, "eth1"))
    assert caught.value.details["ports"] == ["vnet0"]
    assert namespace.link("eth1")["master"] == "br_eth1"
    await novlan.release(L2OnHost(2, net, "eth1", force=True))
    assert namespace.names() == {"lo", "eth1", "peer1", "vnet0", "guest0"}


@pytest.mark.parametrize(
    ("setup", "details"),
    [
        (["link set eth1 name eth9"], {"device": "eth1", "field": "physicalInterface"}),
        (["link add br9 type bridge", "link set eth1 master br9"], {"device": "eth1", "bridge": "br9"}),
        (["link set eth1 name x", "link add eth1 type bridge"], {"device": "eth1"}),
        (["link set eth1 mtu 1400"], {"device": "eth1", "mtu": 1400}),
    ],
)
async def test_a_nic_that_cannot_be_taken_safely_is_refused(
    namespace: Namespace, netlink: Netlink, network: Make, setup: list[str], details: dict[str, object]
) -> None:
    """Nothing is changed, not even up."""
    for command in setup:
        namespace.ip(command)
    before = await netlink.observe()
    with pytest.raises(PreconditionFailed) as caught:
        await backend(netlink).realize(L2OnHost(1, network(), "eth1"))
    assert details.items() <= caught.value.details.items()
    assert await netlink.observe() == before


KILLED = """
import asyncio, os, signal, sys
sys.path[:0] = sys.argv[4:]
from viaduct_agent.links.host import HostLinks
from viaduct_agent.links.netlink import Netlink
from viaduct_agent.backends.novlan import NoVlanBackend
from viaduct_agent.backends.api import L2OnHost
from viaduct_common.messages.l2 import L2NetworkInventory

class Killed(Netlink):
    async def apply(self, plans, indexes):
        await super().apply([plans[0][:int(sys.argv[2])]], indexes)
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    async with Killed(sys.argv[1]) as netlink:
        net = L2NetworkInventory.from_json(sys.argv[3])
        await NoVlanBackend(HostLinks(netlink)).realize(L2OnHost(1, net, "eth1"))

asyncio.run(main())
"""


@pytest.mark.parametrize("after_steps", [1, 2, 3])
async def test_a_kill_in_the_middle_is_finished_by_the_next_run(
    namespace: Namespace, netlink: Netlink, network: Make, after_steps: int, tmp_path: Path
) -> None:
    """Whatever is there carries our mark, so it is adopted."""
    net = network()
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    arguments = [namespace.name, str(after_steps), net.to_json().decode(), *sys.path]
    process = await asyncio.create_subprocess_exec(sys.executable, str(script), *arguments)
    assert await process.wait() == -signal.SIGKILL
    for name in namespace.names() - {"lo", "eth1", "peer1"}:
        assert namespace.link(name)["ifalias"] == f"viaduct:{net.uuid}:1"
    novlan = backend(netlink)
    await novlan.realize(L2OnHost(1, net, "eth1"))
    assert (await novlan.check(L2OnHost(1, net, "eth1"))).differences == ()


async def test_the_kernels_words_and_errno_are_kept(netlink: Netlink, namespace: Namespace) -> None:
    """NETLINK_EXT_ACK is worth reading."""
    (applied,) = await netlink.apply([[AddLink(Link("x", "bridge", mtu=10))]], {})
    assert applied.refusal is not None
    assert applied.refusal.details["errno"] == 22
    assert "mtu less than device minimum" in applied.refusal.message
    assert "x" not in namespace.names()


async def test_many_requests_leave_the_socket_in_step(netlink: Netlink, network: Make, namespace: Namespace) -> None:
    """Refusals, dumps and sets in a row: no answer is taken for another's."""
    novlan = backend(netlink)
    for generation in range(1, 40):
        net = network()
        await novlan.realize(L2OnHost(generation, net, "eth1"))
        with pytest.raises(Conflict):
            await novlan.realize(L2OnHost(1, network(), "eth1"))
        assert {"lo", "eth1", "peer1", "br_eth1"} == set(await netlink.observe())
        await novlan.release(L2OnHost(generation, net, "eth1"))
