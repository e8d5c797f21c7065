"""Processes that outlive the one that started them, known by process id and start time.

A process id alone is not enough: by the time `down` reads it, it may belong to somebody else.
"""

import errno
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import which
from signal import SIGKILL, SIGPIPE, SIGTERM

from lab.machine import wait_until


@dataclass(frozen=True)
class Process:
    """One process of this machine: its id, and when it started, in clock ticks since boot."""

    pid: int
    start_ticks: int

    @classmethod
    def of(cls, pid: int) -> "Process | None":
        """Return the live process with this id, if there is one."""
        stat = _stat(pid)
        return cls(pid, int(stat[19])) if stat and stat[0] not in "ZX" else None

    @classmethod
    def load(cls, path: Path) -> "Process | None":
        """Return the process recorded in a file; it may have ended since."""
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def save(self, path: Path) -> None:
        """Record the process in a file, whole or not at all."""
        scratch = path.with_name(path.name + ".new")
        scratch.write_text(json.dumps(asdict(self)))
        scratch.rename(path)

    def alive(self) -> bool:
        """Tell whether exactly this process still runs; reaps it if it was our own child and has ended."""
        stat = _stat(self.pid)
        if stat is None or int(stat[19]) != self.start_ticks:
            return False
        if stat[0] in "ZX" and int(stat[17]) <= 1:
            _reap(self.pid)
            return False
        return True  # also when the first thread has ended, but not the last

    def age_seconds(self) -> float:
        """Return for how long the process has been running."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) - self.start_ticks / os.sysconf("SC_CLK_TCK")

    def signal(self, number: int) -> None:
        """Send a signal to this process alone; one that has ended is no error."""
        if self.alive():
            _kill(self.pid, number)

    def family(self) -> "list[Process]":
        """Return the process and all that descends from it or shares its session, as of now."""
        found = {self.pid}
        stats = {pid: stat for pid in _all_pids() if (stat := _stat(pid)) is not None}
        grown = True
        while grown:
            more = {pid for pid, stat in stats.items() if int(stat[1]) in found or int(stat[3]) == self.pid}
            grown = not more <= found
            found |= more
        return [process for pid in sorted(found) if (process := Process.of(pid))]

    def wait_gone(self, timeout_seconds: float) -> bool:
        """Wait for the end of the process; return whether it came."""
        return wait_until(lambda: not self.alive(), timeout_seconds=timeout_seconds)

    def stop(self, *, number: int = SIGTERM, timeout_seconds: float = 10) -> None:
        """End the process: the signal first; whoever of its family is left after the time is killed."""
        family = self.family()
        self.signal(number)
        self.wait_gone(timeout_seconds)
        kill_all(family)

    def kill(self) -> None:
        """End the process and its family at once, without a warning."""
        kill_all(self.family())


def kill_all(processes: Iterable[Process]) -> None:
    """Kill processes and wait until the kernel has buried them."""
    doomed = list(processes)
    for process in doomed:
        process.signal(SIGKILL)
    for process in doomed:
        process.wait_gone(10)


def launch(argv: Sequence[str], *, log: Path, environment: Mapping[str, str]) -> Process:
    """Start a program in a session of its own, its output appended to `log`, nothing on its standard input.

    There is no object that must be waited for: the program may outlive us, and `Process.alive` reaps it if not.
    """
    program = which(argv[0], path=environment.get("PATH", os.defpath)) or argv[0]
    output = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    pid = os.posix_spawn(
        program,
        list(argv),
        dict(environment),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), output, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigdef=[SIGPIPE],  # Python ignores it, and the ignoring would be inherited
    )
    process = Process.of(pid)
    if process is None:  # ended at once: its log says why
        _reap(pid)
        return Process(pid, -1)
    return process


def tagged(variable: str, value: str) -> list[Process]:
    """Return the live processes whose environment says VARIABLE=VALUE."""
    wanted = f"{variable}={value}".encode()
    found = []
    for pid in _all_pids():
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if wanted in environment and (process := Process.of(pid)):
            found.append(process)
    return found


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _stat(pid: int) -> list[str] | None:
    """Return /proc/PID/stat from the state on: 0 state, 1 parent, 3 session, 17 threads, 19 start time (proc(5))."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except OSError as exc:
        if exc.errno != errno.ESRCH:
            raise


def _reap(pid: int) -> None:
    with suppress(ChildProcessError):  # not our child: its parent, or init, reaps it
        os.waitpid(pid, os.WNOHANG)
