"""What is refused, undone or done anew, by a real ovsdb-server and ovs-vswitchd; strangers stay as they are."""

import asyncio
from dataclasses import replace
from ipaddress import ip_address
from uuid import UUID, uuid4

import pytest

from viaduct_agent.backends.ovsgre import OvsGreBackend
from viaduct_agent.links.model import Link
from viaduct_agent.ovs.model import Bridges, DelBridge
from viaduct_agent.ovs.operations import Stale
from viaduct_agent.ovs.ovsdb import Ovsdb
from viaduct_common.errors import BackendFailed, Conflict, InUse, PreconditionFailed
from viaduct_common.messages.agent import Peer
from viaduct_common.naming import gre_device_name

from .open_vswitch import BRIDGE, KEY, ONE, THREE, TWO, OpenVSwitch, host_links, wanted


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
        backend = OvsGreBackend(host_links(), database)
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
    backend = OvsGreBackend(host_links(), database)
    want = wanted(TWO)
    switch.stop_vswitchd()
    try:
        with pytest.raises(BackendFailed, match="ovs-vswitchd does not answer"):
            await backend.realize(want)
        assert switch.bridges() == set()
    finally:
        switch.start_vswitchd()
        await database.aclose()


async def test_the_networks_mtu_must_fit_the_device_that_carries_the_tunnels(
    switch: OpenVSwitch, database: Ovsdb
) -> None:
    """42 bytes are the tunnel's; and the end must be on this host."""

    backend = OvsGreBackend(host_links(mtu=1500), database)
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
    backend = OvsGreBackend(host_links(Link(BRIDGE, "bridge")), database)
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
