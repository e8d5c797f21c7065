"""The Open vSwitch backend against a real ovsdb-server and ovs-vswitchd, whose datapath is a dummy: no frames here."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from random import Random
from uuid import UUID, uuid4

import pytest
from unit.agent.ovs_states import BRIDGES, OURS, PORTS, any_desired, any_state

from viaduct_agent.backends.abilities import Closing, Configured, Leftovers, Watching
from viaduct_agent.backends.api import L2OnHost, Registry
from viaduct_agent.backends.ovsgre import OvsGreBackend
from viaduct_agent.changes import merged
from viaduct_agent.drift import DriftGuard
from viaduct_agent.holdings import Holdings
from viaduct_agent.lanes import Lanes
from viaduct_agent.links.host import HostLinks
from viaduct_agent.links.model import Link
from viaduct_agent.ovs.model import Bridges, DelBridge, after, steps_between
from viaduct_agent.ovs.operations import Stale
from viaduct_agent.ovs.ovsdb import Ovsdb, default_socket
from viaduct_agent.ovs.plan import plan, plan_release
from viaduct_agent.settings import AgentSettings
from viaduct_agent.testing import FakeKernel
from viaduct_common.errors import BackendFailed, Conflict, InUse, PreconditionFailed, ViaductError
from viaduct_common.messages.agent import Peer
from viaduct_common.messages.base import ErrorBody
from viaduct_common.messages.l2 import Difference, L2NetworkInventory
from viaduct_common.naming import gre_bridge_name, gre_device_name

from .open_vswitch import OpenVSwitch

KEY = 7
BRIDGE = gre_bridge_name(KEY)
ONE, TWO, THREE = (str(IPv4Address(f"10.0.0.{number}")) for number in (1, 2, 3))


@pytest.fixture(scope="module")
def running() -> Iterator[OpenVSwitch]:
    with tempfile.TemporaryDirectory(prefix="ovs-") as directory, OpenVSwitch(Path(directory)) as switch:
        yield switch


@pytest.fixture
def switch(running: OpenVSwitch) -> Iterator[OpenVSwitch]:
    """One for all; every test begins with no bridge at all."""
    yield running
    for bridge in running.bridges():
        running.vsctl("del-br", bridge)


@pytest.fixture
async def database(running: OpenVSwitch) -> AsyncIterator[Ovsdb]:
    database = Ovsdb(running.socket)
    yield database
    await database.aclose()


@pytest.fixture
def backend(database: Ovsdb) -> OvsGreBackend:
    return OvsGreBackend(HostLinks(FakeKernel()), database)


def wanted(*peers: str, key: int = KEY, mtu: int = 1458, generation: int = 1, uuid: UUID | None = None) -> L2OnHost:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    name = gre_bridge_name(key)
    body = {
        "uuid": uuid or uuid4(), "name": "net", "zone_uuid": uuid4(), "physical_interface": "eth1", "key": key,
        "type": "OvsGreL2Network", "mtu": mtu, "bridge_name": name, "device_names": [name], "created_at": now,
        "updated_at": now,
    }  # fmt: skip
    network = L2NetworkInventory.model_validate(body)
    others = tuple(Peer(host_uuid=uuid4(), tunnel_ip=ip_address(peer)) for peer in peers)
    return L2OnHost(generation, network, "eth1", tunnel_ip=ip_address(ONE), peers=others)


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


@pytest.mark.parametrize(
    ("commands", "device"),
    [
        ([f"add-br {BRIDGE}"], BRIDGE),
        (["add-br theirs", f"add-port theirs {BRIDGE} -- set Interface {BRIDGE} type=internal"], BRIDGE),
        (["add-br theirs", f"add-port theirs {gre_device_name(KEY, TWO)}"], gre_device_name(KEY, TWO)),
        ([f"add-br {BRIDGE} -- set Bridge {BRIDGE} external_ids:viaduct-owner={UUID(int=5)}"], BRIDGE),
    ],
)
async def test_a_name_that_a_stranger_has_is_a_conflict_and_the_stranger_stays(
    switch: OpenVSwitch, backend: OvsGreBackend, commands: list[str], device: str
) -> None:
    """Bridge or port, of nobody or of another network; nothing is changed."""
    for command in commands:
        switch.vsctl(*command.split())
    before = switch.vsctl("show")
    with pytest.raises(Conflict) as caught:
        await backend.realize(wanted(TWO))
    assert caught.value.details["device"] == device
    checked = await backend.check(wanted(TWO))
    assert checked.refusal is not None
    assert checked.refusal.code == "CONFLICT"
    assert switch.vsctl("show") == before


async def test_a_vms_port_is_never_unplugged_unless_forced(switch: OpenVSwitch, backend: OvsGreBackend) -> None:
    """IN_USE, naming it, and the tunnels stay; with `force` everything goes."""
    want = wanted(TWO)
    await backend.realize(want)
    switch.vsctl("add-port", BRIDGE, "vnet0")
    assert (await backend.check(want)).differences == ()
    refusal = (await backend.check(want, "release")).refusal
    assert refusal is not None
    assert refusal.code == "IN_USE"
    with pytest.raises(InUse) as caught:
        await backend.release(want)
    assert caught.value.details["ports"] == ["vnet0"]
    assert switch.ports(BRIDGE) == {"vnet0", gre_device_name(KEY, TWO)}
    await backend.realize(replace(want, peers=()))
    assert switch.ports(BRIDGE) == {"vnet0"}
    await backend.release(replace(want, force=True))
    assert switch.bridges() == set()


async def test_a_port_that_comes_between_look_and_transaction_is_not_unplugged(
    switch: OpenVSwitch, backend: OvsGreBackend, database: Ovsdb
) -> None:
    """The transaction fails whole; looking again finds the port."""
    want = wanted(TWO)
    await backend.realize(want)
    bridges = await database.observe(want.network.uuid)
    switch.vsctl("add-port", BRIDGE, "vnet0")
    with pytest.raises(Stale):
        await database.transact([DelBridge(bridges[BRIDGE])])
    assert "vnet0" in switch.ports(BRIDGE)


async def test_a_row_that_lost_its_mark_since_the_look_is_not_touched(
    switch: OpenVSwitch, backend: OvsGreBackend, database: Ovsdb
) -> None:
    """Whoever takes the mark away owns it from then on."""
    want = wanted(TWO)
    await backend.realize(want)
    bridges = await database.observe(want.network.uuid)
    switch.vsctl("remove", "Bridge", BRIDGE, "external_ids", "viaduct-owner")
    with pytest.raises(Stale):
        await database.transact([DelBridge(bridges[BRIDGE])])
    assert switch.bridges() == {BRIDGE}


async def test_what_changed_since_the_look_is_looked_at_again(switch: OpenVSwitch, running: OpenVSwitch) -> None:
    """A transaction planned from what is no longer so is planned anew."""

    class Overtaken(Ovsdb):
        times = 0

        async def observe(self, owner: UUID, names: object = ()) -> Bridges:
            found = await super().observe(owner, names)  # type: ignore[arg-type] # passed on
            if found and self.times < 2:
                self.times += 1
                port = f"vnet{self.times}"
                await asyncio.to_thread(switch.vsctl, "add-port", BRIDGE, port)
            return found

    database = Overtaken(running.socket)
    try:
        backend = OvsGreBackend(HostLinks(FakeKernel()), database)
        want = wanted()
        switch.vsctl("add-br", BRIDGE, "--", "set", "Bridge", BRIDGE, f"external_ids:viaduct-owner={want.network.uuid}")
        await backend.release(replace(want, force=True))
        assert database.times == 2
        assert switch.bridges() == set()
    finally:
        await database.aclose()


async def test_what_ovs_vswitchd_cannot_do_is_undone_and_told(
    switch: OpenVSwitch, backend: OvsGreBackend, database: Ovsdb
) -> None:
    """A tunnel with the ends and key of a stranger's: ovs-vswitchd says so in the interface's `error`."""
    words = f"add-br theirs -- add-port theirs g -- set Interface g type=gre options:key={KEY}"
    switch.vsctl(*words.split(), f"options:local_ip={ONE}", f"options:remote_ip={TWO}")
    want = wanted(THREE)
    await backend.realize(want)
    before = switch.ports(BRIDGE)
    more = replace(want, peers=(Peer(host_uuid=uuid4(), tunnel_ip=ip_address(TWO)),), generation=2)
    with pytest.raises(BackendFailed) as caught:
        await backend.realize(more)
    assert gre_device_name(KEY, TWO) in caught.value.message
    assert switch.ports(BRIDGE) == before
    assert switch.get("Bridge", BRIDGE, "external_ids:viaduct-generation") == '"1"'
    assert (await backend.check(want)).differences == ()


async def test_an_ovs_vswitchd_that_does_not_answer_fails_the_network(switch: OpenVSwitch) -> None:
    """The rows alone are no network: they are taken back. It works again once it is there."""
    database = Ovsdb(switch.socket, answer_seconds=1.0)
    backend = OvsGreBackend(HostLinks(FakeKernel()), database)
    want = wanted(TWO)
    switch.stop_vswitchd()
    try:
        with pytest.raises(BackendFailed, match="ovs-vswitchd does not answer"):
            await backend.realize(want)
        assert switch.bridges() == set()
    finally:
        switch.start_vswitchd()
        await database.aclose()


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


async def test_a_hundred_networks_at_once(switch: OpenVSwitch, backend: OvsGreBackend) -> None:
    """All of them in few rounds of ovs-vswitchd; each of them whole."""
    many = [wanted(TWO, THREE, key=key) for key in range(100, 200)]
    await asyncio.gather(*(backend.realize(want) for want in many))
    assert len(await backend.marked()) == 100
    for want in many:
        assert (await backend.check(want)).differences == ()
    await asyncio.gather(*(backend.release(want) for want in many))
    assert switch.bridges() == set()


async def test_leftovers_are_found_by_their_mark_and_released(switch: OpenVSwitch, backend: OvsGreBackend) -> None:
    """Newest generation, all devices; also when only a port on a stranger's bridge is left."""
    want = wanted(TWO, generation=4)
    await backend.realize(want)
    uuid, tunnel = want.network.uuid, gre_device_name(KEY, TWO)
    assert await backend.marked() == {uuid: 4}
    assert await backend.leftover_devices(uuid) == (BRIDGE, tunnel)
    mark = f"external_ids:viaduct-owner={uuid}"
    switch.vsctl(*f"del-br {BRIDGE} -- add-br theirs -- add-port theirs left -- set Port left {mark}".split())
    assert await backend.leftover_devices(uuid) == ("left",)
    assert (await backend.check(want)).differences
    assert await backend.release_leftover(uuid) == ("ovs-vsctl del-port theirs left",)
    assert await backend.marked() == {}
    assert switch.bridges() == {"theirs"}


