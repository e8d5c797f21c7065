"""A virtual machine: QEMU with a small Linux, in a host's network namespace, on NICs a hypervisor would give it.

It needs no KVM, which is missing or hangs on most machines that are virtual themselves: 2 s to boot.
"""

import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from select import select
from types import TracebackType

from lab.guest_kernel import guest_kernel, make_initramfs
from lab.host import TAG
from lab.hypervisor import Interface
from lab.machine import LabError, Result, program_environment, wait_until
from lab.netns import NetnsHost

QEMU = "qemu-system-x86_64"
MEMORY_MIB = 96
BOOT_SECONDS = 60.0  # how long a boot may take on a busy machine


@dataclass(frozen=True)
class GuestNic:
    """A NIC: its libvirt element, and the addresses (with prefix lengths) that the guest gives it."""

    libvirt_xml: str
    addresses: Sequence[str] = ()


class Guest:
    """A guest while the context is open; at the end its process is gone, and its taps with it.

    Args:
        enter: the words that run a command in the host's network, such as `ip netns exec NAME`.
        directory: for its files; made if need be.
        tag: the lab's network namespace: `Lab.down` finds the process by it, whatever became of us.
    """

    def __init__(self, enter: Sequence[str], nics: Sequence[GuestNic], directory: Path, *, tag: str = "") -> None:
        self.nics = nics
        self.console = ""  # all that it printed
        self._enter = list(enter)
        self._directory = directory
        self._tag = tag
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def on(cls, host: NetnsHost, nics: Sequence[GuestNic], directory: Path) -> "Guest":
        """A guest on a host of a lab."""
        return cls(host.enter_network(), nics, directory, tag=host.netns)

    def __enter__(self) -> "Guest":
        try:
            self._boot()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """The process id on this machine while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def stop(self) -> None:
        """Pull the plug; again is no error."""
        if self._process:
            self._process.kill()
            self.console += self._process.communicate()[0].decode(errors="replace")
            self._process = None

    def run(self, command: str, *, check: bool = True, timeout_seconds: float = 60) -> Result:
        """Run a line of shell in the guest and wait; what went to stderr is in `stdout` too.

        Raises:
            LabError: it failed and `check` is set, or did not end in time.
        """
        if "\n" in command:
            raise LabError("a command is one line")
        start = len(self.console)
        self._stdio().stdin.write(command.encode() + b"\n")  # type: ignore[union-attr]
        end = self._wait_for(r"\r?\n@end (\d+)\r?\n", start, timeout_seconds)
        result = Result(int(end[1]), self.console[start : end.start()].replace("\r\n", "\n"), "")
        if check and result.code:
            raise LabError(f"in the guest: {command}: exit {result.code}\n{result.stdout}")
        return result

    def ping(self, target: str, *, count: int = 1, wait_seconds: int = 2, size_bytes: int = 56) -> bool:
        """Tell whether `target` answers at least one of `count` pings; what is no larger than the MTU is not cut."""
        pings = f"ping -q -c {count} -W {wait_seconds} -s {size_bytes} {shlex.quote(target)}"
        return self.run(pings, check=False).code == 0

    def _boot(self) -> None:
        program = shutil.which(QEMU)
        if not program:
            raise LabError(f"no {QEMU}: make system-packages installs it")
        self._directory.mkdir(parents=True, exist_ok=True)
        kernel = guest_kernel()
        interfaces = [Interface.parse(nic.libvirt_xml) for nic in self.nics]
        pairs = [
            f"{interface.mac}={address}"
            for interface, nic in zip(interfaces, self.nics, strict=True)
            for address in nic.addresses
        ]
        argv = [*self._enter, program, "-machine", "pc", "-accel", "tcg,tb-size=32", "-m", str(MEMORY_MIB)]
        argv += ["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio"]
        argv += ["-kernel", str(kernel / "vmlinuz"), "-initrd", str(make_initramfs(kernel, self._directory))]
        argv += ["-append", f"console=ttyS0 quiet loglevel=1 panic=-1 ADDRESSES={','.join(pairs)}"]
        for number, interface in enumerate(interfaces):
            argv += interface.qemu_arguments(number)
        self._process = subprocess.Popen(
            argv, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=program_environment({TAG: self._tag} if self._tag else {}),
        )  # fmt: skip
        for interface in interfaces:
            self._plug(interface)
        self._wait_for(r"@ready\r?\n", 0, BOOT_SECONDS)

    def _plug(self, interface: Interface) -> None:
        wait_until(
            lambda: self.pid is None or self._in_host(f"ip link show {interface.device}").returncode == 0,
            timeout_seconds=BOOT_SECONDS,
        )
        for command in interface.plug_commands():
            done = self._in_host(command)
            if done.returncode:
                self.stop()
                raise LabError(f"{command}: {done.stderr.strip()}\n{self.console}")

    def _in_host(self, command: str) -> subprocess.CompletedProcess[str]:
        argv = [*self._enter, *shlex.split(command)]
        return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)

    def _stdio(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            raise LabError("the guest is not there")
        return self._process

    def _wait_for(self, pattern: str, start: int, timeout_seconds: float) -> re.Match[str]:
        """Read the console until it says `pattern` after `start`."""
        deadline = time.monotonic() + timeout_seconds
        expression = re.compile(pattern)
        while not (found := expression.search(self.console, start)):
            left = deadline - time.monotonic()
            if left <= 0 or not self._read(left):
                why = "said nothing of it in time" if left <= 0 else "died"
                raise LabError(f"the guest {why}: {pattern}\n{self.console[-2000:]}")
        return found

    def _read(self, timeout_seconds: float) -> bool:
        """Take what the console has said; return whether it can say more."""
        output = self._stdio().stdout
        if output is None or not select([output], [], [], timeout_seconds)[0]:
            return output is not None
        said = os.read(output.fileno(), 65536)
        self.console += said.decode(errors="replace")
        return bool(said)
