"""Which program besides us minds a device: it would put back what we move, or renew it where it was."""

from pathlib import Path

from viaduct_agent.links.model import Link

# Of clients that leave a file while they run: by what it is called, NAME being the device's.
_CLIENTS = {
    "dhclient": ("run/dhclient.NAME.pid", "run/dhclient6.NAME.pid", "run/dhclient-NAME.pid"),
    "dhcpcd": ("run/dhcpcd/NAME.pid", "run/dhcpcd-NAME.pid", "run/dhcpcd/NAME-4.pid", "run/dhcpcd/NAME-6.pid"),
    "udhcpc": ("run/udhcpc.NAME.pid",),
}


class Keepers:
    """What the programs themselves say below `root`, the host's file system. The agent may read all of it without
    rights of its own; processes of others it cannot see, so a file is believed."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def __call__(self, link: Link) -> str | None:
        """The program's name; None if nobody minds the device."""
        if self._says(f"run/systemd/netif/links/{link.index}", "ADMIN_STATE", but={"unmanaged", "linger"}):
            return "systemd-networkd"
        if self._says(f"run/NetworkManager/devices/{link.index}", "managed", but={"false", "unknown"}):
            return "NetworkManager"
        for client, paths in _CLIENTS.items():
            if any((self._root / path.replace("NAME", link.name)).exists() for path in paths):
                return client
        return None

    def _says(self, path: str, key: str, *, but: set[str]) -> bool:
        """Whether the file gives the key another value than those that mean no."""
        try:
            lines = (self._root / path).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return False
        pairs = [line.partition("=") for line in lines]
        values = [value.strip() for name, _, value in pairs if name.strip() == key]
        return bool(values) and values[-1] not in but
