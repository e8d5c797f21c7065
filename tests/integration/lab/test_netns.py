"""Hosts made of namespaces: the same interface, on the running kernel."""

import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from lab import Host, Lab, LabError, Vm, sweep
from lab.process import Process, tagged

from .conftest import leftovers

pytestmark = pytest.mark.lab


def bridge_untagged(host: Host) -> Vm:
    """A bridge with the data NIC and a VM in it."""
    host.run("ip link add name br0 type bridge && ip link set eth1 master br0 && ip link set br0 up")
    return host.add_vm("v", "br0", address=f"192.168.9.{host.spec.number}/24")


def test_vms_meet_through_an_untagged_bridge_until_a_cable_or_the_power_is_cut(lab: Lab) -> None:
    """Cut and mended cables, a pulled plug and a second boot do to a netns host what they do to a guest."""
    a, b = lab.start_hosts(["a", "b"], kind="netns")
    vm = bridge_untagged(a)
    bridge_untagged(b)
    named = a.add_vm("named", "br0", device="tap7")
    assert "master br0" in a.run("ip link show tap7").stdout
    named.remove()
    assert "tap7" not in a.run("ip link").stdout

    with lab.capture(b.tap("eth1"), "icmp") as wire:
        assert vm.ping("192.168.9.12")
        wire.wait_for("ICMP echo request")
    b.cut("eth1")
    assert not vm.ping("192.168.9.12", wait_seconds=1)
    b.mend("eth1")
    assert vm.ping("192.168.9.12")

    b.stop(hard=True)
    assert not b.alive()
    b.start()
    bridge_untagged(b)
    assert vm.ping("192.168.9.12", count=5)


def test_raw_frame_arrives_as_it_was_sent(lab: Lab) -> None:
    """`send_frame` puts exactly those bytes on the wire."""
    a, _ = lab.start_hosts(["a", "b"], kind="netns")
    vm = bridge_untagged(a)
    frame = bytes.fromhex("ffffffffffff02000000beef88b5") + b"viaduct" * 8

    with lab.capture("trunk", "ether proto 0x88b5") as wire:
        vm.send_frame(frame, count=2)
        wire.wait_for("02:00:00:00:be:ef > ff:ff:ff:ff:ff:ff")


def test_command_tells_exit_status_output_and_environment(lab: Lab) -> None:
    """`run` returns what a program did, and raises on failure unless told otherwise."""
    (host,) = lab.start_hosts(["a"], kind="netns", env={"WHERE": "host"})

    result = host.run(
        'echo "$HOST_NAME $WHERE $WHAT"; cat; echo oops >&2; exit 3', env={"WHAT": "run"}, stdin="in", check=False
    )

    assert result == (3, "a host run\nin", "oops\n")
    with pytest.raises(LabError, match="exit 3"):
        host.run("exit 3")
    with pytest.raises(LabError, match="no end in"):
        host.run("exec sleep 60", timeout_seconds=0.2)
    with pytest.raises(LabError, match="No such file"):
        host.run(["/no/such/program"])


def test_program_is_controlled_by_signals(lab: Lab) -> None:
    """A spawned program can be stopped and killed; -9 is told apart from an exit."""
    (host,) = lab.start_hosts(["a"], kind="netns")
    program = host.spawn(["sleep", "60"], log="sleep.log")

    assert program.exit_status() is None
    assert program.stop(9) == -9


def test_host_reaches_a_service_of_this_machine_through_a_forward(lab: Lab) -> None:
    """The lab's own address stands for the machine's loopback, on that port alone."""
    (host,) = lab.start_hosts(["a"], kind="netns")

    class Hello(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Hello) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        lab.forward(8000, f"127.0.0.1:{server.server_port}")
        lab.forward(8000, f"127.0.0.1:{server.server_port}")  # again: changes nothing
        fetch = "from urllib.request import urlopen as o; print(o('http://10.77.0.1:8000', timeout=5).read())"
        answer = host.run([sys.executable, "-c", fetch], check=False)
        server.shutdown()
        thread.join()

    assert answer.stdout == "b'hello'\n", answer.stderr


def test_down_by_another_process_after_a_crash_leaves_nothing(make_lab: Callable[[], Lab]) -> None:
    """All that a lab is stands on disk: whoever comes later can clear it away, twice, too."""
    lab = make_lab()
    lab.up()
    (host,) = lab.start_hosts(["a"], kind="netns")
    bridge_untagged(host)
    host.spawn("setsid sleep 600 & exec sleep 600", log="sleep.log")
    lab.forward(8000, "127.0.0.1:1")
    lab.capture("trunk").__enter__()
    assert len(tagged("VIADUCT_LAB", lab.netns)) >= 6

    stranger = Lab(lab.name, lab.directory)
    stranger.down()
    stranger.down()

    assert leftovers(lab) == []


def test_sweep_takes_down_what_begins_so_and_no_other(make_lab: Callable[[], Lab]) -> None:
    """A name prefix is enough to find labs whose state directory nobody remembers."""
    lost, kept = make_lab(), make_lab()
    for lab in (lost, kept):
        lab.up()
        lab.start_hosts(["a"], kind="netns")

    assert sweep(lost.name) == [lost.name]

    assert leftovers(lost) == []
    assert kept.host("a").run("hostname").stdout == "a\n"


def test_process_is_not_mistaken_for_another_with_its_id() -> None:
    """A record whose start time differs is dead, whoever has the id now."""
    me = Process.of(1)
    assert me is not None

    assert me.alive()
    assert not Process(1, me.start_ticks + 1).alive()
