"""One lab per test module's need, named after this process, so that runs at the same time do not meet."""

import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from lab import Lab, sweep
from lab.machine import NETNS_DIR
from lab.process import tagged

PREFIX = f"t{os.getpid()}-"
NUMBERS = count(1)


@pytest.fixture
def make_lab(tmp_path: Path) -> Iterator[Callable[[], Lab]]:
    """Return a maker of labs; all are swept away after the test, and nothing of them may be left."""
    if os.geteuid() != 0:
        reason = "labs need root"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    made: list[Lab] = []

    def make() -> Lab:
        number = next(NUMBERS)
        made.append(Lab(f"{PREFIX}{number}", tmp_path / f"lab{number}"))
        return made[-1]

    yield make
    sweep(PREFIX)
    assert [lab for lab in made if leftovers(lab)] == []


@pytest.fixture
def lab(make_lab: Callable[[], Lab]) -> Lab:
    """A lab without hosts."""
    lab = make_lab()
    lab.up()
    return lab


def leftovers(lab: Lab) -> list[str]:
    """Say what of a lab is still there: its namespace with all devices in it, processes, files."""
    found = [f"process {process.pid}" for process in tagged("VIADUCT_LAB", lab.netns)]
    found += [str(path) for path in (NETNS_DIR / lab.netns, lab.directory) if path.exists()]
    return found