async def test_a_tunnel_moved_to_a_strangers_bridge_comes_back(switch: OpenVSwitch, backend: OvsGreBackend) -> None:
    """Deleted there and made here, in one transaction."""
    want, tunnel = wanted(TWO), gre_device_name(KEY, TWO)
    await backend.realize(want)
    row = switch.get("Port", tunnel, "_uuid")
    switch.vsctl(*f"add-br theirs -- remove Bridge {BRIDGE} ports {row} -- add Bridge theirs ports {row}".split())
    assert await backend.realize(want)
    assert (switch.ports("theirs"), switch.ports(BRIDGE)) == (set(), {tunnel})


async def test_changes_are_told_by_name_and_owner(switch: OpenVSwitch, backend: OvsGreBackend) -> None:
    """Within a moment, one report for what belongs together; a stranger's bridge is told by its name."""
    want = wanted(TWO)
    changes = backend.changes()
    next_one = asyncio.ensure_future(anext(changes))
    await backend.realize(want)
    told = await asyncio.wait_for(next_one, 5)
    assert want.network.uuid in told.owners
    assert backend.device_names(want) <= told.names
    await asyncio.to_thread(switch.vsctl, "set", "Interface", gre_device_name(KEY, TWO), "options:key=9")
    assert gre_device_name(KEY, TWO) in (await asyncio.wait_for(anext(changes), 5)).names
    await asyncio.to_thread(switch.vsctl, "del-br", BRIDGE)
    told = await asyncio.wait_for(anext(changes), 5)
    assert BRIDGE in told.names
    assert want.network.uuid in told.owners
    await changes.aclose()  # type: ignore[attr-defined]


