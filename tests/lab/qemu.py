"""A virtual machine: libvirt runs QEMU with a small Linux in a host's network, on NICs as their elements say.

It needs no KVM, which is missing or hangs on most machines that are virtual themselves: 3 s to boot. It needs no
libvirt daemon either: `virt-qemu-run` is libvirt's driver for QEMU as a program.
"""

import os
import re
import shlex
import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from select import select
from types import TracebackType

from lab.domain import CONFIGURATION, domain_xml, mac_of
from lab.guest_kernel import guest_kernel, make_initramfs
from lab.host import GUEST, TAG
from lab.machine import POLL_SECONDS, LabError, Result, program_environment
from lab.netns import NetnsHost
from lab.process import Process, launch

PROGRAMS = ("virt-qemu-run", "qemu-system-x86_64")
BOOT_SECONDS = 60.0  # how long a boot may take on a busy machine


@dataclass(frozen=True)
class GuestNic:
    """A NIC: its libvirt element, and the addresses (with prefix lengths) that the guest gives it."""

    libvirt_xml: str
    addresses: Sequence[str] = ()


class Guest:
    """A guest while the context is open; at the end its processes are gone, and its taps with them.

    Args:
        enter: the words that run a command in the host, such as `ip netns exec NAME`.
        directory: for its files; made if need be.
        tag: the lab's network namespace: `Lab.down` finds the process by it, whatever became of us.
    """

    def __init__(self, enter: Sequence[str], nics: Sequence[GuestNic], directory: Path, *, tag: str = "") -> None:
        self.nics = nics
        self.console = ""  # all that it printed
        self.process: Process | None = None
        self._enter = list(enter)
        self._directory = directory.resolve()
        self._tag = tag
        self._pipes = ExitStack()
        self._input = self._output = -1

    @classmethod
    def on(cls, host: NetnsHost, nics: Sequence[GuestNic], directory: Path) -> "Guest":
        """A guest on a host of a lab."""
        return cls(host.enter(), nics, directory, tag=host.netns)

    def __enter__(self) -> "Guest":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Boot, and wait until it takes commands; one that runs already is left as it is.

        Raises:
            LabError: libvirt refused it, or it did not boot; the text holds what both said.
        """
        if self.process and self.process.alive():
            return
        try:
            self._boot()
            self._wait_for(r"@ready\r?\n", 0, BOOT_SECONDS)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Pull the plug; again is no error."""
        if self.process:
            self.process.kill()
        self._pipes.close()

    def run(self, command: str, *, check: bool = True, timeout_seconds: float = 60) -> Result:
        """Run a line of shell in the guest and wait; what went to stderr is in `stdout` too.

        Raises:
            LabError: it failed and `check` is set, or did not end in time.
        """
        if "\n" in command:
            raise LabError("a command is one line")
        start = len(self.console)
        os.write(self._input, command.encode() + b"\n")
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
        for program in PROGRAMS:
            if not shutil.which(program):
                raise LabError(f"no {program}: make system-packages installs it")
        self._directory.mkdir(parents=True, exist_ok=True)
        kernel = guest_kernel()
        pairs = [f"{mac_of(nic.libvirt_xml)}={address}" for nic in self.nics for address in nic.addresses]
        domain = domain_xml(
            [nic.libvirt_xml for nic in self.nics],
            kernel=kernel / "vmlinuz",
            initramfs=make_initramfs(kernel, self._directory),
            kernel_arguments=f"console=ttyS0 quiet loglevel=1 panic=-1 ADDRESSES={','.join(pairs)}",
            console=self._directory / "console",
        )
        (self._directory / "domain.xml").write_text(domain)
        (self._directory / "qemu.conf").write_text(CONFIGURATION)
        self.console = ""
        self._input, self._output = self._pipe("in"), self._pipe("out")
        argv = [*self._enter, "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        argv += [str(GUEST / "run-domain"), str(self._directory)]
        log = self._directory / "libvirt.log"
        log.unlink(missing_ok=True)
        self.process = launch(argv, log=log, environment=program_environment({TAG: self._tag} if self._tag else {}))

    def _pipe(self, name: str) -> int:
        """Make a pipe of the console anew and open it, both ways as QEMU does, so that nobody waits for anybody."""
        path = self._directory / f"console.{name}"
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._pipes.callback(os.close, descriptor)
        return descriptor

    def _wait_for(self, pattern: str, start: int, timeout_seconds: float) -> re.Match[str]:
        """Read the console until it says `pattern` after `start`."""
        deadline = time.monotonic() + timeout_seconds
        expression = re.compile(pattern)
        while not (found := expression.search(self.console, start)):
            alive = self.process is not None and self.process.alive()
            if select([self._output], [], [], POLL_SECONDS)[0]:
                self.console += os.read(self._output, 65536).decode(errors="replace")
            elif not alive or time.monotonic() > deadline:
                log = (self._directory / "libvirt.log").read_text(errors="replace")
                why = "is silent" if alive else "died"
                raise LabError(f"the guest {why}, without {pattern!r}:\n{self.console[-2000:]}\n{log[-2000:]}")
        return found
