"""python -m bench [NAME ...]: bring up a stack, measure, write JSON, print tables, take the stack down."""

import argparse
import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from types import FrameType
from typing import Protocol

import structlog
import uvloop
from lab import LabError
from rich.console import Console

from bench import allocation, attach, churn, curves, fill, held, links, machine, requests
from bench.measure import Comparison
from bench.report import print_table, write_json
from local_stack.part import StackError
from local_stack.progress import Progress
from local_stack.run_dir import RunDir
from local_stack.stack import Stack


class Bench(Protocol):
    """What each module of a bench has."""

    TITLE: str

    async def run(self, stack: Stack) -> list[Comparison]:
        """Measure on this stack."""
        ...


BENCHES: Mapping[str, Bench] = {
    "requests": requests,
    "attach": attach,
    "links": links,
    "allocation": allocation,
    "fill": fill,
    "held": held,
    "churn": churn,
    "curves": curves,
}
ON_REQUEST = {"churn", "curves"}  # these take minutes each
IN_PROCESS = {"allocation", "fill", "held", "churn", "curves"}  # what runs in a service's process runs on its loop
WIDTH = 150  # of a table that goes into a file


def main() -> int:
    """Return 0 when everything was measured, whatever came out."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    optional = " ".join(sorted(ON_REQUEST))
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"some of: {' '.join(BENCHES)} (default: all but {optional})"
    )
    names = parser.parse_args().names or [name for name in BENCHES if name not in ON_REQUEST]
    if unknown := set(names) - BENCHES.keys():
        parser.error(f"no bench {' '.join(sorted(unknown))}; there are: {' '.join(BENCHES)}")
    if os.geteuid() != 0:
        parser.exit(1, "The bench makes network namespaces and virtual hosts: run it as root (sudo make bench).\n")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))  # of what runs in here
    base = RunDir.default().path / "bench"
    try:
        with RunDir(base / "stack").locked():
            return _measure(names, RunDir(base / "stack"))
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted; the stack is taken down.\n")
        return 130
    finally:
        with suppress(OSError):
            base.rmdir()  # only if there is no result


def _measure(names: list[str], run_dir: RunDir) -> int:
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    began = time.monotonic()
    try:
        Stack(run_dir).down()  # what a killed run has left
        hosts = 0 if IN_PROCESS.issuperset(names) else 1
        # On this machine's own kernel: what an attach costs is not to be the cost of a simulated machine.
        with Stack(run_dir, hosts=hosts, host_kind="netns", progress=Progress()) as stack:
            facts = machine.facts(stack)
            load = os.getloadavg()[0]
            console.print(f"\n{facts['cpus']} x {facts['cpu']}, Linux {facts['kernel']}, load {load:.1f}")
            console.print(
                "Medians of interleaved rounds (least - most); cost: our time as a multiple of the baseline's.\n"
            )
            os.sync()  # what setting up has written is not to be flushed while we measure
            for name in names:
                loop_factory = uvloop.new_event_loop if name in IN_PROCESS else None
                with asyncio.Runner(loop_factory=loop_factory) as runner:
                    found = runner.run(BENCHES[name].run(stack))
                write_json(run_dir.path.parent, name, found, facts)
                print_table(console, BENCHES[name].TITLE, found)
    except (StackError, LabError) as exc:
        sys.stderr.write(f"\n{exc}\n{exc.last_lines() if isinstance(exc, StackError) else ''}\n")
        return 1
    console.print(f"Results are in {run_dir.path.parent}/*.json, after {time.monotonic() - began:.0f} s.")
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
