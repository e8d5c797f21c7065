"""The directory that holds all state of a stack: ports, passwords, records of processes, data, logs."""

import fcntl
import hashlib
import json
import os
import random
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
LOOPBACK = "127.0.0.1"
# Below the kernel's ephemeral range (32768 up): else an outgoing connection may take the port of a part that is down.
FIRST_PORT, LAST_PORT = 20000, 32000


class RunDir:
    """Whatever is asked for is made at the first time, and the same ever after."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()

    @classmethod
    def default(cls) -> "RunDir":
        """Return the one of this checkout, or of VIADUCT_RUN_DIR."""
        return cls(Path(os.environ.get("VIADUCT_RUN_DIR") or CHECKOUT / ".run"))

    @property
    def short_id(self) -> str:
        """Eight characters that belong to this path alone: part of names that the whole machine sees."""
        return hashlib.sha256(str(self.path).encode()).hexdigest()[:8]

    @contextmanager
    def locked(self, *, wait: bool = True) -> Iterator[None]:
        """Let one command at a time work on the directory; without `wait` go ahead in any case."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = self.path / "lock"
        with lock.open("a") as file:
            if wait:
                fcntl.flock(file, fcntl.LOCK_EX)
            yield
        if not {entry.name for entry in self.path.iterdir()} - {"lock"}:
            lock.unlink(missing_ok=True)
            self.path.rmdir()

    def folder(self, name: str) -> Path:
        """Return the directory of a part."""
        path = self.path / name
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        return path

    def port(self, name: str) -> int:
        """Return the port of something that listens on loopback."""
        record = self.folder("ports") / name
        try:
            return int(record.read_text())
        except FileNotFoundError:
            port = _free_port({int(path.read_text()) for path in record.parent.iterdir()})
            record.write_text(f"{port}\n")
            return port

    def secret_file(self, name: str) -> Path:
        """Return the file, mode 0600, that holds a generated secret: 64 hexadecimal digits and nothing else."""
        path = self.folder("secrets") / name
        if not path.exists():
            write_private(path, secrets.token_hex(32))
        return path

    def secret(self, name: str) -> str:
        """Return a generated secret."""
        return self.secret_file(name).read_text()


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    scratch = path.with_name(path.name + ".new")
    scratch.unlink(missing_ok=True)
    fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(text)
    scratch.rename(path)


def write_private_json(path: Path, value: object) -> None:
    """Write a value as JSON that only its owner may read."""
    write_private(path, json.dumps(value, indent=1) + "\n")


def _free_port(taken: set[int]) -> int:
    candidates = random.sample(range(FIRST_PORT, LAST_PORT), 200)
    for port in candidates:
        with socket.socket() as sock:
            try:
                sock.bind((LOOPBACK, port))
            except OSError:
                continue
        if port not in taken:
            return port
    raise OSError("no free TCP port on loopback")
