"""A lab: hosts in a network namespace with one bridge per segment.

    netns viaduct-lab-NAME:  bridge ctl 169.254.77.1   mgmt 10.77.0.1   trunk (no address)
                                     |                      |                |
    host N (11 ...):            ctl0 169.254.77.N      eth0 10.77.0.N   eth1 (no address)

Labs with different names do not meet. Everything a lab is stands in its state directory, so that another process
can go on with it, or clear it away after a crash.
"""

import hashlib
import json
import re
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

from lab.capture import Capture
from lab.host import GATEWAY, MTU_BYTES, TAG, Host, HostSpec
from lab.machine import (
    NETNS_DIR,
    LabError,
    inside_netns,
    ip_batch,
    program_environment,
    require_root,
    sh,
    wait_until,
)
from lab.netns import NetnsHost
from lab.process import Process, kill_all, launch, tagged
from lab.uml import REGISTRY, UmlHost

KINDS: Mapping[str, type[Host]] = {"uml": UmlHost, "netns": NetnsHost}
PREFIX = "viaduct-lab-"
MARK = "this-is-a-lab"  # a file in every state directory: nothing without it is ever deleted
CONTROL = "169.254.77.1"  # the lab's own address on the segment `ctl`
LAB_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")
HOST_NAME = re.compile(r"[a-z][a-z0-9-]{0,9}")  # "NAME-eth0" is a device name: at most 15 characters
FIRST_NUMBER, LAST_NUMBER = 11, 249  # of hosts; both are used as the last byte of addresses


