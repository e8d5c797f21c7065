"""Realize, check and release by a real ovsdb-server and ovs-vswitchd, whose datapath is a dummy: no frames here."""

import asyncio
import tempfile
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from random import Random
from uuid import uuid4

import pytest
from unit.agent.ovs_states import BRIDGES, OURS, PORTS, any_desired, any_state

from viaduct_agent.backends.ovsgre import OvsGreBackend
from viaduct_agent.ovs.model import Bridges, after, steps_between
from viaduct_agent.ovs.ovsdb import Ovsdb
from viaduct_agent.ovs.plan import plan, plan_release
from viaduct_common.errors import ViaductError
from viaduct_common.messages.agent import Peer
from viaduct_common.naming import gre_device_name

from .open_vswitch import BRIDGE, KEY, ONE, THREE, TWO, OpenVSwitch, wanted


async def test_realize_check_release(switch: OpenVSwitch, backend: OvsGreBackend) -> None:
    """What `ovs-vsctl` shows is what the design says; after the release nothing is left."""
    want = wanted(TWO, THREE)
    assert not (await backend.check(want)).present
    assert len(await backend.realize(want)) == 3
    tunnels = {TWO: gre_device_name(KEY, TWO), THREE: gre_device_name(KEY, THREE)}
    assert switch.ports(BRIDGE) == {*tunnels.values()}
    mark = f'{{viaduct-generation="1", viaduct-owner="{want.network.uuid}"}}'
    assert switch.get("Bridge", BRIDGE, "external_ids") == mark
    assert switch.get("Bridge", BRIDGE, "fail_mode") == "standalone"
    assert switch.get("Interface", BRIDGE, "mtu_request") == "1458"
    for address, name in tunnels.items():
        assert switch.get("Interface", name, "type") == "gre"
        assert switch.get("Interface", name, "options") == f'{{key="7", local_ip="{ONE}", remote_ip="{address}"}}'
        assert switch.get("Port", name, "protected") == "true"
        assert switch.get("Port", name, "external_ids") == mark
        assert switch.get("Interface", name, "ofport") != "-1"  # ovs-vswitchd has it already
    assert await backend.realize(want) == ()
    checked = await backend.check(want)
    assert (checked.present, checked.differences, checked.steps, checked.refusal) == (True, (), (), None)
    assert await backend.release(want) == (f"ovs-vsctl del-br {BRIDGE}",)
    assert await backend.release(want) == ()
    assert switch.bridges() == set()


async def test_the_commands_that_are_told_do_the_same(switch: OpenVSwitch, backend: OvsGreBackend) -> None:
    """`steps` of a check are for whoever wants to do it by hand: afterwards nothing is left to be done."""
    want = wanted(TWO, THREE)
    spoilings = [
        "",
        f"set Interface {BRIDGE} mtu_request=1300",
        f"set Port {gre_device_name(KEY, TWO)} tag=5",
        f"set Interface {gre_device_name(KEY, TWO)} options:key=8",
        f"set-controller {BRIDGE} tcp:127.0.0.1",
        f"set Bridge {BRIDGE} external_ids:viaduct-generation=0 stp_enable=true fail_mode=secure",
    ]
    for spoil in spoilings:
        switch.vsctl("--no-wait", *(spoil.split() or ["show"]))
        steps = (await backend.check(want)).steps
        assert steps, spoil
        for step in steps:
            switch.vsctl("--no-wait", *step.split()[1:])
        assert (await backend.check(want)).differences == (), spoil


async def test_peers_come_and_go_and_nothing_else_is_touched(switch: OpenVSwitch, backend: OvsGreBackend) -> None:
    """A port of a peer that stays keeps its row; the bridge, too."""
    want = wanted(TWO)
    await backend.realize(want)
    rows = [switch.get("Bridge", BRIDGE, "_uuid"), switch.get("Port", gre_device_name(KEY, TWO), "_uuid")]
    more = replace(want, peers=(*want.peers, Peer(host_uuid=uuid4(), tunnel_ip=ip_address(THREE))))
    assert len(await backend.realize(more)) == 1
    assert switch.ports(BRIDGE) == {gre_device_name(KEY, TWO), gre_device_name(KEY, THREE)}
    assert await backend.realize(want) == (f"ovs-vsctl del-port {BRIDGE} {gre_device_name(KEY, THREE)}",)
    assert [switch.get("Bridge", BRIDGE, "_uuid"), switch.get("Port", gre_device_name(KEY, TWO), "_uuid")] == rows


async def test_ends_of_ipv6_make_tunnels_of_a_type_of_its_own(switch: OpenVSwitch, backend: OvsGreBackend) -> None:
    """Changed in place when all hosts get ends of the other version."""
    want = wanted(TWO)
    await backend.realize(want)
    peers = (Peer(host_uuid=uuid4(), tunnel_ip=ip_address("2001:db8::2")),)
    await backend.realize(replace(want, tunnel_ip=ip_address("2001:db8::1"), peers=peers))
    name = gre_device_name(KEY, "2001:db8::2")
    assert switch.ports(BRIDGE) == {name}
    assert switch.get("Interface", name, "type") == "ip6gre"
    assert switch.get("Interface", name, "options:local_ip") == '"2001:db8::1"'


