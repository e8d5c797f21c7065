"""What the audience sees: scenes, narration, evidence, and facts that are checked before they are claimed."""

import os
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO

from local_stack.progress import BOLD, DIM, GREEN, PLAIN, RED, Progress

CYAN = "\033[36m"
WIDTH = 112


class FactFailed(Exception):
    """Something that the demo wanted to show is not so."""


@dataclass
class Scene:
    """One scene as it went: how long, and how many facts held."""

    title: str
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    facts: int = 0
    held: bool = False


class Narrator:
    """Prints to `out`, in colours on a terminal only (https://no-color.org is honoured).

    An audience that has left (a closed pipe) is no reason to stop: the stack must still be taken down.
    """

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._coloured = self._out.isatty() and not os.environ.get("NO_COLOR")
        self._deserted = False
        self.scenes: list[Scene] = []

    # ---- scenes and facts ------------------------------------------------------------------------------------

    @contextmanager
    def scene(self, title: str, *narration: str) -> Iterator[None]:
        """Play a scene: its heading, what it is about, and at the end the time it took."""
        scene = Scene(title)
        self.scenes.append(scene)
        self._print(f"\n{self.paint(BOLD + CYAN, f'{len(self.scenes)}. {title}')}")
        self.say(*narration)
        try:
            yield
            scene.held = True
        finally:
            scene.seconds = time.monotonic() - scene.began

    def fact(self, claim: str, holds: bool, evidence: object = "", *, seconds: float | None = None) -> None:
        """Claim a fact; `evidence` is shown if it does not hold.

        Raises:
            FactFailed: it does not.
        """
        took = "" if seconds is None else self.paint(DIM, f"  {duration(seconds)}")
        mark = self.paint(GREEN, "✓") if holds else self.paint(RED, "✗")
        self._print(f"  {mark} {claim}{took}")
        if not holds:
            self.show(str(evidence).splitlines())
            raise FactFailed(claim)
        self.scenes[-1].facts += 1

    @property
    def facts(self) -> int:
        """How many facts have been shown so far."""
        return sum(scene.facts for scene in self.scenes)

    def refused(self, what: str) -> None:
        """Tell what ended the demo early."""
        self._print(f"\n{self.paint(RED + BOLD, '✗')} {what}")

    # ---- words and evidence ----------------------------------------------------------------------------------

    def say(self, *paragraphs: str) -> None:
        """Narrate; each paragraph is wrapped."""
        for paragraph in paragraphs:
            for line in textwrap.wrap(paragraph, WIDTH - 2, break_on_hyphens=False):
                self._print(f"  {line}")

    def show(self, lines: Iterable[str], *, title: str = "") -> None:
        """Show evidence as it came, long lines wrapped."""
        if title:
            self._print(f"    {title}")
        for line in lines:
            rows = textwrap.wrap(line, WIDTH - 6, subsequent_indent="    ", break_on_hyphens=False) or [""]
            for row in rows:
                self._print(self.paint(DIM, f"    │ {row}"))

    def show_table(self, text: str, *, title: str) -> None:
        """Show a table as it came; its lines are never wrapped."""
        self._print(f"    {title}")
        for line in text.splitlines():
            self._print(self.paint(DIM, f"    │ {line.rstrip()}"))

    def say_plainly(self, text: str = "") -> None:
        """Print one line as it is."""
        self._print(text)

    def paint(self, colour: str, text: str) -> str:
        """Return the text in a colour, if there are colours."""
        return f"{colour}{text}{PLAIN}" if self._coloured and text else text

    # ---- the end ---------------------------------------------------------------------------------------------

    def summary(self, seconds: float) -> None:
        """A line per scene, and the verdict."""
        self._print(f"\n{self.paint(BOLD, 'Summary')}")
        for number, scene in enumerate(self.scenes, start=1):
            mark = self.paint(GREEN, "✓") if scene.held else self.paint(RED, "✗")
            held = f"{scene.facts} facts held" if scene.held else f"{scene.facts} facts held, then it failed"
            label = f"{number}. {scene.title}"
            self._print(f"  {mark} {label:<58} {duration(scene.seconds):>7}  {self.paint(DIM, held)}")
        if self.scenes and all(scene.held for scene in self.scenes):
            text = f"All {self.facts} facts held, in {duration(seconds)}."
            self._print(self.paint(GREEN + BOLD, text))
        else:
            self._print(self.paint(RED + BOLD, f"Not all held, after {duration(seconds)}."))

    def _print(self, text: str) -> None:
        if self._deserted:
            return
        try:
            print(text, file=self._out, flush=True)
        except OSError:
            self._deserted = True
            if self._out is sys.stdout:
                # What is still buffered must not raise again when the interpreter flushes it at exit.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Lines(Progress):
    """The progress of the stack, told by a narrator."""

    def __init__(self, narrator: Narrator) -> None:
        super().__init__(quiet=True)
        self._narrator = narrator

    def line(self, good: bool, what: str, detail: str) -> None:
        """Print one line with a tick or a cross."""
        mark = self._narrator.paint(GREEN, "✓") if good else self._narrator.paint(RED, "✗")
        self._narrator.say_plainly(f"  {mark} {what} {self._narrator.paint(DIM, detail)}".rstrip())


def duration(seconds: float) -> str:
    """Return a time as people read it."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds:.0f} s"
