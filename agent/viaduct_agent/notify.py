"""What systemd wants to hear (sd_notify(3)): one datagram, so no library."""

import os
import socket
from collections.abc import Mapping


class Notifier:
    """Says READY, STATUS, WATCHDOG and STOPPING to the service manager; to nobody when none has asked."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # "@" stands for the NUL byte of an abstract socket's name (unix(7)).
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._watchdog_usec = _watchdog_usec(environ)

    @property
    def watchdog_seconds(self) -> float | None:
        """How often `WATCHDOG=1` is due: half of what systemd waits for (sd_watchdog_enabled(3)); None: never."""
        return None if self._watchdog_usec is None else self._watchdog_usec / 2_000_000

    def send(self, **fields: str) -> None:
        """`send(ready="1", status="...")`. A service manager that does not listen is no reason to fail."""
        if not self._address:
            return
        text = "\n".join(f"{name.upper()}={value}" for name, value in fields.items())
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as sock:
            try:
                sock.connect(self._address)
                sock.send(text.encode())
            except OSError:
                return


def _watchdog_usec(environ: Mapping[str, str]) -> int | None:
    usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not usec.isdigit() or int(usec) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(usec)
