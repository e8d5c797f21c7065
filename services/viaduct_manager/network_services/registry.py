"""The providers of this process, and what concerns all of them: what a change makes stale, who is who."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import UUID

from viaduct_common.plugins import load_plugins, registry
from viaduct_common.postgres.pool import Connection
from viaduct_manager.l2_types.registry import L2Types
from viaduct_manager.network_services.addresses import ServiceAddresses
from viaduct_manager.network_services.api import Change, ServiceKey, ServiceProvider, provider_uuid
from viaduct_manager.store import service_marks
from viaduct_manager.vip_ipam import VipIpam

GROUP = "viaduct.service_providers"


@dataclass(frozen=True)
class ProviderTools:
    """What a provider is constructed with: addresses of IPAM for its instances, and for VIPs of its own; the L2 types,
    which know where something is plugged in on a host."""

    addresses: ServiceAddresses
    vip_ipam: VipIpam
    l2_types: L2Types


@dataclass(frozen=True)
class Marked:
    """What was marked: the instances, and the newest mark's id; nothing and 0 if a change concerns none."""

    service_uuids: frozenset[UUID] = frozenset()
    last: int = 0


class NetworkServices:
    """Tests build it from a plain list; the process from entry points.

    Whoever changes something that services could look different for says so by `changed`, in the same transaction.
    """

    def __init__(self, providers: tuple[ServiceProvider, ...] = ()) -> None:
        self._by_name: Mapping[str, ServiceProvider] = registry(providers, lambda one: one.name)
        self._by_uuid = {provider_uuid(name): one for name, one in self._by_name.items()}
        self._on_mark: Callable[[], None] = lambda: None

    @classmethod
    def from_entry_points(cls, tools: ProviderTools) -> "NetworkServices":
        """Raises:
        PluginError: a plugin does not load, or two have one name.
        """
        return cls(tuple(plugin(tools) for plugin in load_plugins(GROUP)))

    @property
    def names(self) -> list[str]:
        return sorted(self._by_name)

    @property
    def all(self) -> list[ServiceProvider]:
        """In the order of their names."""
        return [self._by_name[name] for name in self.names]

    def named(self, name: str) -> ServiceProvider:
        return self._by_name[name]

    def find(self, uuid: UUID) -> ServiceProvider | None:
        return self._by_uuid.get(uuid)

    def on_mark(self, call: Callable[[], None]) -> None:
        """Have it called whenever something was marked here; the mark is not committed yet then."""
        self._on_mark = call

    async def touched(self, connection: Connection, change: Change) -> dict[ServiceKey, str]:
        """The instances that a change could concern, with the name of the provider of each."""
        found: dict[ServiceKey, str] = {}
        for provider in self.all:
            found |= dict.fromkeys(await provider.touched(change, connection), provider.name)
        return found

    async def changed(self, connection: Connection, change: Change, *, after_seconds: float = 0.0) -> Marked:
        """This transaction changes, creates or removes these: have the instances that it could concern looked at after
        the commit. Before something is removed, while providers can still see it."""
        keys = await self.touched(connection, change)
        if not keys:
            return Marked()
        last = await service_marks.mark(connection, keys, after_seconds=after_seconds)
        self._on_mark()
        return Marked(frozenset(key.uuid for key in keys), last)

    async def look_again(self, connection: Connection, service_uuids: list[UUID]) -> None:
        """Have known instances looked at after the commit."""
        if service_uuids:
            await service_marks.mark_again(connection, service_uuids)
            self._on_mark()
