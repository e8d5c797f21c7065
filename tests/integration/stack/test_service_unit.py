"""The agent's unit with the drop-in for network services, under a real systemd, in a host with a kernel of its own.

What the agent would do is done by a script: it needs no broker, and Debian's User-Mode Linux has no nftables NAT.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import Lab
from lab.machine import wait_until
from lab.plain_fpu import ENVIRONMENT

from local_stack.run_dir import CHECKOUT

from .test_systemd_unit import BOOT, UNIT, Systemd

pytestmark = [pytest.mark.lab, pytest.mark.slow]

DROP_IN = CHECKOUT / "deploy" / "systemd" / "network-services" / "viaduct-agent.conf"
TEST_DROP_IN = f"""
[Service]
LoadCredential=
PassEnvironment={" ".join(ENVIRONMENT)}
WatchdogSec=0
NotifyAccess=all
"""
AGENT = """#!/bin/sh
set -e
inside="nsenter --net=/run/netns/vr-probe --"
state=/var/lib/viaduct-agent
if [ ! -e /run/netns/vr-probe ]; then
    ip netns add vr-probe
    ip link add name vs0 type veth peer name inside netns vr-probe
    ip -n vr-probe link set inside up
    ip -n vr-probe address add 10.0.0.1/24 dev inside
    $inside sysctl -q -w net.ipv4.ip_forward=1
    $inside python3 -c 'import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)'
    $inside dnsmasq --conf-file=/dev/null --pid-file=$state/pid --interface=inside --bind-interfaces \\
        --dhcp-range=10.0.0.0,static --dhcp-leasefile=$state/leases
fi
kill -HUP $(cat $state/pid)
systemd-notify --ready
exec sleep 600
"""


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    lab = Lab(f"u{os.getpid()}", tmp_path / "lab")
    lab.up()
    try:
        (host,) = lab.start_hosts(["a"], kind="uml")
        host.run(["mkdir", "-p", "/var/viaduct-test"])
        drop_ins = f"{DROP_IN.read_text()}\n{TEST_DROP_IN}"
        texts = {"viaduct-agent.service": UNIT.read_text(), "test.conf": drop_ins, "viaduct-agent": AGENT, "boot": BOOT}
        for name, text in {**texts, "agent.toml": "", "amqp_password": ""}.items():
            host.run(["tee", f"/var/viaduct-test/{name}"], stdin=text)
        boot = (
            "exec unshare --pid --fork --mount --mount-proc --uts --ipc --cgroup --kill-child sh /var/viaduct-test/boot"
        )
        program = host.spawn(boot, log="systemd.log")
        assert wait_until(lambda: host.run(["pgrep", "-x", "systemd"], check=False).code == 0, timeout_seconds=30)
        yield Systemd(host, program)
    finally:
        lab.down()


def test_namespaces_are_the_hosts_and_what_serves_outlives_the_agent(systemd: Systemd) -> None:
    """Made by the unit's process, used by anybody; dnsmasq without root's rights, and the same after a restart."""

    def started() -> bool:
        systemd.run("systemctl", "start", "viaduct-agent", check=False)  # not yet, while systemd itself starts
        return systemd.run("systemctl", "is-active", "viaduct-agent", check=False).strip() == "active"

    assert wait_until(started, timeout_seconds=60), systemd.run("journalctl", "-u", "viaduct-agent", check=False)
    serving = systemd.run("cat", "/var/lib/viaduct-agent/pid").strip()
    for step in (("restart", "viaduct-agent"), ("stop", "viaduct-agent")):
        assert "10.0.0.1/24" in systemd.run("ip", "-n", "vr-probe", "address")
        name, user = systemd.run("ps", "-o", "comm=,user=", "-p", serving).split()
        assert name == "dnsmasq"
        assert user != "root"
        systemd.run("systemctl", *step)
    assert systemd.show("Result") == "success"
    assert systemd.run("ps", "-o", "comm=", "-p", serving).split() == ["dnsmasq"]
    assert "10.0.0.1/24" in systemd.run("ip", "-n", "vr-probe", "address")
