"""One simulated KVM host: the interface, and all that the two kinds have in common.

Every host N (numbered from 11) has these NICs, made anew at every boot with the same MAC and IP addresses:

    ctl0   169.254.77.N/24   for `run` and `spawn` only; leave it alone
    eth0   10.77.0.N/24      management: the broker is reached at 10.77.0.1
    eth1   no address        data, on the segment `trunk`, which passes tagged frames; more segments: eth2 ...
"""

import hashlib
import json
import shlex
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from signal import SIGTERM

from lab.control import ask
from lab.machine import LabError, Result, command_line, ip_batch, sh, wait_until
from lab.process import Process
from lab.vm import Vm

GATEWAY = "10.77.0.1"  # the lab's own address on the segment `mgmt`
MTU_BYTES = 1600  # at the switch's end, so that tagged frames of full size pass
TAG = "VIADUCT_LAB"  # in the environment of every process of a lab
GUEST = Path(__file__).resolve().parent / "guest"


@dataclass(frozen=True)
class HostSpec:
    """What a host is, boot after boot; kept as host.json in its state directory."""

    kind: str
    number: int
    segments: tuple[str, ...] = ("trunk",)
    environment: dict[str, str] = field(default_factory=dict)
    memory: str = "256M"
    modules: str = "8021q bridge veth vxlan ip_gre"
    cut: tuple[str, ...] = ()  # NICs whose cable is out

    @classmethod
    def load(cls, path: Path) -> "HostSpec":
        """Read a spec back from its file."""
        raw = json.loads(path.read_text())
        return cls(**{**raw, "segments": tuple(raw["segments"]), "cut": tuple(raw["cut"])})


@dataclass(frozen=True)
class Nic:
    """One network card, and the segment its cable leads to."""

    name: str
    segment: str
    mac: str
    address: str  # with the prefix length; empty: none


