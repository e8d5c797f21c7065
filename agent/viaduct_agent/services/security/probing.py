"""What this kernel can do, by doing it: in tables that are gone when the transaction ends, so no packet meets them."""

from pathlib import PurePosixPath

from viaduct_agent.services.programs import run
from viaduct_agent.services.security.compiling import REVOKED, Mechanism
from viaduct_common.errors import BackendFailed, PreconditionFailed

_TABLE = "viaduct_probe"
_SYSCTLS = PurePosixPath("/proc/sys/net/bridge")
_DETOUR = ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables")
_STATE = f"ct state established,related ct mark and {REVOKED:#x} == {REVOKED:#x} accept"


async def probe(netns: str | None) -> Mechanism:
    """The best of the mechanisms that the kernel has.

    Raises:
        PreconditionFailed: it has none; the reason says what is missing.
    """
    refusal = await _refused(netns, "bridge", "forward", -200, _STATE)
    if refusal is None:
        zone = 'meta ibrname "viaduct-probe" ct zone set 1'
        return Mechanism("bridge", zones=await _refused(netns, "bridge", "prerouting", -310, zone) is None)
    if reason := await _detour_closed(netns) or await _refused(netns, "inet", "prerouting", -150, _STATE):
        raise PreconditionFailed(
            f"bridged packets cannot be filtered by connection: {refusal}; {reason}",
            missing=["nf_conntrack_bridge", "br_netfilter"],
        )
    zones = await _refused(netns, "inet", "prerouting", -310, 'iifname "viaduct-probe" ct zone set 1') is None
    return Mechanism("br_netfilter", zones)


async def _refused(netns: str | None, family: str, hook: str, priority: int, rule: str) -> str | None:
    script = "\n".join([
        f"add table {family} {_TABLE}",
        f"add chain {family} {_TABLE} c {{ type filter hook {hook} priority {priority}; policy accept; }}",
        f"add rule {family} {_TABLE} c {rule}",
        f"delete table {family} {_TABLE}",
    ])  # fmt: skip
    try:
        await run(["nft", "-f", "-"], netns=netns, stdin=script)
    except BackendFailed as exc:
        return f"{exc.message} ({rule!r} in a chain of the family {family})"
    return None


async def _detour_closed(netns: str | None) -> str | None:
    """Read by a program of that namespace: /proc/sys/net shows every process its own."""
    ran = await run(["cat", *(str(_SYSCTLS / name) for name in _DETOUR)], netns=netns, ok=None)
    if ran.code:
        return "br_netfilter is not loaded"
    closed = [name for name, value in zip(_DETOUR, ran.stdout.split(), strict=True) if value != "1"]
    return f"the sysctl net.bridge.{closed[0]} is 0" if closed else None
