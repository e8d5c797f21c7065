"""The service backends of this host, by kind."""

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

import structlog

from viaduct_agent.services.abilities import Watching
from viaduct_agent.services.api import ServiceBackend
from viaduct_agent.services.tools import ServiceTools
from viaduct_common.errors import UnsupportedType, ViaductError
from viaduct_common.plugins import registry

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Found:
    """Instances on this host by their marks. `complete` is unset if a backend could not tell."""

    kinds: Mapping[UUID, str]
    generations: Mapping[UUID, int]
    complete: bool


class ServiceRegistry:
    """Immutable once built.

    A backend is a plugin: one that raises what it should not takes nothing but its own services down.

    Raises:
        PluginError: two backends have one kind.
    """

    def __init__(self, backend_types: Iterable[type[ServiceBackend]], tools: ServiceTools) -> None:
        found = registry(tuple(backend_types), lambda kind: kind.kind)
        self._backends: dict[str, ServiceBackend] = {kind: backend(tools) for kind, backend in found.items()}

    def of(self, kind: str) -> ServiceBackend:
        """Raises `UnsupportedType`."""
        backend = self._backends.get(kind)
        if backend is None:
            raise UnsupportedType(f"no backend for services of kind {kind!r}", kind=kind)
        return backend

    @property
    def kinds(self) -> list[str]:
        return sorted(self._backends)

    async def capabilities(self) -> list[str]:
        """`service/<kind>` of each that works on this host."""
        return [f"service/{kind}" for kind in self.kinds if await self._works(kind)]

    async def found(self) -> Found:
        """All kinds' instances; a backend that fails is left out."""
        kinds: dict[UUID, str] = {}
        generations: dict[UUID, int] = {}
        complete = True
        for kind, backend in self._backends.items():
            try:
                marked = await backend.found()
            except ViaductError as exc:
                log.warning("services_not_found", kind=kind, code=exc.code, error=exc.message)
                complete = False
            except Exception:
                log.exception("services_not_found", kind=kind)
                complete = False
            else:
                kinds |= dict.fromkeys(marked, kind)
                generations |= marked
        return Found(kinds, generations, complete)

    def changes(self) -> list[AsyncIterator[UUID]]:
        """The news of those backends that have their own."""
        return [backend.changes() for backend in self._backends.values() if isinstance(backend, Watching)]

    async def aclose(self) -> None:
        for kind, backend in self._backends.items():
            try:
                await backend.aclose()
            except Exception:
                log.exception("service_backend_not_closed", kind=kind)

    async def _works(self, kind: str) -> bool:
        try:
            reason = await self._backends[kind].unavailable()
        except Exception:
            log.exception("service_backend_crashed", kind=kind)
            return False
        if reason is not None:
            log.info("service_unavailable", kind=kind, reason=reason.message)
        return reason is None
