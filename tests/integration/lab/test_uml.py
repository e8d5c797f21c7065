"""Hosts with a kernel of their own: VLAN devices, bridges, and frames with tags on the wire between them."""

import time

import pytest
from lab import Host, Lab, LabError, Vm

pytestmark = [pytest.mark.lab, pytest.mark.slow]


def bridge_vlan(host: Host, vlan: int) -> Vm:
    """Build by hand what an agent would: VLAN device, bridge, and a VM on it."""
    device, bridge = f"eth1.{vlan}", f"br{vlan}"
    host.run(
        f"ip link add link eth1 name {device} type vlan id {vlan} && ip link add name {bridge} type bridge"
        f" && ip link set {device} master {bridge} && ip link set {device} up && ip link set {bridge} up"
    )
    return host.add_vm(f"v{vlan}", bridge, address=f"192.168.9.{host.spec.number}/24")


def test_vm_reaches_vm_through_its_vlan_alone_and_cables_and_power_matter(lab: Lab) -> None:
    """One VLAN joins VMs of two hosts, with its tag on the trunk; another does not; a cut cable parts them; a host
    that lost its power comes back empty, with its addresses."""
    a, b = lab.start_hosts(["a", "b"], kind="uml")
    a10, a20, b10 = bridge_vlan(a, 10), bridge_vlan(a, 20), bridge_vlan(b, 10)
    b_address = "192.168.9.12"

    with lab.capture("trunk", "icmp or (vlan and icmp)") as wire:
        assert a10.ping(b_address)
        assert "vlan 10" in wire.wait_for("ICMP echo reply")
        assert not a20.ping(b_address, wait_seconds=1)
    assert wire.lines("vlan 20.*ICMP") == []
    assert a10.ping(b_address, size_bytes=1472), "a full frame must pass beside its tag"

    a.cut("eth1")
    assert not a10.ping(b_address, wait_seconds=1)
    a.mend("eth1")
    assert a10.ping(b_address)

    b.stop(hard=True)
    assert not b.alive()
    assert not a10.ping(b_address, wait_seconds=1)
    b.start()
    assert "10.77.0.12/24" in b.run("ip -br address show eth0").stdout
    assert b.run("ip link show br10", check=False).code != 0, "what stood in its memory is gone"
    bridge_vlan(b, 10)
    assert a10.ping(b_address, count=5)
    assert b10.netns in b.run("ip netns list").stdout


def test_frozen_host_answers_nothing_and_goes_on_when_thawed(lab: Lab) -> None:
    """A frozen guest is a hung machine: no command, no ping; thawed, it goes on where it was."""
    (host,) = lab.start_hosts(["a"], kind="uml")
    host.run("echo kept > /tmp/kept")

    host.freeze()
    with pytest.raises(LabError):
        host.run("true", timeout_seconds=1)
    host.thaw()

    assert host.run("cat /tmp/kept").stdout == "kept\n"


def test_spawned_program_gets_sigterm_at_an_orderly_stop_and_its_exit_is_noted(lab: Lab) -> None:
    """An orderly stop gives programs the time to end by themselves."""
    (host,) = lab.start_hosts(["a"], kind="uml")
    program = host.spawn("trap 'echo bye; exit 7' TERM; echo hi; while :; do sleep 0.1; done", log="p.log")
    deadline = time.monotonic() + 10
    while program.output() != "hi\n":
        assert time.monotonic() < deadline
        time.sleep(0.02)

    host.stop()

    assert program.exit_status() == 7
    assert program.output().splitlines()[-1] == "bye"
