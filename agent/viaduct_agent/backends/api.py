"""The extension point `viaduct.l2_backends`, and the registry of what was found there."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import ClassVar, Literal, Protocol

from viaduct_agent.links.host import Checked, HostLinks
from viaduct_common.errors import UnsupportedType
from viaduct_common.messages.agent import L2Desired, Peer
from viaduct_common.messages.l2 import L2NetworkInventory
from viaduct_common.plugins import registry

GROUP = "viaduct.l2_backends"
KVM = "KVM"
Action = Literal["realize", "release"]


@dataclass(frozen=True, slots=True)
class L2OnHost:
    """One L2 network on this host. `interface` is the host's own device for `network.physical_interface`."""

    generation: int
    network: L2NetworkInventory
    interface: str
    force: bool = False
    tunnel_ip: IPv4Address | IPv6Address | None = None
    peers: tuple[Peer, ...] = ()

    @classmethod
    def of(cls, item: L2Desired, interface_map: Mapping[str, str]) -> "L2OnHost":
        label = item.l2_network.physical_interface
        return cls(
            generation=item.generation,
            network=item.l2_network,
            interface=interface_map.get(label, label),
            force=item.force,
            tunnel_ip=item.tunnel_ip,
            peers=tuple(item.peers),
        )


class L2Backend(Protocol):
    """One L2 type on one hypervisor type. The class is called with the host's `HostLinks`, once, at start.

    Methods run on the event loop and must not block it; calls for one network never overlap. A repeated call changes
    nothing. Refusals are `ViaductError`s and leave the host as it was. No default methods: forget one, and it is no
    backend.
    """

    l2_type: ClassVar[str]
    hypervisor_type: ClassVar[str]

    def __init__(self, links: HostLinks) -> None: ...

    def device_names(self, want: L2OnHost) -> frozenset[str]:
        """Every device whose change concerns this network: the agent watches them for drift."""
        ...

    async def realize(self, want: L2OnHost) -> tuple[str, ...]:
        """Make it so; return what was changed, as the equivalent commands."""
        ...

    async def check(self, want: L2OnHost, action: Action = "realize") -> Checked:
        """Compare every attribute and plan `action`; strictly read-only."""
        ...

    async def release(self, want: L2OnHost) -> tuple[str, ...]:
        """Take it away; what is gone already is no error. Returns what was changed."""
        ...


class Registry:
    """Backends by (L2 type, hypervisor type), immutable once built.

    Raises:
        PluginError: two backends have one key; which of them would serve is not left to chance.
    """

    def __init__(self, backend_types: Iterable[type[L2Backend]], links: HostLinks, hypervisor_type: str = KVM) -> None:
        found = registry(tuple(backend_types), lambda kind: (kind.l2_type, kind.hypervisor_type))
        self._hypervisor_type = hypervisor_type
        self._backends: dict[str, L2Backend] = {
            l2_type: kind(links) for (l2_type, hypervisor), kind in found.items() if hypervisor == hypervisor_type
        }

    def get(self, l2_type: str) -> L2Backend:
        """Raises `UnsupportedType`."""
        backend = self._backends.get(l2_type)
        if backend is None:
            text = f"no backend for {l2_type} on {self._hypervisor_type}"
            raise UnsupportedType(text, l2Type=l2_type, hypervisorType=self._hypervisor_type)
        return backend

    @property
    def l2_types(self) -> list[str]:
        return sorted(self._backends)
