"""An Open vSwitch in a directory: the real ovsdb-server, and the real ovs-vswitchd with a datapath of no frames."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import UUID, uuid4

from viaduct_agent.backends.api import L2OnHost
from viaduct_agent.links.host import HostLinks
from viaduct_agent.links.model import Link
from viaduct_agent.testing import FakeKernel
from viaduct_common.messages.agent import Peer
from viaduct_common.messages.l2 import L2NetworkInventory
from viaduct_common.naming import gre_bridge_name

KEY = 7
BRIDGE = gre_bridge_name(KEY)
ONE, TWO, THREE = (str(IPv4Address(f"10.0.0.{number}")) for number in (1, 2, 3))
SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
START_SECONDS = 20.0


class OpenVSwitch:
    """Needs no root and no kernel module. The path of a Unix socket is short: `directory` must be, too."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket = directory / "db.sock"
        self._server: subprocess.Popen[bytes] | None = None
        self._vswitchd: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._create()
        self.start_vswitchd()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_vswitchd()
        self.stop_server()

    @contextmanager
    def server_alone(self) -> Iterator[None]:
        """Without ovs-vswitchd: the rows are what we write, and nobody does anything about them."""
        self._create()
        try:
            yield
        finally:
            self.stop_server()

    def start_server(self) -> None:
        self._server = self._spawn("ovsdb-server", "conf.db", f"--remote=punix:{self.socket}")
        deadline = time.monotonic() + START_SECONDS
        while not self.socket.exists():
            assert time.monotonic() < deadline, self._log("ovsdb-server")
            time.sleep(0.01)

    def stop_server(self) -> None:
        _end(self._server)
        self.socket.unlink(missing_ok=True)

    def start_vswitchd(self) -> None:
        self._vswitchd = self._spawn("ovs-vswitchd", f"unix:{self.socket}", "--enable-dummy=system", "--disable-system")

    def stop_vswitchd(self) -> None:
        _end(self._vswitchd)

    def vsctl(self, *arguments: str) -> str:
        """Run ovs-vsctl; unless told otherwise it waits for ovs-vswitchd."""
        return self._do("ovs-vsctl", f"--db=unix:{self.socket}", "--timeout=20", *arguments)

    def get(self, table: str, record: str, column: str) -> str:
        return self.vsctl("--no-wait", "get", table, record, column).strip()

    def bridges(self) -> set[str]:
        return set(self.vsctl("--no-wait", "list-br").split())

    def ports(self, bridge: str) -> set[str]:
        return set(self.vsctl("--no-wait", "list-ports", bridge).split())

    def _create(self) -> None:
        self._do("ovsdb-tool", "create", str(self.directory / "conf.db"), SCHEMA)
        self.start_server()
        self.vsctl("--no-wait", "init")

    def _do(self, *command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, env=self._environment(), check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def _spawn(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.directory / f"{program}.log").open("ab") as log:
            return subprocess.Popen(
                [program, *arguments, "--no-chdir"],
                cwd=self.directory, env=self._environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def _environment(self) -> dict[str, str]:
        here = str(self.directory)
        return {**os.environ, "OVS_RUNDIR": here, "OVS_LOGDIR": here, "OVS_DBDIR": here}

    def _log(self, program: str) -> str:
        return (self.directory / f"{program}.log").read_text()


def _end(process: subprocess.Popen[bytes] | None) -> None:
    if process is not None and process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


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


def host_links(*links: Link, mtu: int = 1600) -> HostLinks:
    """A host in memory whose underlay carries every tunnel end of these tests."""
    ends = (f"{ONE}/24", "10.9.0.1/24", "2001:db8::1/64")
    return HostLinks(FakeKernel([Link("eth9", mtu=mtu, addresses=ends), *links]))
