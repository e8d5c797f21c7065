"""A host installs no database driver, a service no netlink library: what is not installed must not be imported."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "foreign"),
    [
        ("viaduct_agent.main", {"asyncpg", "httpx", "uvloop", "cyclopts"}),
        ("viaduct_manager.main", {"pyroute2", "cyclopts"}),
        ("viaduct_ipam.main", {"pyroute2", "cyclopts"}),
        ("viaduct_common.client", {"asyncpg", "pyroute2", "httpx", "cyclopts"}),
        ("viaduct_console.main", {"asyncpg", "pyroute2"}),
    ],
)
def test_process_imports_no_library_of_another_extra(module: str, foreign: set[str]) -> None:
    """Each in an interpreter of its own. (rich does not count: structlog takes it along where it finds it.)"""
    program = f"import sys, {module}; print(*sys.modules)"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout

    assert not foreign & set(printed.split())
