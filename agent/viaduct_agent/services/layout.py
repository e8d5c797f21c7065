"""What a service instance is on a host, all of it: plain values that a backend makes of a spec."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from viaduct_agent.services.conntrack import Translation
from viaduct_agent.services.nft import Table
from viaduct_agent.services.space import Space
from viaduct_agent.services.supervise import Supervisor
from viaduct_common.messages.l2 import Difference


class ServingProgram(Protocol):
    """A program that serves in the instance's namespace; it has a directory for all that it reads and writes."""

    async def serve(self, directory: Path, netns: str, supervisor: Supervisor, *, anew: bool) -> list[str]:
        """Let it serve so; what was done. `anew`: its interface is another one than before.

        Raises:
            BackendFailed: it did not start; with what it said.
        """
        ...

    def differences(self, directory: Path, netns: str) -> list[Difference]:
        """Files that another hand changed, and a process that does not run."""
        ...


@dataclass(frozen=True, slots=True)
class Layout:
    """`rules` are in the namespace, `host_rules` in the host's own. None of `serving`: no program."""

    space: Space
    rules: Table
    host_rules: Table | None = None
    serving: ServingProgram | None = None
    translations: frozenset[Translation] = frozenset()

    @property
    def tables(self) -> tuple[tuple[Table, str | None], ...]:
        """Each with the namespace that it is in, None for the host's."""
        inside = (self.rules, self.space.name)
        return (inside,) if self.host_rules is None else (inside, (self.host_rules, None))
