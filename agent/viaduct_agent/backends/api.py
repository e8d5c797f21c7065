"""The extension point `viaduct.l2_backends`, and the registry of what was found there."""

import ipaddress
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, TypeAlias
from uuid import UUID

from viaduct_agent.backends.abilities import Watching
from viaduct_agent.links.host import Checked, HostLinks
from viaduct_agent.links.watch import Changed
from viaduct_common.errors import UnsupportedType, ViaductError
from viaduct_common.messages.agent import L2Desired, Peer
from viaduct_common.messages.l2 import L2NetworkInventory
from viaduct_common.plugins import PluginError, registry

GROUP = "viaduct.l2_backends"
KVM = "KVM"
Action = Literal["realize", "release"]
IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class L2OnHost:
    """One L2 network on this host. `interface` is the host's own device for `network.physical_interface`, `backend`
    the backend that was chosen (None: the type's usual one), `tunnel_ip` this host's end and `peers` the other hosts
    of a tunnelled network."""

    generation: int
    network: L2NetworkInventory
    interface: str
    force: bool = False
    backend: str | None = None
    tunnel_ip: IpAddress | None = None
    peers: tuple[Peer, ...] = ()

    @property
    def uuid(self) -> UUID:
        return self.network.uuid

    @classmethod
    def of(cls, item: L2Desired, interface_map: Mapping[str, str]) -> "L2OnHost":
        label = item.l2_network.physical_interface
        return cls(
            generation=item.generation,
            network=item.l2_network,
            interface=interface_map.get(label, label),
            force=item.force,
            backend=item.backend,
            tunnel_ip=item.tunnel_ip,
            peers=tuple(item.peers),
        )


class L2Backend(Protocol):
    """One way to build one L2 type on one hypervisor type. The class is called with the host's `HostLinks`, once, at
    start.

    Methods run on the event loop and must not block it; calls for one network never overlap. A repeated call changes
    nothing. Refusals are `ViaductError`s and leave the host as it was. No default methods: forget one, and it is no
    backend. `name` tells it from others of its type; `usual` marks the one that serves where none is named.
    """

    l2_type: ClassVar[str]
    hypervisor_type: ClassVar[str]
    name: ClassVar[str]
    usual: ClassVar[bool]

    def __init__(self, links: HostLinks) -> None: ...

    async def unavailable(self) -> ViaductError | None:
        """Why this host cannot have such networks at all (a program is missing); None if it can."""
        ...

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
    """Backends by (L2 type, hypervisor type) and name, immutable once built.

    Raises:
        PluginError: two backends have one key, or two of a type are the usual one; which of them would serve is not
            left to chance.
    """

    def __init__(self, backend_types: Iterable[type[L2Backend]], links: HostLinks, hypervisor_type: str = KVM) -> None:
        found = registry(tuple(backend_types), lambda kind: (kind.l2_type, kind.hypervisor_type, kind.name))
        self._hypervisor_type = hypervisor_type
        self._backends: dict[str, dict[str | None, L2Backend]] = {}
        for (l2_type, hypervisor, name), kind in found.items():
            if hypervisor != hypervisor_type:
                continue
            of_type = self._backends.setdefault(l2_type, {})
            backend = of_type[name] = kind(links)
            if kind.usual and of_type.setdefault(None, backend) is not backend:
                raise PluginError(
                    f"two backends claim to be the usual one of {l2_type}: {name} and {of_type[None].name}"
                )

    def get(self, l2_type: str, name: str | None = None) -> L2Backend:
        """The backend of this name, or with None the type's usual one.

        Raises:
            UnsupportedType: there is none.
        """
        backend = self._backends.get(l2_type, {}).get(name)
        if backend is None:
            which = "no backend" if name is None else f"no backend named {name}"
            text = f"{which} for {l2_type} on {self._hypervisor_type}"
            raise UnsupportedType(text, l2Type=l2_type, backend=name, hypervisorType=self._hypervisor_type)
        return backend

    def of(self, want: L2OnHost) -> L2Backend:
        """The one that builds this network here. Raises `UnsupportedType`."""
        return self.get(want.network.type, want.backend)

    def all(self) -> list[L2Backend]:
        return [backend for of_type in self._backends.values() for name, backend in of_type.items() if name is not None]

    def changes(self) -> list[AsyncIterator[Changed]]:
        """The news of those backends that have their own."""
        return [backend.changes() for backend in self.all() if isinstance(backend, Watching)]

    @property
    def l2_types(self) -> list[str]:
        return sorted(self._backends)

    async def capabilities(self) -> list[str]:
        """`<L2 type>/<backend>` of each that works on this host, and `<L2 type>` where any does."""
        able = [backend for backend in self.all() if await backend.unavailable() is None]
        return sorted({b.l2_type for b in able} | {f"{b.l2_type}/{b.name}" for b in able})
