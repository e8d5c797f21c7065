"""What service backends build with: one of each for the agent."""

from dataclasses import dataclass
from pathlib import Path

from viaduct_agent.links.netlink import Netlink


@dataclass(frozen=True, slots=True)
class ServiceTools:
    """Attributes:
    netlink: the host's own namespace.
    state_dir: for configuration and leases of programs; survives restarts of the agent, not of the host.
    """

    netlink: Netlink
    state_dir: Path
