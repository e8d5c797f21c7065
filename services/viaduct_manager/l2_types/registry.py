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
