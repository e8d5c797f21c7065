"""A part of the stack: a process that is known by its record, whoever started it."""

import os
import shutil
import socket
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from lab.machine import wait_until
from lab.process import Process

from local_stack.run_dir import LOOPBACK, RunDir

LOG_LINES = 20  # of a part that failed, shown to whoever asked for it


class StackError(Exception):
    """A part could not be brought up; `advice` says what to do about it."""

    def __init__(self, message: str, *, log: Path | None = None, advice: str = "") -> None:
        super().__init__(message)
        self.log = log
        self.advice = advice

    def last_lines(self) -> str:
        """Return the end of the part's log."""
        if self.log is None or not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_LINES:])


class Part(ABC):
    """One part. `start` and `stop` may be repeated: a second one changes nothing.

    As a context it runs inside and is stopped after; its data stay, for the owner of the run directory to remove.
    """

    start_seconds = 60.0  # how long a start may take on a busy machine
    stop_seconds = 15.0  # what an orderly end may take before the part is killed

    def __init__(self, run_dir: Path | RunDir, name: str) -> None:
        self.run_dir = run_dir if isinstance(run_dir, RunDir) else RunDir(run_dir)
        self.name = name

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def folder(self) -> Path:
        """Where the part keeps all it writes."""
        return self.run_dir.folder(self.name)

    @property
    def log(self) -> Path:
        """What the part prints."""
        return self.folder / "log.txt"

    def process(self) -> Process | None:
        """The part's process; it may have ended."""
        return Process.load(self.run_dir.path / self.name / "process.json")

    def alive(self) -> bool:
        """Tell whether the process runs."""
        process = self.process()
        return process is not None and process.alive()

    def launch(self) -> None:
        """Start the process, if it does not run; `wait_ready` tells when it serves."""
        if not self.alive():
            self._launch().save(self.folder / "process.json")

    def wait_ready(self) -> None:
        """Wait until the part serves.

        Raises:
            StackError: it died, or took too long.
        """
        wait_until(lambda: self.ready() or not self.alive(), timeout_seconds=self.start_seconds)
        if not self.alive():
            raise StackError(f"{self.name} ended while starting", log=self.log, advice=self._advice())
        if not self.ready():
            message = f"{self.name} is not ready after {self.start_seconds:.0f} s"
            raise StackError(message, log=self.log, advice=self._advice())

    def start(self) -> None:
        """Start, and wait until the part serves."""
        self.launch()
        self.wait_ready()

    def stop(self) -> None:
        """End the part in order."""
        process = self.process()
        if process and process.alive():
            self._stop(process)

    def kill(self) -> None:
        """End the part as a crash would, with everything it started."""
        process = self.process()
        if process and process.alive():
            process.kill()

    def restart(self) -> None:
        """Stop in order and start again."""
        self.stop()
        self.start()

    @abstractmethod
    def ready(self) -> bool:
        """Tell whether the part serves, right now."""

    @abstractmethod
    def _launch(self) -> Process: ...

    def _stop(self, process: Process) -> None:
        process.stop(timeout_seconds=self.stop_seconds)

    def _advice(self) -> str:
        return f"look at {self.log}"


def accepts(port: int) -> bool:
    """Tell whether something listens on a port of loopback."""
    try:
        with socket.create_connection((LOOPBACK, port), 2):
            return True
    except OSError:
        return False


def answers_200(url: str, *, timeout_seconds: float = 2) -> bool:
    """Tell whether an HTTP GET is answered with 200."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_seconds) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def clean_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without what would steer the parts by accident, and with `extra`."""
    foreign = ("VIADUCT_", "RABBITMQ_", "ERL_", "PG", "NOTIFY_SOCKET")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
    return {**kept, **extra}


def find_program(name: str, *folders: str, advice: str = "run: make system-packages") -> str:
    """Return the path of a program that a Debian package brings, looked for in `folders`, then in PATH."""
    for folder in sorted(folders, reverse=True):
        if os.access(Path(folder) / name, os.X_OK):
            return str(Path(folder) / name)
    path = shutil.which(name)
    if path is None:
        raise StackError(f"there is no program {name} on this machine", advice=advice)
    return path
