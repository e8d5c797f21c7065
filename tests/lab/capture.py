"""Watching the wire: tcpdump on a segment of the lab, or on the switch's end of one cable."""

import re
import shlex
import signal
from pathlib import Path
from types import TracebackType

from lab.host import TAG
from lab.machine import LabError, program_environment, wait_until
from lab.process import Process, launch


class Capture:
    """Frames seen on a device of the lab's network namespace while the context is open, one line of text each.

    `lines` can be read while it runs; a VLAN tag shows as "vlan 10" in a line.
    """

    def __init__(self, netns: str, device: str, expression: str, output: Path) -> None:
        self.netns = netns
        self.device = device
        self.expression = expression
        self.output = output
        self._process: Process | None = None

    def __enter__(self) -> "Capture":
        argv = ["ip", "netns", "exec", self.netns, "tcpdump", "--immediate-mode", "-e", "-n", "-l", "-Z", "root"]
        argv += ["-i", self.device, *shlex.split(self.expression)]
        self._process = process = launch(argv, log=self.output, environment=program_environment({TAG: self.netns}))
        wait_until(lambda: "listening on" in self._text() or not process.alive(), timeout_seconds=10)
        if "listening on" not in self._text():
            raise LabError(f"tcpdump on {self.device} did not start: {self._text()}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the capture."""
        if self._process:
            self._process.stop(number=signal.SIGINT)

    def lines(self, pattern: str = "") -> list[str]:
        """Return the frames seen so far, those only that match the regular expression."""
        frames = [line for line in self._text().splitlines() if re.match(r"\d\d:\d\d:\d\d\.", line)]
        return [line for line in frames if re.search(pattern, line)]

    def wait_for(self, pattern: str, *, timeout_seconds: float = 5) -> str:
        """Wait for a frame that matches; return the first."""
        if not wait_until(lambda: bool(self.lines(pattern)), timeout_seconds=timeout_seconds):
            raise LabError(f"no frame like {pattern!r} on {self.device} in {timeout_seconds} s:\n{self._text()}")
        return self.lines(pattern)[0]

    def _text(self) -> str:
        return self.output.read_text(errors="replace") if self.output.exists() else ""