class Lab:
    """One lab, its state below `directory`. As a context it is up inside and gone after."""

    def __init__(self, name: str, directory: Path) -> None:
        if not LAB_NAME.fullmatch(name):
            raise LabError(f"{name!r} is no name for a lab: {LAB_NAME.pattern}")
        self.name = name
        self.netns = PREFIX + name
        self.directory = directory.resolve()

    def __enter__(self) -> "Lab":
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def up(self) -> None:
        """Make the network namespace and the segments ctl, mgmt and trunk; what is there already stays.

        Raises:
            LabError: a lab of this name lives elsewhere.
        """
        require_root()
        link = REGISTRY / self.netns
        if link.is_symlink() and link.resolve() != self.directory and (NETNS_DIR / self.netns).exists():
            raise LabError(f"a lab named {self.name} is already up in {link.resolve()}")
        (self.directory / "hosts").mkdir(parents=True, exist_ok=True)
        REGISTRY.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(self.directory)
        (self.directory / MARK).touch()
        if (NETNS_DIR / self.netns).exists():
            return
        sh(f"ip netns add {self.netns}")
        with inside_netns(self.netns):
            for which in ("all", "default"):  # the wire shows what hosts send, not what bridges feel like
                switch = Path(f"/proc/sys/net/ipv6/conf/{which}/disable_ipv6")
                if switch.exists():
                    switch.write_text("1")
        ip_batch(["link set lo up"], netns=self.netns)
        self.add_segment("ctl", CONTROL + "/24")
        self.add_segment("mgmt", GATEWAY + "/24")
        self.add_segment("trunk")

    def exists(self) -> bool:
        """Tell whether the lab is up."""
        return (NETNS_DIR / self.netns).exists()

    def add_segment(self, name: str, address: str = "") -> None:
        """Make another segment: a bridge that passes tagged and untagged frames alike, as a trunk cable would.

        Its MAC is its own: else it would be that of the lowest port, and change whenever a host boots or goes.
        """
        filters = "nf_call_iptables 0 nf_call_ip6tables 0 nf_call_arptables 0"
        commands = [
            f"link add name {name} address {_segment_mac(name)} type bridge forward_delay 0 mcast_snooping 0 {filters}",
            f"link set {name} mtu {MTU_BYTES} up",
        ]
        ip_batch(commands + ([f"addr add {address} dev {name}"] if address else []), netns=self.netns)

    # ---- hosts -----------------------------------------------------------------------------------------------

    def add_host(
        self,
        name: str,
        *,
        kind: str = "uml",
        segments: Sequence[str] = ("trunk",),
        memory: str = "256M",
        modules: str = "8021q bridge veth vxlan ip_gre",
        env: Mapping[str, str] | None = None,
    ) -> Host:
        """Put a host into the lab, without booting it. `segments` are behind eth1, eth2 ...; see also `start_hosts`."""
        if not HOST_NAME.fullmatch(name):
            raise LabError(f"{name!r} is no name for a host: {HOST_NAME.pattern}")
        if name in self.host_names():
            raise LabError(f"host {name} exists already")
        taken = {host.spec.number for host in self.hosts()}
        number = next((n for n in range(FIRST_NUMBER, LAST_NUMBER + 1) if n not in taken), None)
        if number is None:
            raise LabError("too many hosts")
        spec = HostSpec(kind, number, tuple(segments), dict(env or {}), memory, modules)
        directory = self.directory / "hosts" / name
        directory.mkdir(parents=True)
        (directory / "host.json").write_text(json.dumps(asdict(spec)))
        return self.host(name)

    def start_hosts(
        self,
        names: Iterable[str],
        *,
        kind: str = "uml",
        segments: Sequence[str] = ("trunk",),
        memory: str = "256M",
        env: Mapping[str, str] | None = None,
    ) -> list[Host]:
        """Put hosts into the lab and boot them, all at once."""
        hosts = [self.add_host(name, kind=kind, segments=segments, memory=memory, env=env) for name in names]
        for host in hosts:
            host.launch()
        for host in hosts:
            host.wait_ready()
        return hosts

    def host(self, name: str) -> Host:
        """Return a host of the lab, whoever made it."""
        directory = self.directory / "hosts" / name
        try:
            spec = HostSpec.load(directory / "host.json")
        except FileNotFoundError:
            raise LabError(f"no host {name} in the lab {self.name}") from None
        return KINDS[spec.kind](name, self.netns, directory)

    def host_names(self) -> list[str]:
        """Return the names of all hosts, in order."""
        return sorted(path.parent.name for path in self.directory.glob("hosts/*/host.json"))

    def hosts(self) -> list[Host]:
        """Return all hosts, in the order of their names."""
        return [self.host(name) for name in self.host_names()]

    def remove_host(self, name: str) -> None:
        """Pull a host's plug and take it out of the lab, its state directory included."""
        self.host(name).stop(hard=True)
        shutil.rmtree(self.directory / "hosts" / name)

    # ---- services and sight ----------------------------------------------------------------------------------

    def forward(self, port: int, target: str) -> None:
        """Let the hosts reach a TCP service of this machine, "127.0.0.1:5672", at 10.77.0.1:`port`; idempotent."""
        record = self.directory / f"forward-{port}.json"
        log = self.directory / f"forward-{port}.log"
        running = Process.load(record)
        if running and running.alive():
            return
        log.unlink(missing_ok=True)
        argv = [sys.executable, "-m", "lab.forward", self.netns, f"{GATEWAY}:{port}", target]
        variables = {TAG: self.netns, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
        process = launch(argv, log=log, environment=program_environment(variables))
        process.save(record)
        wait_until(lambda: bool(log.stat().st_size) or not process.alive(), timeout_seconds=20)
        if log.read_text() != "listening\n":
            raise LabError(f"the forward of port {port} did not start: {log.read_text()}")

    def capture(self, device: str, expression: str = "") -> Capture:
        """Watch a segment, or a host's cable (`host.tap("eth1")`), while the returned context is open."""
        number = len(list(self.directory.glob("capture-*.txt"))) + 1
        return Capture(self.netns, device, expression, self.directory / f"capture-{number}.txt")

    # ---- the end ---------------------------------------------------------------------------------------------

    def down(self) -> None:
        """Stop and remove everything, whoever started it, however it was left; what is gone already is no error."""
        for host in self.hosts():
            process = host.process()
            if process and process.alive():
                process.kill()
        kill_all(tagged(TAG, self.netns))
        if self.exists():
            sh(f"ip netns del {self.netns}")
        (REGISTRY / self.netns).unlink(missing_ok=True)
        with suppress(OSError):  # other labs are in it, or it is gone
            REGISTRY.rmdir()
        if (self.directory / MARK).exists():
            shutil.rmtree(self.directory)


def sweep(name_prefix: str) -> list[str]:
    """Take down every lab whose name begins so, left by whatever crashed; return their names."""
    links = list(REGISTRY.glob(f"{PREFIX}{name_prefix}*")) if REGISTRY.is_dir() else []
    netns = list(NETNS_DIR.glob(f"{PREFIX}{name_prefix}*")) if NETNS_DIR.is_dir() else []
    names = sorted({path.name.removeprefix(PREFIX) for path in links + netns})
    for name in names:
        Lab(name, (REGISTRY / (PREFIX + name)).resolve()).down()
    return names


def _segment_mac(name: str) -> str:
    digest = hashlib.sha256(name.encode()).digest()
    return "52:54:00:78:" + ":".join(f"{byte:02x}" for byte in digest[:2])
