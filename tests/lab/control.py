"""The client of the command server inside a host (guest/execd): one connection, one line of JSON each way."""

import json
import socket
from typing import Any

from lab.machine import LabError, connect_inside

EXEC_PORT = 7


def ask(
    netns: str, address: str, request: dict[str, Any], *, timeout_seconds: float, port: int = EXEC_PORT
) -> dict[str, Any]:
    """Send one request to the host at `address` and return its answer; another `port` is that of a test's own server.

    Raises:
        LabError: the host does not answer, went away, took too long, or could not start the program.
    """
    what = request.get("run") or request.get("spawn") or request
    try:
        conn = connect_inside(netns, (address, port), timeout_seconds=min(10, timeout_seconds))
    except OSError as exc:
        raise LabError(f"the host at {address} does not answer: {exc}") from exc
    with conn, conn.makefile("rwb") as stream:
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        conn.settimeout(timeout_seconds)
        try:
            stream.write(json.dumps(request).encode() + b"\n")
            stream.flush()
            line = stream.readline()
        except TimeoutError:
            raise LabError(f"{what}: no end in {timeout_seconds} s") from None
        except OSError as exc:
            raise LabError(f"{what}: the host went away: {exc}") from exc
    if not line:
        raise LabError(f"{what}: the host went away")
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        raise LabError(f"{what}: {answer['error']}")
    return answer
