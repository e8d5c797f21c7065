"""What the terminal shows: a line per part, with a tick and seconds; colours on a terminal only."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

GREEN, RED, DIM, BOLD, PLAIN = "\033[32m", "\033[31m", "\033[2m", "\033[1m", "\033[0m"


class Progress:
    """Prints what is being done; `quiet` prints nothing, for tests."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._terminal = sys.stdout.isatty()

    @contextmanager
    def step(self, what: str, detail: str = "", *, began: float | None = None) -> Iterator[None]:
        """Tell of one step when it is done, or has failed; `began` if it was begun earlier (time.monotonic)."""
        began = time.monotonic() if began is None else began
        if self._terminal and not self._quiet:
            print(f"  {self._in(DIM, '…')} {what}", end="\r", flush=True)
        try:
            yield
        except BaseException:
            self.line(False, what, "")
            raise
        self.line(True, f"{what:<24}", f"{time.monotonic() - began:5.1f} s  {detail}")

    def line(self, good: bool, what: str, detail: str) -> None:
        """Print one line with a tick or a cross."""
        mark = self._in(GREEN, "✓") if good else self._in(RED, "✗")
        clear = "\033[K" if self._terminal else ""
        self.say(f"{clear}  {mark} {what} {self._in(DIM, detail)}".rstrip())

    def heading(self, text: str) -> None:
        """Print a heading."""
        self.say(self._in(BOLD, text))

    def say(self, text: str) -> None:
        """Print a line."""
        if not self._quiet:
            print(text, flush=True)

    def _in(self, colour: str, text: str) -> str:
        return f"{colour}{text}{PLAIN}" if self._terminal and text else text
