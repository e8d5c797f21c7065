"""A host that is a User-Mode Linux guest: an ordinary process of this machine with a kernel of its own."""

import os
import shutil
import socket
import struct
import subprocess
import sys
from functools import cache
from pathlib import Path

from lab import plain_fpu
from lab.host import GUEST, TAG, Host
from lab.machine import LabError, ip_batch, program_environment
from lab.process import Process, launch

PLAIN_FPU = Path(__file__).resolve().parent / "plain_fpu.py"
KERNEL = "/usr/bin/linux.uml"  # of Debian's package user-mode-linux
MCONSOLE_MAGIC, MCONSOLE_VERSION = 0xCAFEBABE, 2  # arch/um/drivers/mconsole.h


@cache
def needs_plain_fpu(kernel: str) -> bool:
    """Tell whether the CPU's register state is too large for this kernel; see plain_fpu.py."""
    if "amx_tile" not in Path("/proc/cpuinfo").read_text():
        return False
    version = subprocess.run([kernel, "--version"], capture_output=True, text=True, check=True).stdout
    major, minor = version.split(".")[:2]
    return (int(major), int(minor)) < (6, 13)


class UmlHost(Host):
    """A guest: about 3 s to boot, about 110 MiB with an agent in it; what it writes is gone when it halts.

    Its root is the machine's, read-only, with a file system in memory on top.
    """

    kind = "uml"

    def freeze(self) -> None:
        """Stop the guest's clock and all its work."""
        self._mconsole("stop")

    def thaw(self) -> None:
        """Let the guest go on."""
        self._mconsole("go")

    def _boot_variables(self) -> dict[str, str]:
        cards = [f"vec{i},{nic.name},{nic.mac},{nic.address}" for i, nic in enumerate(self.nics)]
        return {"HOST_NICS": " ".join(cards), "HOST_MODULES": self.spec.modules}

    def _boot(self) -> Process:
        kernel = os.environ.get("VIADUCT_UML_KERNEL", KERNEL)
        if not os.access(kernel, os.X_OK):
            raise LabError(f"no User-Mode Linux kernel at {kernel}: make system-packages installs it")
        self._unplug()  # left over from a machine that lost its power
        shutil.rmtree(self.directory / "kernel", ignore_errors=True)
        ip_batch([f"tuntap add dev {self.tap(nic.name)} mode tap" for nic in self.nics], netns=self.netns)
        self._plug(self.nics)
        # gro=1: without it the guest drops the large frames that this machine's TCP hands to a tap, and TCP crawls.
        cards = [f"vec{i}:transport=tap,ifname={self.tap(nic.name)},depth=64,gro=1" for i, nic in enumerate(self.nics)]
        argv = ["ip", "netns", "exec", self.netns]
        if needs_plain_fpu(kernel):
            argv += [sys.executable, "-SIE", str(PLAIN_FPU)]
            cards += [f"{name}={value}" for name, value in plain_fpu.ENVIRONMENT.items()]  # they reach PID 1
        argv += [kernel, f"mem={self.spec.memory}"]
        argv += ["root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", f"init={GUEST / 'uml-init'}"]
        argv += [f"LAB_DIR={self.directory}", "umid=kernel", f"uml_dir={self._socket_directory()}"]
        argv += ["noreboot", "quiet", "con=null", "con0=null,fd:1", "con1=null"]
        argv += ["dummy.numdummies=0", "ifb.numifbs=0", "bonding.max_bonds=0"]  # no ready-made devices
        console = self.directory / "console"
        return launch(argv + cards, log=console, environment=program_environment({TAG: self.netns}))

    def _halt(self, process: Process) -> None:
        self._mconsole("cad")  # Ctrl-Alt-Del: PID 1 gets SIGINT

    def _socket_directory(self) -> Path:
        """A short way to the state directory: the path of a Unix socket ends at 107 bytes."""
        return REGISTRY / self.netns / "hosts" / self.name

    def _mconsole(self, command: str) -> str:
        """Send a command to the kernel's own console socket; it works when the guest's network does not."""
        path = str(self._socket_directory() / "kernel" / "mconsole")
        back = Path(f"{path}.{os.getpid()}")
        request = struct.pack("=III512s", MCONSOLE_MAGIC, MCONSOLE_VERSION, len(command), command.encode())
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(5)
            try:
                sock.bind(str(back))
                sock.sendto(request, path)
                return sock.recv(4096)[12:].rstrip(b"\0").decode("utf-8", "replace")
            except OSError as exc:
                return f"no answer: {exc}"
            finally:
                back.unlink(missing_ok=True)


REGISTRY = Path("/run/viaduct-lab")  # one link per lab, named as its network namespace, to its state directory
