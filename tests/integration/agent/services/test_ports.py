"""Legs on other bridges than plain ones: Open vSwitch, and bridges that filter VLANs."""

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from integration.agent.ovs.open_vswitch import OpenVSwitch
from lab import Lab

from viaduct_agent.links.netlink import Netlink
from viaduct_agent.services.router import VirtualRouterBackend
from viaduct_agent.services.tools import ServiceTools

from .routed import Routed
from .world import World

pytestmark = pytest.mark.lab


@pytest.fixture
def switch() -> Iterator[OpenVSwitch]:
    with tempfile.TemporaryDirectory(prefix="ovs-") as directory, OpenVSwitch(Path(directory)) as switch:
        yield switch


async def test_leg_is_a_port_of_open_vswitch_with_its_tag(world: World, directory: Path, switch: OpenVSwitch) -> None:
    """Made once, moved back when another hand takes it out, and gone with the router."""
    routed = Routed.make(world)
    switch.vsctl("add-br", "br_gr_7")
    values = routed.spec().model_dump(mode="json")
    values["inside"]["port"].update(bridge="br_gr_7", vlan=12, virtualPort="openvswitch")
    want = routed.want(type(routed.spec()).from_json(json.dumps(values)))
    async with Netlink(world.host.name) as netlink:
        tools = ServiceTools(netlink, directory / "state", world.host.name, ovsdb=f"unix:{switch.socket}")
        backend = VirtualRouterBackend(tools)
        await backend.apply(want)
        outer = backend.layout(want).space.legs[0].outer
        assert switch.ports("br_gr_7") == {outer}
        assert switch.get("port", outer, "tag") == "12"
        assert await backend.apply(want) == ()
        for change in (["del-port", outer], ["set", "port", outer, "tag=13"]):
            switch.vsctl(*change)
            assert {one.device for one in (await backend.check(want)).differences} == {outer}
            await backend.apply(want)
            assert (await backend.check(want)).differences == ()
        await backend.remove(routed.service)
        assert switch.ports("br_gr_7") == set()
        await backend.aclose()


GUEST = """
import asyncio, sys
from pathlib import Path
from uuid import UUID
from viaduct_agent.links.marks import format_service_mark
from viaduct_agent.links.netlink import Netlink
from viaduct_agent.services.routing import rules
from viaduct_agent.services.space import Space, WantedLeg
from viaduct_agent.services.spacelook import do, look, remove_space
from viaduct_agent.services.spaceplan import plan_namespace, plan_space
from viaduct_agent.services.tools import ServiceTools

async def main():
    uuid = UUID(sys.argv[1])
    leg = WantedLeg("vsout", "inside", "brv", "fa:00:00:00:00:01", 1500, frozenset({"10.0.0.1/24"}), vlan=10)
    by_table = frozenset(rules(leg, [], [], marked=False))
    want = Space(uuid, f"vr-{uuid}", format_service_mark(uuid, 1), (leg,), rules=by_table)
    async with Netlink() as netlink:
        tools = ServiceTools(netlink, Path("/tmp"))
        for plan in (plan_namespace, plan_space, plan_space):
            steps = plan(want, await look(want, tools))
            await do(steps, want.name, tools)
            print(len(steps))
        if sys.argv[2:]:
            await remove_space(uuid, want.name, tools)

asyncio.run(main())
"""


@pytest.mark.slow
def test_leg_has_its_vlan_untagged_on_a_bridge_that_filters_vlans(tmp_path: Path) -> None:
    """And no other; another hand's change of it is mended."""
    lab = Lab(f"p{uuid4().hex[:6]}", tmp_path / "lab")
    lab.up()
    try:
        (host,) = lab.start_hosts(["a"], kind="uml")
        host.run("ip link add name brv type bridge vlan_filtering 1 vlan_default_pvid 0 && ip link set brv up")
        vm = host.add_vm("v", "brv", address="10.0.0.2/24")
        host.run(["bridge", "vlan", "add", "dev", vm.port, "vid", "10", "pvid", "untagged"])
        host.run(["tee", "/tmp/guest.py"], stdin=GUEST)
        path = ":".join(word for word in sys.path if word)
        run = ["env", f"PYTHONPATH={path}", sys.executable, "/tmp/guest.py", str(uuid4())]
        made = host.run(run, timeout_seconds=90).stdout.split()
        assert int(made[1]) > 0
        assert made[2] == "0"
        assert vm.ping("10.0.0.1", count=5)
        host.run("bridge vlan del dev vsout vid 10; bridge vlan add dev vsout vid 11")
        assert host.run([*run, "remove"], timeout_seconds=90).stdout.split()[1:] == ["2", "0"]
        assert "vsout" not in host.run("ip link").stdout
        assert "vr-" not in host.run("ip netns").stdout
    finally:
        lab.down()
