"""The L2 types of this process, by name: loaded once at start, immutable."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from viaduct_common.errors import InvalidRequest, UnsupportedType
from viaduct_common.plugins import load_plugins, registry
from viaduct_manager.l2_types.api import L2Type

GROUP = "viaduct.l2_types"


class L2Types:
    """Tests build one from a plain list; the process from entry points."""

    def __init__(self, types: tuple[L2Type, ...]) -> None:
        self._by_name: Mapping[str, L2Type] = registry(types, lambda one: one.l2_type)

    @classmethod
    def from_entry_points(cls) -> "L2Types":
        """Raises:
        PluginError: a plugin does not load, or two have one name.
        """
        return cls(tuple(plugin() for plugin in load_plugins(GROUP)))

    @property
    def names(self) -> list[str]:
        return sorted(self._by_name)

    def get(self, name: str) -> L2Type:
        """Raises:
        UnsupportedType: no such type.
        """
        found = self._by_name.get(name)
        if found is None:
            known = ", ".join(sorted(self._by_name))
            raise UnsupportedType(
                f"type: no L2 type {name!r}; known are {known}", field="type", known=sorted(self._by_name)
            )
        return found

    def parse_fields(self, name: str, own_fields: Mapping[str, Any]) -> dict[str, Any]:
        """The type's own fields, validated, as they stand on the wire.

        Raises:
            UnsupportedType: no such type.
            InvalidRequest: a field that is missing, wrong or unknown; `details.field` names it.
        """
        try:
            fields = self.get(name).fields.model_validate(dict(own_fields), by_alias=True, by_name=False)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise InvalidRequest.of_field(".".join(map(str, first["loc"])), first["msg"]) from None
        return fields.model_dump(mode="json")

    def check_backends(self, chosen: Mapping[str, str]) -> None:
        """Backends by L2 type, as a cluster chooses them.

        Raises:
            InvalidRequest: a type that is not known, or that has no such backend; `details.field` names the type.
        """
        for name, backend in chosen.items():
            l2_type = self._by_name.get(name)
            if l2_type is None:
                raise InvalidRequest.of_field(f"backends.{name}", "no such L2 type", known=self.names)
            if backend not in l2_type.backends:
                raise InvalidRequest.of_field(
                    f"backends.{name}", f"no backend {backend!r} for it", known=list(l2_type.backends)
                )

    def changed_backends(self, former: Mapping[str, str], chosen: Mapping[str, str]) -> list[str]:
        """The types that another backend would build from now on; to name the usual one changes nothing."""
        return sorted(
            name
            for name in former.keys() | chosen.keys()
            if (former.get(name) or self._usual(name)) != (chosen.get(name) or self._usual(name))
        )

    def backend_of(self, name: str, chosen: Mapping[str, str]) -> str:
        """The backend that builds networks of this type on a cluster that has chosen these.

        Raises:
            UnsupportedType: no such type.
        """
        return chosen.get(name) or self.get(name).backends[0]

    def _usual(self, name: str) -> str | None:
        """None for a type whose plugin is gone: only to leave it as it is changes nothing."""
        l2_type = self._by_name.get(name)
        return None if l2_type is None else l2_type.backends[0]