async def test_drift_in_open_vswitch_is_repaired_and_reported(switch: OpenVSwitch, database: Ovsdb) -> None:
    """By the change alone: the guard's own sweep comes only after a minute."""

    class Here(OvsGreBackend):
        def __init__(self, links: HostLinks) -> None:
            super().__init__(links, database)

    links, holdings = HostLinks(FakeKernel()), Holdings()
    backends = Registry([Here], links)
    reports: asyncio.Queue[list[Difference]] = asyncio.Queue()

    async def report(_: UUID, __: int, found: list[Difference], error: ErrorBody | None) -> None:
        assert error is None
        reports.put_nowait(found)

    want = wanted(TWO)
    backend = backends.get("OvsGreL2Network")
    assert isinstance(backend, Watching)
    guard = asyncio.create_task(
        DriftGuard(backends, holdings, Lanes(), report, links=links).run(merged(backend.changes()))
    )
    await backend.realize(want)
    holdings.realized(want)
    await asyncio.to_thread(switch.vsctl, "del-port", BRIDGE, gre_device_name(KEY, TWO))
    found = await asyncio.wait_for(reports.get(), 10)
    assert [(one.device, one.attribute) for one in found] == [(gre_device_name(KEY, TWO), "device")]
    assert switch.ports(BRIDGE) == {gre_device_name(KEY, TWO)}
    guard.cancel()
    await asyncio.gather(guard, return_exceptions=True)


