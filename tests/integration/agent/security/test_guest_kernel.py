"""The same tests on a kernel that tracks connections in the bridge family, which this machine's own may not."""

import sys
from pathlib import Path
from uuid import uuid4

import pytest
from lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(900)]
HERE = Path(__file__).parent
ROOT = HERE.parents[3]
SITUATIONS = 4  # of drawn rules, each with all flows: a guest is several times slower


@pytest.mark.parametrize("name", ["test_matrix.py", "test_connections.py", "test_spoofing.py"])
def test_the_same_by_conntrack_in_the_bridge_family(name: str, tmp_path: Path) -> None:
    """In a User-Mode Linux host, which sees this checkout and writes nothing into it."""
    probe = "from viaduct_agent.services.security.probing import probe; import asyncio; print(asyncio.run(probe(None)))"
    with Lab(f"sg-{uuid4().hex[:6]}", tmp_path / "lab") as lab:
        (host,) = lab.start_hosts(["a"], kind="uml")
        assert "name='bridge'" in host.run([sys.executable, "-c", probe]).stdout
        words = [
            "env",
            f"VIADUCT_TEST_SITUATIONS={SITUATIONS}",
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-o",
            "timeout=800",
            str(HERE / name),
        ]
        ran = host.run(["sh", "-c", 'cd "$0" && "$@"', str(ROOT), *words], check=False, timeout_seconds=850)
        assert ran.code == 0, ran.stdout[-5000:] + ran.stderr[-1000:]
