"""Running programs to their end, here or in a named network namespace."""

import asyncio
import contextlib
import os
import shlex
import signal
from collections.abc import Collection, Sequence
from typing import NamedTuple

from viaduct_common.errors import BackendFailed

NETNS_DIR = "/run/netns"
RUN_SECONDS = 30.0  # far more than any of these takes on a host that works
_OK = frozenset({0})


class Ran(NamedTuple):
    """The end of a program; a negative `code` is the signal that killed it."""

    code: int
    stdout: str
    stderr: str


async def run(
    argv: Sequence[str],
    *,
    netns: str | None = None,
    stdin: str = "",
    ok: Collection[int] | None = _OK,
    seconds: float = RUN_SECONDS,
) -> Ran:
    """Run a program to its end. `netns` is a name under /run/netns; `ok` are the statuses of success, None for any.

    The program enters the namespace by `nsenter --net`, not by `ip netns exec`: that has a view of mounts of its own,
    in which no other namespace can be made.

    Raises:
        BackendFailed: it is not there, ended with another status, or did not end in time (then it was killed).
    """
    words = [*inside(netns), *argv]
    try:
        process = await asyncio.create_subprocess_exec(
            *words, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except OSError as exc:
        raise BackendFailed(f"{argv[0]}: {exc.strerror}", step=shlex.join(argv), errno=exc.errno) from exc
    try:
        async with asyncio.timeout(seconds):
            out, err = await process.communicate(stdin.encode())
    except TimeoutError as exc:
        raise BackendFailed(f"{argv[0]} did not end within {seconds:g} s", step=shlex.join(argv)) from exc
    finally:
        if process.returncode is None:
            # Not `process.kill()`: that may reap it before asyncio does, which then complains.
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
            await asyncio.shield(process.wait())
    ran = Ran(process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace"))
    if ok is not None and ran.code not in ok:
        said = (ran.stderr.strip() or ran.stdout.strip() or f"status {ran.code}").splitlines()
        raise BackendFailed(
            f"{argv[0]}: {said[0]}", step=shlex.join(argv), status=ran.code, stderr=ran.stderr.strip()[-2000:]
        )
    return ran


def inside(netns: str | None) -> list[str]:
    """The words before a program that is to run in a namespace; it keeps its process id."""
    return [] if netns is None else ["nsenter", f"--net={NETNS_DIR}/{netns}", "--"]
