"""A host made of namespaces on this machine's own kernel."""

import signal

from lab.host import GUEST, TAG, Host
from lab.machine import LabError, ip_batch, program_environment, sh, wait_until
from lab.process import Process, launch


class NetnsHost(Host):
    """Its own network, mounts below /run, host name, process ids and named network namespaces; boots in 0.2 s.

    It can only do what the running kernel can, and shares the file system: give its programs directories of their
    own. A frozen one still answers pings, for the kernel does that.
    """

    kind = "netns"

    def freeze(self) -> None:
        """Stop every process of the host."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let every process of the host go on."""
        self._signal_all(signal.SIGCONT)

    def enter(self) -> list[str]:
        """The words that run a program in the host's network and mounts, its process id one of this machine's."""
        process = self.process()
        init = self._init_pid(process) if process else None
        if init is None:
            raise LabError(f"host {self.name} does not run")
        return ["nsenter", "--target", str(init), "--net", "--mount"]

    def _boot(self) -> Process:
        self._unplug()  # a network namespace that died is buried later than its processes
        argv = ["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child"]
        argv += [str(GUEST / "netns-init"), str(self.directory)]
        variables = program_environment({TAG: self.netns, **self.spec.environment})
        process = launch(argv, log=self.directory / "console", environment=variables)
        # The child of unshare is in the new namespace from its first moment on.
        if not wait_until(lambda: self._init_pid(process) is not None or not process.alive(), timeout_seconds=10):
            raise LabError(f"host {self.name} did not start:\n{self.console()}")
        init = self._init_pid(process)
        commands = [
            f"link add {self.tap(nic.name)} type veth peer name {nic.name} mtu 1500 address {nic.mac} netns {init}"
            for nic in self.nics
        ]
        ip_batch(commands, netns=self.netns)
        self._plug(self.nics)
        inside = f"nsenter --target {init} --net ip"
        for nic in self.nics:
            if nic.address:
                sh(f"{inside} addr add {nic.address} dev {nic.name}")
            sh(f"{inside} link set {nic.name} up")
        return process

    def _halt(self, process: Process) -> None:
        """SIGTERM to every program; the plug comes out when they have ended, or their time is over."""
        for program in self._programs(process):
            program.signal(signal.SIGTERM)
            program.signal(signal.SIGCONT)
        wait_until(lambda: not self._programs(process), timeout_seconds=self.stop_seconds)
        process.kill()

    def _signal_all(self, number: int) -> None:
        process = self.process()
        for member in process.family() if process else []:
            member.signal(number)

    def _programs(self, process: Process) -> list[Process]:
        """What runs in the host, but for the lab's own: unshare, PID 1 and the command server."""
        init = self._init_pid(process)
        own = {process.pid, init, *(_children(init)[:1] if init else [])}
        return [member for member in process.family() if member.pid not in own]

    def _init_pid(self, process: Process) -> int | None:
        return next(iter(_children(process.pid)), None)


def _children(pid: int) -> list[int]:
    """The children of a process, the oldest first (proc(5): needs CONFIG_PROC_CHILDREN)."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []
