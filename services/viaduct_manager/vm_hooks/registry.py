"""The hooks of this process: loaded once at start, immutable."""

from viaduct_common.plugins import load_plugins, registry
from viaduct_common.postgres.pool import Connection
from viaduct_manager.vm_hooks.api import VmNetworkHook, VmPlan, VmRelease

GROUP = "viaduct.vm_network_hooks"


class VmHooks:
    """Tests build them from a plain list; the process from entry points."""

    def __init__(self, hooks: tuple[VmNetworkHook, ...]) -> None:
        self._hooks = tuple(hook for _, hook in sorted(registry(hooks, lambda one: one.name).items()))

    @classmethod
    def from_entry_points(cls) -> "VmHooks":
        """Raises:
        PluginError: a plugin does not load, or two have one name.
        """
        return cls(tuple(plugin() for plugin in load_plugins(GROUP)))

    @property
    def names(self) -> list[str]:
        return [hook.name for hook in self._hooks]

    async def plan(self, plan: VmPlan, connection: Connection) -> VmPlan:
        """What is to be realised, after everybody was heard.

        Raises:
            ViaductError: somebody objects.
        """
        for hook in self._hooks:
            await hook.pre_before_instantiate(plan, connection)
        for hook in self._hooks:
            plan = await hook.pre_instantiate(plan, connection)
        return plan

    async def before_release(self, release: VmRelease, connection: Connection) -> None:
        for hook in self._hooks:
            await hook.pre_release(release, connection)
