"""The agent as its owner runs it: the shipped unit, under a real systemd, in a host with a kernel of its own.

systemd is PID 1 of a namespace inside the User-Mode Linux host, never on this machine: at its start it empties /tmp.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from faults.truth import eventually, owned_devices
from lab import Host, Program
from lab.plain_fpu import ENVIRONMENT

from local_stack.hosts import STATE_DIR
from local_stack.run_dir import CHECKOUT
from local_stack.stack import Stack
from viaduct_common.client import ViaductClient

pytestmark = [pytest.mark.lab, pytest.mark.slow]

UNIT = CHECKOUT / "deploy" / "systemd" / "viaduct-agent.service"
HOST = "host2"
BOOT = """
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock
mount -t cgroup2 none /sys/fs/cgroup
rm -rf /etc/systemd/system/*
mkdir -p /etc/viaduct /opt/viaduct/bin /etc/systemd/system/viaduct-agent.service.d
cp /var/viaduct-test/viaduct-agent.service /etc/systemd/system/
cp /var/viaduct-test/test.conf /etc/systemd/system/viaduct-agent.service.d/
cp /var/viaduct-test/agent.toml /etc/viaduct/
install -m 644 /var/viaduct-test/amqp_password /etc/viaduct/
install -m 755 /var/viaduct-test/viaduct-agent /opt/viaduct/bin/
export container=viaduct
exec /lib/systemd/systemd --system --unit=sockets.target --log-target=null
"""
# What only this test changes of the unit: where the code lies, how long it may stand still, and what keeps programs of
# a User-Mode Linux host off registers that its kernel does not know (tests/lab/plain_fpu.py). A credential would reach
# the dynamic user by an ACL on a tmpfs; that kernel's tmpfs has none, so the password comes by a plain file.
DROP_IN = f"""
[Service]
LoadCredential=
PassEnvironment={" ".join(ENVIRONMENT)}
WatchdogSec=3
TimeoutStopSec=5
ProtectHome=tmpfs
BindReadOnlyPaths={CHECKOUT}
"""
# The machine's own Python with this checkout's packages, as a package under /opt would bring them.
PROGRAM = f"""#!/bin/sh
PYTHONPATH={CHECKOUT}/agent:{CHECKOUT}/common:{CHECKOUT}/.venv/lib/python3.11/site-packages
export PYTHONPATH
exec /usr/bin/python3 -c 'from viaduct_agent.main import main; main()' "$@"
"""


class Systemd:
    """systemd in a host: `ctl` is systemctl there."""

    def __init__(self, host: Host, program: Program) -> None:
        self._host = host
        self._program = program

    def run(self, *argv: str, check: bool = True) -> str:
        inside = ["nsenter", "-t", self._pid, "-m", "-p", "-u", "-i", "-C", "--", *argv]
        done = self._host.run(inside, check=False, timeout_seconds=60)
        assert done.code == 0 or not check, f"{argv}: {done.stdout}{done.stderr}"
        return str(done.stdout)

    def show(self, field: str) -> str:
        return self.run("systemctl", "show", "-P", field, "viaduct-agent").strip()

    @property
    def _pid(self) -> str:
        pid = str(self._host.run(["pgrep", "-o", "-x", "systemd"], check=False).stdout).strip()
        assert pid, f"no systemd yet: {self._program.output()}"
        return pid


@pytest.fixture
def systemd(stack: Stack) -> Iterator[Systemd]:
    """The host's agent stopped, and a systemd with the unit installed in its place."""
    host = stack.hosts.host(HOST)
    if host.kind != "uml":
        pytest.fail("a host of namespaces shares its files with this machine; systemd needs HOST_KIND=uml")
    settings = (host.directory / "agent.toml").read_text()
    stack.hosts.stop_agent(HOST)
    files = {
        "viaduct-agent.service": UNIT.read_text(),
        "test.conf": DROP_IN,
        "viaduct-agent": PROGRAM,
        "agent.toml": settings.replace("/run/host/agent-password", "/etc/viaduct/amqp_password").replace(
            STATE_DIR, "/var/lib/viaduct-agent"
        ),
        "amqp_password": (host.directory / "agent-password").read_text(),
        "boot": BOOT,
    }
    host.run(["mkdir", "-p", "/var/viaduct-test"])
    for name, text in files.items():
        host.run(["tee", f"/var/viaduct-test/{name}"], stdin=text)
    program = host.spawn(
        "exec unshare --pid --fork --mount --mount-proc --uts --ipc --cgroup --kill-child sh /var/viaduct-test/boot",
        log="systemd.log",
    )
    try:
        yield Systemd(host, program)
    finally:
        program.stop(9, timeout_seconds=10)
        stack.hosts.start_agent(HOST)
        stack.wait_connected([HOST])


@pytest.fixture
async def net(stack: Stack) -> AsyncIterator[ViaductClient]:
    async with ViaductClient(stack.broker.amqp_url()) as net:
        yield net


async def test_unit_starts_serves_is_watched_and_leaves_networks_up(
    stack: Stack, systemd: Systemd, net: ViaductClient
) -> None:
    """READY after its first look, CAP_NET_ADMIN and nothing else, restarted when it hangs, networks up when stopped."""
    host = stack.hosts.host(HOST)
    record = await net.host.get(uuid=stack.hosts.uuid(HOST))
    before = record.last_seen_at

    async def started() -> None:
        await asyncio.to_thread(systemd.run, "systemctl", "start", "viaduct-agent", check=False)
        state = await asyncio.to_thread(systemd.show, "ActiveState")
        assert state == "active", await asyncio.to_thread(systemd.run, "journalctl", "-u", "viaduct-agent", check=False)

    await eventually(started)
    pid = systemd.show("MainPID")
    status = dict(
        line.split(":\t", 1) for line in systemd.run("cat", f"/proc/{pid}/status").splitlines() if ":\t" in line
    )
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 1 << 12  # CAP_NET_ADMIN, capability.h
    assert status["Uid"].split()[0] != "0"
    assert status["NoNewPrivs"].strip() == "1"

    async def heard() -> None:
        seen = await net.host.get(uuid=record.uuid)
        assert seen.state == "connected"
        assert seen.last_seen_at != before
        assert "broker" in systemd.show("StatusText")

    await eventually(heard)
    zone = (await net.zone.query()).items[0]
    network = await net.l2.create(
        zone_uuid=zone.uuid, name="unit", type="L2VlanNetwork", physical_interface="eth1", vlan=600
    )
    await net.l2.attach(l2_network_uuid=network.uuid, cluster_uuid=record.cluster_uuid)
    assert owned_devices(host) == {"br_eth1_600", "eth1.600"}

    systemd.run("kill", "-STOP", pid)

    async def restarted() -> None:
        assert int(systemd.show("NRestarts")) >= 1
        assert systemd.show("MainPID") not in {"0", pid}
        assert systemd.show("ActiveState") == "active"

    await eventually(restarted)
    systemd.run("systemctl", "stop", "viaduct-agent")
    assert systemd.show("Result") == "success"
    assert owned_devices(host) == {"br_eth1_600", "eth1.600"}
    systemd.run("systemctl", "start", "viaduct-agent")
    await eventually(heard)
    await net.l2.detach(l2_network_uuid=network.uuid, cluster_uuid=record.cluster_uuid)
    assert owned_devices(host) == set()
    await net.l2.delete(uuid=network.uuid)
