"""What a service instance is on a host, all of it: plain values that a backend makes of a spec."""

from dataclasses import dataclass

from viaduct_agent.services.conntrack import Translation
from viaduct_agent.services.dnsmasq.config import Served
from viaduct_agent.services.nft import Table
from viaduct_agent.services.space import Space


@dataclass(frozen=True, slots=True)
class Layout:
    """`rules` are in the namespace, `host_rules` in the host's own. None of `served`: no dnsmasq."""

    space: Space
    rules: Table
    host_rules: Table | None = None
    served: Served | None = None
    translations: frozenset[Translation] = frozenset()

    @property
    def tables(self) -> tuple[tuple[Table, str | None], ...]:
        """Each with the namespace that it is in, None for the host's."""
        inside = (self.rules, self.space.name)
        return (inside,) if self.host_rules is None else (inside, (self.host_rules, None))
