"""Where and with what it was measured: a number without these says nothing."""

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

from local_stack.run_dir import CHECKOUT
from local_stack.stack import Stack

PACKAGES = ("aio-pika", "aiormq", "asyncpg", "pydantic", "pyroute2", "uvloop")


def facts(stack: Stack) -> dict[str, object]:
    """Return the machine, its load, and all versions that matter."""
    return {
        "cpu": _first(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text()),
        "cpus": os.cpu_count(),
        "memoryMiB": int(_first(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())) // 1024,
        "loadBefore": os.getloadavg(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "rabbitmq": stack.broker.ctl("version").strip(),
        "postgres": stack.postgres.sql("SHOW server_version"),
        "iproute2": _output("ip", "-Version"),
        "packages": {name: version(name) for name in PACKAGES},
        "commit": _output("git", "-C", str(CHECKOUT), "describe", "--always", "--dirty"),
    }


def _first(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found[1].strip() if found else "0"


def _output(*argv: str) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        return ""
