"""Open vSwitch that is away, comes back, changes by itself, or keeps what nobody wants any more."""

import asyncio
import socket
import sys
import tempfile
from pathlib import Path
from uuid import uuid4

import pytest

from viaduct_agent.backends.abilities import Closing, Configured, Leftovers, Watching
from viaduct_agent.backends.api import Registry
from viaduct_agent.backends.ovsgre import OvsGreBackend
from viaduct_agent.drift import DriftGuard
from viaduct_agent.driftreports import Drift
from viaduct_agent.holdings import Holdings
from viaduct_agent.lanes import Lanes
from viaduct_agent.links.host import HostLinks
from viaduct_agent.orphans import Orphanage
from viaduct_agent.ovs.ovsdb import Ovsdb, default_socket
from viaduct_agent.settings import AgentSettings
from viaduct_common.errors import PreconditionFailed
from viaduct_common.naming import gre_device_name

from .open_vswitch import BRIDGE, KEY, TWO, OpenVSwitch, host_links, wanted


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

    links, holdings = host_links(), Holdings()
    backends = Registry([Here], links)
    reports: asyncio.Queue[Drift] = asyncio.Queue()
    want = wanted(TWO)
    backend = backends.get("OvsGreL2Network")
    assert isinstance(backend, Watching)
    guard = asyncio.create_task(
        DriftGuard(backends, holdings, Lanes(), reports.put_nowait, links=links).run(backend.changes())
    )
    await backend.realize(want)
    holdings.realized(want)
    await asyncio.to_thread(switch.vsctl, "del-port", BRIDGE, gre_device_name(KEY, TWO))
    drift = await asyncio.wait_for(reports.get(), 10)
    assert drift.repaired
    assert [(one.device, one.attribute) for one in drift.differences] == [(gre_device_name(KEY, TWO), "device")]
    assert switch.ports(BRIDGE) == {gre_device_name(KEY, TWO)}
    guard.cancel()
    await asyncio.gather(guard, return_exceptions=True)


async def test_what_is_marked_in_open_vswitch_alone_is_an_orphan_and_swept(
    switch: OpenVSwitch, database: Ovsdb
) -> None:
    """No link carries the mark: the backend is asked."""

    class Here(OvsGreBackend):
        def __init__(self, links: HostLinks) -> None:
            super().__init__(links, database)

    links, want = host_links(), wanted(TWO)
    backends, holdings = Registry([Here], links), Holdings()
    await backends.of(want).realize(want)
    orphanage = Orphanage(backends, links, holdings, Lanes())
    assert await orphanage.find([want.network.uuid]) == []
    (found,) = await orphanage.find([])
    assert (found.l2_network_uuid, found.reason, found.swept) == (want.network.uuid, "unlisted", False)
    assert BRIDGE in found.devices
    (swept,) = await orphanage.sweep([])
    assert swept.swept
    assert switch.bridges() == set()
    assert await orphanage.find([]) == []


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
    for refused in (backend.check(want), backend.release(want)):  # it is not gone for good
        with pytest.raises(PreconditionFailed, match="No such file"):
            await refused
    assert await backend.marked() == {}
    switch.start_server()
    while not (await asyncio.wait_for(told, 10)).overflow:
        told = asyncio.ensure_future(anext(changes))
    assert (await backend.check(want)).differences == ()
    switch.vsctl("del-br", BRIDGE)
    assert await backend.realize(want)
    await changes.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize("what", ["nothing", "file", "directory", "abandoned"])
async def test_a_host_without_open_vswitch_says_so(tmp_path: Path, what: str) -> None:
    """Refused in the pre-flight; a listener only waits. What never was there has nothing to be released."""
    path = tmp_path / "s"
    if what == "file":
        path.touch()
    elif what == "directory":
        path.mkdir()
    elif what == "abandoned":  # as a killed ovsdb-server leaves it
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    backend = OvsGreBackend(host_links(), Ovsdb(path))
    changes = asyncio.ensure_future(anext(backend.changes()))
    error = await backend.unavailable()
    assert error is not None
    assert (error.code, error.details["socket"]) == ("PRECONDITION_FAILED", str(path))
    for refused in (backend.check(wanted()), backend.realize(wanted())):
        with pytest.raises(PreconditionFailed):
            await refused
    if what == "nothing":
        assert await backend.release(wanted()) == ()
        assert (await backend.check(wanted(), "release")).refusal is None
    else:
        with pytest.raises(PreconditionFailed):
            await backend.release(wanted())
    assert not changes.done()
    changes.cancel()
    await backend.aclose()


async def test_a_host_without_the_library_says_so(switch: OpenVSwitch, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra: the agent runs without it, whatever else the host has."""
    monkeypatch.setitem(sys.modules, "ovs.db.idl", None)
    monkeypatch.delitem(sys.modules, "viaduct_agent.ovs.replica", raising=False)
    backend = OvsGreBackend(host_links(), Ovsdb(switch.socket))
    error = await backend.unavailable()
    assert error is not None
    assert "no library" in error.message
    assert await backend.release(wanted()) == ()
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
            path = Path(directory) / "db.sock"
            server = await asyncio.start_unix_server(behave, path)
            database = Ovsdb(path, answer_seconds=0.3)
            error = await database.unavailable("gre")
            assert error is not None
            assert error.code == "PRECONDITION_FAILED"
            server.close()
            await database.aclose()


async def test_the_setting_tells_where_the_server_is(switch: OpenVSwitch, tmp_path: Path) -> None:
    """Else where Open vSwitch's own tools look."""
    assert default_socket({}) == Path("/run/openvswitch/db.sock")
    assert default_socket({"OVS_RUNDIR": "/x"}) == Path("/x/db.sock")
    backend = OvsGreBackend(host_links(), Ovsdb(tmp_path / "none"))
    assert await backend.unavailable() is not None
    settings = AgentSettings(host_uuid=uuid4(), amqp_url="amqp://x", ovsdb_socket=switch.socket)
    backend.configure(settings)
    assert await backend.unavailable() is None
    await backend.aclose()
    for ability in (Closing, Configured, Leftovers, Watching):
        assert isinstance(backend, ability)
