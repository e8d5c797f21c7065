"""What a process writes on stderr: one JSON object a line, ours and the libraries' alike."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

START = """
import logging, structlog
from viaduct_common.telemetry import configure_logging
configure_logging("ipam", {format!r})
log = structlog.get_logger()
"""


def lines(code: str, log_format: str = "json", **options: Any) -> list[str]:
    """Run a process that logs; pytest has put its own handlers into this one."""
    argv = [sys.executable, "-c", START.format(format=log_format) + code]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(argv, stderr=subprocess.PIPE, text=True, check=True, env=environment, **options)
    return done.stderr.splitlines()


def parsed(code: str) -> list[Mapping[str, Any]]:
    return [json.loads(line) for line in lines(code)]


def test_our_line_has_event_values_context_level_time_and_service() -> None:
    """All that a reader of logs may look for."""
    (line,) = parsed("""
structlog.contextvars.bind_contextvars(message_id="m", type="zone.get")
log.debug("not_told")
log.info("request_handled", outcome="ok", took_ms=1.5, other=object)
""")
    assert line.pop("ts").endswith("Z")
    assert line == {
        "event": "request_handled", "outcome": "ok", "took_ms": 1.5, "other": "<class 'object'>",
        "message_id": "m", "type": "zone.get", "level": "info", "service": "ipam",
    }  # fmt: skip


def test_library_log_looks_the_same() -> None:
    """Those of the chatty are left out."""
    (line,) = parsed("""
logging.getLogger("httpx").info("chat")
logging.getLogger("asyncpg").warning("%s broke", "it")
""")
    assert set(line) == {"event", "level", "ts", "service"}
    assert line["event"] == "it broke"


def test_exception_comes_with_its_traceback() -> None:
    """Within the one line."""
    (line,) = parsed("""
try:
    1 / 0
except ZeroDivisionError:
    log.exception("request_crashed")
""")
    assert line["level"] == "error"
    assert "ZeroDivisionError" in line["exception"]


def test_for_people_it_is_no_json() -> None:
    """On a terminal, or when asked for."""
    (line,) = lines('log.info("request_handled", outcome="ok")', "console")
    assert "request_handled" in line
    assert not line.startswith("{")


def test_log_that_cannot_be_written_fails_nothing() -> None:
    """A full disk must not fail requests."""
    code = """
import sys
sys.stderr = open("/dev/full", "w")
configure_logging("ipam", "json")
log.info("lost")
sys.stderr = sys.__stderr__
configure_logging("ipam", "json")
structlog.get_logger().info("told")
"""
    (line,) = lines(code)[-1:]
    assert json.loads(line)["event"] == "told"
