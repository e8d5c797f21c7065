"""What the lab asks of the machine it runs on: commands, network namespaces, sockets inside them."""

import ctypes
import os
import shlex
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

CLONE_NEWNET = 0x40000000  # linux/sched.h
POLL_SECONDS = 0.02  # between two looks at a fact that no event announces
NETNS_DIR = Path("/run/netns")

_libc = ctypes.CDLL(None, use_errno=True)


class LabError(Exception):
    """The lab could not do what was asked; the text says what and why."""


class Result(NamedTuple):
    """The end of a command; a negative `code` is the signal that killed it."""

    code: int
    stdout: str
    stderr: str


def command_line(command: str | Sequence[str]) -> list[str]:
    """Return the argument vector of `command`; a string is given to the shell."""
    return ["/bin/sh", "-c", command] if isinstance(command, str) else [str(word) for word in command]


def sh(command: str, *, check: bool = True, netns: str | None = None) -> Result:
    """Run a command of this machine, in a named network namespace if wanted; words are split as a shell would.

    Raises:
        LabError: the command failed and `check` is set.
    """
    argv = shlex.split(command)
    if netns:
        argv = ["ip", "netns", "exec", netns, *argv]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise LabError(f"{shlex.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")
    return Result(done.returncode, done.stdout, done.stderr)


def ip_batch(commands: Sequence[str], *, netns: str) -> None:
    """Run several `ip` commands in one program: `ip -n NETNS -batch -`."""
    done = subprocess.run(
        ["ip", "-n", netns, "-batch", "-"],
        input="\n".join(commands) + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise LabError(f"ip -n {netns}: {done.stderr.strip()} in: {'; '.join(commands)}")


def wait_until(fact: Callable[[], bool], *, timeout_seconds: float) -> bool:
    """Poll until `fact()` holds or the time is over; return whether it held."""
    deadline = time.monotonic() + timeout_seconds
    while not fact():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _enter_network(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(fd, CLONE_NEWNET):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(fd)


@contextmanager
def inside_netns(netns: str) -> Iterator[None]:
    """Move the calling thread, and no other, into a named network namespace; a socket made there stays there."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter_network(str(NETNS_DIR / netns))
        try:
            yield
        finally:
            _enter_network(f"/proc/self/fd/{home}")
    finally:
        os.close(home)


def connect_inside(netns: str, address: tuple[str, int], *, timeout_seconds: float = 10) -> socket.socket:
    """Open a TCP connection from inside a network namespace."""
    with inside_netns(netns):
        return socket.create_connection(address, timeout_seconds)


def require_root() -> None:
    """Refuse early, and plainly, what only root can do."""
    if os.geteuid() != 0:
        raise LabError("the lab makes network namespaces and devices: run it as root")


def program_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with `extra` on top."""
    return {**os.environ, **extra}
