"""VM end points: what a virtual machine's NIC is to a bridge, without the machine."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.machine import LabError, Result

SEND_FRAME = Path(__file__).resolve().parent / "guest" / "send-frame"
NAME = re.compile(r"[a-z][a-z0-9-]{0,10}")  # "vm-NAME" is a device name: at most 15 characters


@dataclass(frozen=True)
class Vm:
    """A network namespace in a host with one NIC `eth0`; the other end of the pair is the device `port` of the host."""

    run_in_host: Callable[..., Result]
    name: str
    device: str = ""

    @classmethod
    def create(
        cls,
        run_in_host: Callable[..., Result],
        name: str,
        bridge: str | None,
        *,
        address: str,
        mac: str,
        device: str = "",
    ) -> "Vm":
        """Make the end point and, if a bridge is named, plug it in; `device` is another name than `vm-NAME`."""
        if not NAME.fullmatch(name):
            raise LabError(f"{name!r} is no name for a VM: {NAME.pattern}")
        vm = cls(run_in_host, name, device)
        hardware = f" address {mac}" if mac else ""
        run_in_host(["ip", "netns", "add", vm.netns])
        outside = [f"link add {vm.port} type veth peer name eth0{hardware} netns {vm.netns}", f"link set {vm.port} up"]
        outside += [f"link set {vm.port} master {bridge}"] if bridge else []
        run_in_host(["ip", "-batch", "-"], stdin="\n".join(outside) + "\n")
        inside = ["link set lo up", "link set eth0 up", *([f"addr add {address} dev eth0"] if address else [])]
        run_in_host(["ip", "-n", vm.netns, "-batch", "-"], stdin="\n".join(inside) + "\n")
        return vm

    @property
    def netns(self) -> str:
        """The network namespace's name in its host."""
        return f"vm-{self.name}"

    @property
    def port(self) -> str:
        """The device's name in its host."""
        return self.device or f"vm-{self.name}"

    def plug(self, bridge: str) -> None:
        """Make the NIC a port of a bridge of the host."""
        self.run_in_host(["ip", "link", "set", self.port, "master", bridge])

    def unplug(self) -> None:
        """Take the NIC out of its bridge."""
        self.run_in_host(["ip", "link", "set", self.port, "nomaster"])

    def run(self, command: str | Sequence[str], *, check: bool = True, timeout_seconds: float = 60) -> Result:
        """Run a command in the VM and wait; a string goes through the shell."""
        argv = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
        full = ["ip", "netns", "exec", self.netns, *argv]
        return self.run_in_host(full, check=check, timeout_seconds=timeout_seconds)

    def ping(self, target: str, *, count: int = 1, wait_seconds: int = 2, size_bytes: int = 56) -> bool:
        """Tell whether `target` answers at least one of `count` pings; larger ones are never cut into fragments."""
        pings = ["ping", "-n", "-q", "-c", str(count), "-i", "0.2", "-W", str(wait_seconds)]
        return self.run([*pings, "-M", "do", "-s", str(size_bytes), target], check=False).code == 0

    def send_frame(self, frame: bytes, *, count: int = 1) -> None:
        """Send a raw Ethernet frame, from the destination MAC on, without its checksum."""
        self.run([str(SEND_FRAME), "eth0", frame.hex(), str(count)])

    def remove(self) -> None:
        """Take the end point away."""
        self.run_in_host(["ip", "link", "del", self.port], check=False)
        self.run_in_host(["ip", "netns", "del", self.netns])
