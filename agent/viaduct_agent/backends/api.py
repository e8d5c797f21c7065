"""The extension point `viaduct.l2_backends`, and the registry of what was found there."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

from viaduct_agent.links.host import Checked, HostLinks
from viaduct_common.errors import UnsupportedType
from viaduct_common.messages.agent import L2Desired
from viaduct_common.messages.l2 import L2NetworkInventory

GROUP = "viaduct.l2_backends"
Action = Literal["realize", "release"]


@dataclass(frozen=True, slots=True)
class L2OnHost:
    """One L2 network on this host. `interface` is the host's own device for `network.physical_interface`."""

    generation: int
    network: L2NetworkInventory
    interface: str
    force: bool = False
    peers: tuple[Mapping[str, Any], ...] = field(default=())

    @classmethod
    def of(cls, item: L2Desired, interface_map: Mapping[str, str]) -> "L2OnHost":
        label = item.l2_network.physical_interface
        return cls(
            generation=item.generation,
            network=item.l2_network,
            interface=interface_map.get(label, label),
            force=item.force,
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
    """Backends by (L2 type, hypervisor type), immutable once built."""

    def __init__(self, backend_types: Iterable[type[L2Backend]], links: HostLinks, hypervisor_type: str) -> None:
        """Raises `ValueError` for two backends with one key: which of them would serve is not left to chance."""
        self._hypervisor_type = hypervisor_type
        self._backends: dict[tuple[str, str], L2Backend] = {}
        for backend_type in backend_types:
            key = (backend_type.l2_type, backend_type.hypervisor_type)
            if key in self._backends:
                names = f"{_name(type(self._backends[key]))} and {_name(backend_type)}"
                raise ValueError(f"two backends for {key[0]} on {key[1]}: {names}")
            self._backends[key] = backend_type(links)

    def get(self, l2_type: str) -> L2Backend:
        """Raises `UnsupportedType`."""
        backend = self._backends.get((l2_type, self._hypervisor_type))
        if backend is None:
            text = f"no backend for {l2_type} on {self._hypervisor_type}"
            raise UnsupportedType(text, l2Type=l2_type, hypervisorType=self._hypervisor_type)
        return backend

    @property
    def l2_types(self) -> list[str]:
        return sorted(l2 for l2, hypervisor in self._backends if hypervisor == self._hypervisor_type)


def _name(backend_type: type) -> str:
    return f"{backend_type.__module__}:{backend_type.__qualname__}"
