"""What service backends build with: one of each for the agent."""

from dataclasses import dataclass
from pathlib import Path

from viaduct_agent.links.netlink import Netlink


@dataclass(frozen=True, slots=True)
class ServiceTools:
    """Attributes:
    netlink: the host's own namespace.
    state_dir: for configuration and leases of programs; survives restarts of the agent, and may survive those of the
        host. Programs that gave up their rights read below it: whoever may enter it decides.
    netns: the name under /run/netns of the host's own namespace, None for the one that the agent is in.
    ovsdb: where Open vSwitch's database listens, as `ovs-vsctl --db` takes it; None for its usual place.
    """

    netlink: Netlink
    state_dir: Path
    netns: str | None = None
    ovsdb: str | None = None
