"""The shipped units are well formed and give away little."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from local_stack.run_dir import CHECKOUT

UNITS = sorted((CHECKOUT / "deploy" / "systemd").glob("*.service"))

pytestmark = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")


def analyze(*arguments: str) -> str:
    """Run systemd-analyze; it must succeed."""
    done = subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: str(unit.stem))
def test_unit_is_understood_to_the_last_line(unit: Path, tmp_path: Path) -> None:
    """systemd finds nothing to say, but for the program that is not installed here."""
    copy = tmp_path / unit.name
    copy.write_text(
        re.sub(r"^ExecStart=/opt/viaduct/bin/\S+", "ExecStart=/bin/true", unit.read_text(), flags=re.MULTILINE)
    )

    assert analyze("verify", str(copy)) == ""


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: str(unit.stem))
def test_unit_is_hardened(unit: Path) -> None:
    """The exposure level is at most 2.0 of 10."""
    level = re.search(r"exposure level for \S+: ([0-9.]+)", analyze("security", "--offline=true", str(unit)))

    assert level is not None
    assert float(level[1]) <= 2.0