async def test_another_key_or_tunnel_end_is_applied(switch: OpenVSwitch, backend: OvsGreBackend) -> None:
    """The key names the tunnels, so they are made anew; the end is only changed."""
    want = wanted(TWO)
    await backend.realize(want)
    await backend.realize(replace(want, tunnel_ip=ip_address("10.9.0.1")))
    name = gre_device_name(KEY, TWO)
    assert switch.get("Interface", name, "options:local_ip") == '"10.9.0.1"'
    network = want.network.model_copy(update={"key": 8})
    await backend.realize(replace(want, network=network))
    assert switch.ports(BRIDGE) == {gre_device_name(8, TWO)}
    assert switch.get("Interface", gre_device_name(8, TWO), "options:key") == '"8"'


async def test_every_attribute_that_another_hand_changed_is_found_and_mended(
    switch: OpenVSwitch, backend: OvsGreBackend
) -> None:
    """Found by check, mended by realize."""
    want, tunnel = wanted(TWO), gre_device_name(KEY, TWO)
    await backend.realize(want)
    changes = {
        f"set Bridge {BRIDGE} fail_mode=secure": "fail_mode",
        f"set Bridge {BRIDGE} datapath_type=netdev": "datapath_type",
        f"set Bridge {BRIDGE} stp_enable=true": "stp",
        f"set Bridge {BRIDGE} rstp_enable=true": "rstp",
        f"set Bridge {BRIDGE} mcast_snooping_enable=true": "mcast_snooping",
        f"set-controller {BRIDGE} tcp:127.0.0.1:6653": "controllers",
        f"set Bridge {BRIDGE} external_ids:viaduct-generation=0": "generation",
        f"remove Bridge {BRIDGE} external_ids viaduct-generation": "generation",
        f"set Interface {BRIDGE} mtu_request=1300": "mtu",
        f"remove Bridge {BRIDGE} ports LOCAL": "mtu",
        f"set Port {tunnel} protected=false": "protected",
        f"set Port {tunnel} tag=5": "tag",
        f"set Port {tunnel} trunks=1,2": "trunks",
        f"set Port {tunnel} vlan_mode=trunk": "vlan_mode",
        f"set Port {tunnel} external_ids:viaduct-generation=0": "generation",
        f"set Interface {tunnel} type=vxlan": "kind",
        f"set Interface {tunnel} options:csum=true": "options",
        f"remove Interface {tunnel} options key": "options",
        f"del-port {BRIDGE} {tunnel}": "device",
        f"del-br {BRIDGE}": "device",
    }
    for command, attribute in changes.items():
        switch.vsctl(*command.replace("LOCAL", switch.get("Port", BRIDGE, "_uuid")).split())
        assert attribute in {found.attribute for found in (await backend.check(want)).differences}, command
        assert await backend.realize(want)
        assert (await backend.check(want)).differences == (), command


async def test_other_keys_beside_our_mark_stay(switch: OpenVSwitch, backend: OvsGreBackend) -> None:
    """external_ids are shared: a new generation changes our two alone."""
    want = wanted()
    await backend.realize(want)
    switch.vsctl("set", "Bridge", BRIDGE, "external_ids:theirs=yes")
    await backend.realize(replace(want, generation=2))
    assert switch.get("Bridge", BRIDGE, "external_ids:theirs") == "yes"
    assert switch.get("Bridge", BRIDGE, "external_ids:viaduct-generation") == '"2"'


async def test_a_tunnel_moved_to_a_strangers_bridge_comes_back(switch: OpenVSwitch, backend: OvsGreBackend) -> None:
    """Deleted there and made here, in one transaction."""
    want, tunnel = wanted(TWO), gre_device_name(KEY, TWO)
    await backend.realize(want)
    row = switch.get("Port", tunnel, "_uuid")
    switch.vsctl(*f"add-br theirs -- remove Bridge {BRIDGE} ports {row} -- add Bridge theirs ports {row}".split())
    assert await backend.realize(want)
    assert (switch.ports("theirs"), switch.ports(BRIDGE)) == (set(), {tunnel})


async def test_a_hundred_networks_at_once(switch: OpenVSwitch, backend: OvsGreBackend) -> None:
    """All of them in few rounds of ovs-vswitchd; each of them whole."""
    many = [wanted(TWO, THREE, key=key) for key in range(100, 200)]
    await asyncio.gather(*(backend.realize(want) for want in many))
    assert len(await backend.marked()) == 100
    for want in many:
        assert (await backend.check(want)).differences == ()
    await asyncio.gather(*(backend.release(want) for want in many))
    assert switch.bridges() == set()


@pytest.mark.parametrize("seed", range(4))
async def test_the_database_does_with_any_steps_what_the_model_says(tmp_path: Path, seed: int) -> None:
    """From any state to any wanted one and away, nothing without our mark touched; by ovsdb-server alone."""
    random = Random(seed)
    with tempfile.TemporaryDirectory(prefix="ovs-") as directory:
        switch = OpenVSwitch(Path(directory))
        with switch.server_alone():
            database = Ovsdb(switch.socket)

            async def observe() -> Bridges:
                return await database.observe(OURS, [*BRIDGES, *PORTS])

            for _ in range(25):
                actual, desired = any_state(random, storable=True), any_desired(random)
                switch.vsctl("--no-wait", *" ".join(f"-- --if-exists del-br {name}" for name in BRIDGES).split())
                await database.transact(steps_between({}, actual), settle=False)
                assert await observe() == actual
                for work in (lambda now, d=desired: plan(d, now), lambda now: plan_release(OURS, now, force=True)):
                    now = await observe()
                    try:
                        steps = work(now)
                    except ViaductError:
                        continue
                    if steps:
                        await database.transact(steps, settle=False)
                    assert await observe() == after(now, steps)
            await database.aclose()