class Host(ABC):
    """A host of a lab; `directory` is its state on the machine, /run/host inside it.

    Constructors only assign: a Host may stand for one that another process started.
    """

    kind: str
    boot_seconds = 60.0  # how long a boot may take on a busy machine
    stop_seconds = 3.0  # what programs get to end in an orderly stop

    def __init__(self, name: str, netns: str, directory: Path) -> None:
        self.name = name
        self.netns = netns
        self.directory = directory
        self.spec = HostSpec.load(directory / "host.json")

    def __repr__(self) -> str:
        return f"<{self.kind} host {self.name}>"

    @property
    def address(self) -> str:
        """Its address on the management segment."""
        return f"10.77.0.{self.spec.number}"

    @property
    def control(self) -> str:
        """Its address on the lab's own control segment."""
        return f"169.254.77.{self.spec.number}"

    @property
    def nics(self) -> list[Nic]:
        """Its NICs, in order."""
        rows = [("ctl0", "ctl", self.control + "/24"), ("eth0", "mgmt", self.address + "/24")]
        rows += [(f"eth{i}", segment, "") for i, segment in enumerate(self.spec.segments, start=1)]
        return [
            Nic(name, segment, f"52:54:00:77:{self.spec.number:02x}:{i:02x}", address)
            for i, (name, segment, address) in enumerate(rows)
        ]

    # ---- life ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Boot the host and wait until it takes commands; one that runs already is left as it is."""
        if not self.alive():
            self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """Begin to boot; `wait_ready` tells when it is done."""
        (self.directory / "ready").unlink(missing_ok=True)
        for log in self.directory.glob("*.exit"):
            log.unlink()
        variables = {
            **self.spec.environment,
            "HOST_NAME": self.name,
            "HOST_NUMBER": str(self.spec.number),
            "HOST_ADDRESS": self.address,
            "HOST_GATEWAY": GATEWAY,
            "HOST_CONTROL": self.control,
            "HOST_GUEST": str(GUEST),
            "HOST_STOP_TENTHS": str(int(self.stop_seconds * 10)),
            **self._boot_variables(),
        }
        lines = [f"export {key}={shlex.quote(value)}\n" for key, value in sorted(variables.items())]
        (self.directory / "host.env").write_text("".join(lines))
        self._boot().save(self.directory / "process.json")

    def wait_ready(self) -> None:
        """Wait until the host takes commands.

        Raises:
            LabError: it died or took too long; the text holds what its console said.
        """
        ready = self.directory / "ready"
        wait_until(lambda: ready.exists() or not self.alive(), timeout_seconds=self.boot_seconds)
        if not ready.exists():
            why = "did not boot in time" if self.alive() else "died at boot"
            self.stop(hard=True)
            raise LabError(f"host {self.name} {why}:\n{self.console()}")

    def process(self) -> Process | None:
        """The host's first process on this machine; it may have ended."""
        return Process.load(self.directory / "process.json")

    def alive(self) -> bool:
        """Tell whether the host runs."""
        process = self.process()
        return process is not None and process.alive()

    def stop(self, *, hard: bool = False) -> None:
        """Shut the host down, its programs first; `hard` pulls the plug. It can be started again."""
        process = self.process()
        if process and process.alive():
            if not hard:
                self._halt(process)
                process.wait_gone(self.stop_seconds + 5)
            process.kill()
        self._unplug()

    @abstractmethod
    def freeze(self) -> None:
        """Stop all the host's work, as a hung machine would."""

    @abstractmethod
    def thaw(self) -> None:
        """Let a frozen host go on."""

    def console(self) -> str:
        """What the host's kernel and first process have printed."""
        path = self.directory / "console"
        return path.read_text(errors="replace") if path.exists() else ""

    # ---- cables ----------------------------------------------------------------------------------------------

    def cut(self, nic: str = "eth0") -> None:
        """Pull a cable, at the switch's end: the host still sees a carrier. It stays out over a boot."""
        self._record_cut({*self.spec.cut, nic})
        sh(f"ip -n {self.netns} link set {self.tap(nic)} nomaster")

    def mend(self, nic: str = "eth0") -> None:
        """Plug a cable in again."""
        self._record_cut({*self.spec.cut} - {nic})
        segment = next(card.segment for card in self.nics if card.name == nic)
        sh(f"ip -n {self.netns} link set {self.tap(nic)} master {segment}")

    def tap(self, nic: str) -> str:
        """The name of the switch's end of a cable, in the lab's network namespace."""
        return f"{self.name}-{nic}"

    # ---- programs --------------------------------------------------------------------------------------------

    def run(
        self,
        command: str | Sequence[str],
        *,
        check: bool = True,
        timeout_seconds: float = 60,
        env: Mapping[str, str] | None = None,
        stdin: str = "",
    ) -> Result:
        """Run a command in the host, as root, and wait; a string goes through the shell.

        A daemon that the command leaves behind must have its output redirected, or the wait goes on.
        """
        request = {"run": command_line(command), "env": dict(env or {}), "stdin": stdin}
        result = Result(**ask(self.netns, self.control, request, timeout_seconds=timeout_seconds))
        if check and result.code:
            raise LabError(f"{self.name}: {command}: exit {result.code}\n{result.stdout}{result.stderr}")
        return result

    def spawn(self, command: str | Sequence[str], *, log: str, env: Mapping[str, str] | None = None) -> "Program":
        """Start a long-lived program; its output is appended to the file `log` in the state directory."""
        request = {"spawn": command_line(command), "env": dict(env or {}), "log": log}
        answer = ask(self.netns, self.control, request, timeout_seconds=30)
        return Program(self, int(answer["pid"]), self.directory / log)

    def add_vm(self, name: str, bridge: str | None = None, *, address: str = "", mac: str = "", device: str = "") -> Vm:
        """Make a VM end point (see `Vm`): its NIC is a port of `bridge`; `address` has a prefix length.

        Without `mac` the name decides it, so that the same VM after a boot is the same to its neighbours.
        """
        digest = hashlib.sha256(f"{self.spec.number}/{name}".encode()).digest()
        mac = mac or f"52:54:01:{digest[:3].hex(':')}"
        return Vm.create(self.run, name, bridge, address=address, mac=mac, device=device)

    # ---- what a kind adds ------------------------------------------------------------------------------------

    @abstractmethod
    def _boot(self) -> Process:
        """Plug the cables in and start the first process."""

    @abstractmethod
    def _halt(self, process: Process) -> None:
        """Ask for an orderly end, without waiting for the last process."""

    def _boot_variables(self) -> dict[str, str]:
        return {}

    def _unplug(self) -> None:
        for nic in self.nics:
            sh(f"ip -n {self.netns} link del {self.tap(nic.name)}", check=False)

    def _plug(self, cables: Sequence[Nic]) -> None:
        commands = []
        for nic in cables:
            tap = self.tap(nic.name)
            master = "" if nic.name in self.spec.cut else f" master {nic.segment}"
            commands.append(f"link set {tap} mtu {MTU_BYTES}{master} up")
        ip_batch(commands, netns=self.netns)

    def _record_cut(self, cut: set[str]) -> None:
        self.spec = replace(self.spec, cut=tuple(sorted(cut)))
        (self.directory / "host.json").write_text(json.dumps(asdict(self.spec)))


@dataclass(frozen=True)
class Program:
    """A long-lived program in a host; `pid` is its process id there, and its process group."""

    host: Host
    pid: int
    log: Path

    def signal(self, number: int = SIGTERM) -> None:
        """Send a signal to the program and what it started."""
        request = {"signal": int(number), "pid": self.pid}
        ask(self.host.netns, self.host.control, request, timeout_seconds=30)

    def exit_status(self) -> int | None:
        """The exit status, negative for the signal that killed it; None: it runs, or its host was cut off."""
        try:
            return int(self.log.with_name(self.log.name + ".exit").read_text())
        except (FileNotFoundError, ValueError):
            return None

    def wait(self, timeout_seconds: float = 10) -> int:
        """Wait for the end and return the exit status."""
        if not wait_until(lambda: self.exit_status() is not None, timeout_seconds=timeout_seconds):
            raise LabError(f"{self.host.name}: program {self.pid} did not end in {timeout_seconds} s")
        return self.exit_status() or 0

    def stop(self, number: int = SIGTERM, *, timeout_seconds: float = 10) -> int:
        """Send a signal and wait for the end."""
        self.signal(number)
        return self.wait(timeout_seconds)

    def output(self) -> str:
        """What the program has printed so far, runs before this one included."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""