async def test_a_restarted_server_is_found_again_and_told_as_an_overflow(
    switch: OpenVSwitch, backend: OvsGreBackend
) -> None:
    """Whatever was missed meanwhile must be looked at. While it is away, that is what is answered."""
    want = wanted(TWO)
    await backend.realize(want)
    changes = backend.changes()
    told = asyncio.ensure_future(anext(changes))
    switch.stop_server()
    error = await backend.unavailable()
    while error is None:  # the hang-up is noticed by the thread
        error = await backend.unavailable()
    assert error.code == "PRECONDITION_FAILED"
    with pytest.raises(PreconditionFailed, match="No such file"):
        await backend.check(want)
    assert await backend.marked() == {}
    switch.start_server()
    while not (await asyncio.wait_for(told, 10)).overflow:
        told = asyncio.ensure_future(anext(changes))
    assert (await backend.check(want)).differences == ()
    switch.vsctl("del-br", BRIDGE)
    assert await backend.realize(want)
    await changes.aclose()  # type: ignore[attr-defined]


async def test_a_host_without_open_vswitch_says_so(tmp_path: Path) -> None:
    """No socket, nobody behind it, or something else: refused in the pre-flight; a listener only waits."""
    for prepare in (lambda path: None, lambda path: path.write_text(""), lambda path: path.mkdir()):
        socket = tmp_path / f"{uuid4().hex[:6]}"
        prepare(socket)
        backend = OvsGreBackend(HostLinks(FakeKernel()), Ovsdb(socket))
        changes = asyncio.ensure_future(anext(backend.changes()))
        error = await backend.unavailable()
        assert error is not None
        assert (error.code, error.details["socket"]) == ("PRECONDITION_FAILED", str(socket))
        for refused in (backend.check(wanted()), backend.realize(wanted()), backend.release(wanted())):
            with pytest.raises(PreconditionFailed):
                await refused
        assert not changes.done()
        changes.cancel()
        await backend.aclose()


