"""Entry points to registries: every plugin is named in a `pyproject.toml`, the built-in ones as a third party's."""

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any


class PluginError(Exception):
    """A plugin does not load, or two claim one key: the process must not start without saying so."""


def load_plugins(group: str) -> tuple[Any, ...]:
    """Load every entry point of a group, sorted by name.

    Raises:
        PluginError: one of them cannot be imported; the message names it.
    """
    return tuple(_load(point) for point in sorted(entry_points(group=group), key=lambda point: point.name))


def registry(plugins: tuple[Any, ...], key: Any) -> Mapping[Any, Any]:
    """An immutable mapping of plugins by `key(plugin)`.

    Raises:
        PluginError: two plugins have one key; the message names both.
    """
    found: dict[Any, Any] = {}
    for plugin in plugins:
        name = key(plugin)
        if name in found:
            raise PluginError(f"two plugins for {name}: {_label(found[name])} and {_label(plugin)}")
        found[name] = plugin
    return MappingProxyType(found)


def _load(point: EntryPoint) -> Any:
    try:
        return point.load()
    except Exception as error:
        raise PluginError(f"plugin {point.name} ({point.value}) of group {point.group}: {error!r}") from error


def _label(plugin: Any) -> str:
    kind = plugin if isinstance(plugin, type) else type(plugin)
    return f"{kind.__module__}.{kind.__qualname__}"
