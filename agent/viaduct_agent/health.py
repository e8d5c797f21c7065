"""Facts of the host that break networks: read, cheaply, and told; never changed behind anyone's back."""

import asyncio
from pathlib import Path

from viaduct_common.messages.agent import HealthFact

_IPTABLES_SECONDS = 2.0
_MANAGERS = {"NetworkManager": "run/NetworkManager", "systemd-networkd": "run/systemd/netif"}


async def health_facts(root: Path = Path("/")) -> list[HealthFact]:
    """All of them; what cannot be found out is told as such. `root` is the host's file system."""
    return [_bridge_netfilter(root), await _forward_policy(), _nic_manager(root)]


def _bridge_netfilter(root: Path) -> HealthFact:
    """With br_netfilter on, bridged frames pass the host's iptables (Documentation/networking/ip-sysctl.rst)."""
    name = "br_netfilter"
    try:
        value = (root / "proc/sys/net/bridge/bridge-nf-call-iptables").read_text(encoding="ascii").strip()
    except OSError:
        return HealthFact(name=name, ok=True, detail="not loaded")
    if value == "0":
        return HealthFact(name=name, ok=True, detail="loaded, bridge-nf-call-iptables=0")
    return HealthFact(name=name, ok=False, detail="bridged frames pass the host's iptables: FORWARD rules apply to VMs")


async def _forward_policy() -> HealthFact:
    """Best effort: with a DROP policy (Docker sets it) and br_netfilter on, VMs hear nothing."""
    name = "forward_policy"
    try:
        process = await asyncio.create_subprocess_exec(
            "iptables", "-S", "FORWARD",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
    except OSError:
        return HealthFact(name=name, ok=True, detail="unknown: no iptables command")
    try:
        output, _ = await asyncio.wait_for(process.communicate(), _IPTABLES_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
        return HealthFact(name=name, ok=True, detail="unknown: iptables does not answer")
    first = output.decode(errors="replace").partition("\n")[0]
    if process.returncode != 0 or not first.startswith("-P FORWARD "):
        return HealthFact(name=name, ok=True, detail="unknown: iptables refused to tell")
    policy = first.split()[-1]
    return HealthFact(name=name, ok=policy == "ACCEPT", detail=policy)


def _nic_manager(root: Path) -> HealthFact:
    """A network manager may take a NIC back, or drop what it did not configure."""
    found = [name for name, path in _MANAGERS.items() if (root / path).is_dir()]
    detail = ", ".join(found) or "none found"
    return HealthFact(name="nic_manager", ok=not found, detail=detail)