async def test_a_server_that_is_silent_or_none_is_not_waited_for(tmp_path: Path) -> None:
    """It takes the connection and never answers, or answers what no ovsdb-server would."""

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(3)
        writer.close()

    async def other(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'{"id": 0, "result": null, "error": "unknown database"}')
        await writer.drain()
        writer.close()

    for behave in (silent, other):
        with tempfile.TemporaryDirectory(prefix="ovs-") as directory:
            socket = Path(directory) / "db.sock"
            server = await asyncio.start_unix_server(behave, socket)
            database = Ovsdb(socket, answer_seconds=0.3)
            error = await database.unavailable("gre")
            assert error is not None
            assert error.code == "PRECONDITION_FAILED"
            server.close()
            await database.aclose()


async def test_the_networks_mtu_must_fit_the_device_that_carries_the_tunnels(
    switch: OpenVSwitch, database: Ovsdb
) -> None:
    """42 bytes are the tunnel's; and the end must be on this host."""

    class WithAddresses(HostLinks):
        async def observe(self) -> dict[str, Link]:
            return {"eth9": Link("eth9", mtu=1500, addresses=(f"{ONE}/24",)), "x": Link("x", mtu=1500)}

    backend = OvsGreBackend(WithAddresses(FakeKernel()), database)
    with pytest.raises(PreconditionFailed) as caught:
        await backend.realize(wanted(TWO, mtu=1459))
    assert caught.value.details == {"device": "eth9", "mtu": 1500, "wanted": 1459, "field": "mtu"}
    refusal = (await backend.check(replace(wanted(TWO), tunnel_ip=ip_address("10.0.0.99")))).refusal
    assert refusal is not None
    assert refusal.details["field"] == "tunnelIp"
    assert switch.bridges() == set()
    assert await backend.realize(wanted(TWO, mtu=1458))


async def test_a_device_of_the_kernel_with_the_bridges_name_is_a_conflict(switch: OpenVSwitch, database: Ovsdb) -> None:
    """Known to the kernel, not to Open vSwitch."""
    backend = OvsGreBackend(HostLinks(FakeKernel([Link(BRIDGE, "bridge")])), database)
    with pytest.raises(Conflict) as caught:
        await backend.realize(wanted())
    assert caught.value.details["device"] == BRIDGE
    assert switch.bridges() == set()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"tunnel_ip": None}, "tunnelIp"),
        ({"peers": (Peer(host_uuid=UUID(int=2), tunnel_ip=ip_address("2001:db8::2")),)}, "peers"),
        ({"peers": (Peer(host_uuid=UUID(int=2), tunnel_ip=ip_address(ONE)),)}, "peers"),
        ({"peers": tuple(Peer(host_uuid=UUID(int=n), tunnel_ip=ip_address(TWO)) for n in (2, 3))}, "peers"),
    ],
)
async def test_ends_that_make_no_tunnel_are_refused(
    switch: OpenVSwitch, backend: OvsGreBackend, change: dict[str, object], field: str
) -> None:
    """Missing, of another IP version, our own, or two peers' the same."""
    with pytest.raises(PreconditionFailed) as caught:
        await backend.realize(replace(wanted(), **change))  # type: ignore[arg-type] # by name
    assert caught.value.details["field"] == field
    assert switch.bridges() == set()


async def test_the_setting_tells_where_the_server_is(switch: OpenVSwitch, tmp_path: Path) -> None:
    """Else where Open vSwitch's own tools look."""
    assert default_socket({}) == Path("/run/openvswitch/db.sock")
    assert default_socket({"OVS_RUNDIR": "/x"}) == Path("/x/db.sock")
    backend = OvsGreBackend(HostLinks(FakeKernel()), Ovsdb(tmp_path / "none"))
    assert await backend.unavailable() is not None
    settings = AgentSettings(host_uuid=uuid4(), amqp_url="amqp://x", ovsdb_socket=switch.socket)
    backend.configure(settings)
    assert await backend.unavailable() is None
    await backend.aclose()
    for ability in (Closing, Configured, Leftovers, Watching):
        assert isinstance(backend, ability)
