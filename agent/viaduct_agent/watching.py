"""Which networks a change of devices concerns: an index by device, kept up to date as networks come and go."""

from collections import defaultdict
from uuid import UUID

import structlog

from viaduct_agent.backends.api import L2OnHost, Registry
from viaduct_agent.holdings import Holdings
from viaduct_agent.links.watch import Changed

log = structlog.get_logger()


class WatchIndex:
    """A change costs what it names, however many networks are held; a network costs once, when it is commanded."""

    def __init__(self, backends: Registry, holdings: Holdings) -> None:
        self._backends = backends
        self._holdings = holdings
        self._indexed: dict[UUID, tuple[L2OnHost, frozenset[str]]] = {}
        self._concerned: defaultdict[str, set[UUID]] = defaultdict(set)
        self._stale = set(holdings.watched())
        holdings.subscribe(self._stale.add)

    def concerned_by(self, changed: Changed) -> set[UUID]:
        """All of them after lost events."""
        self._catch_up()
        if changed.overflow:
            return set(self._indexed)
        found = {uuid for uuid in changed.owners if uuid in self._indexed}
        for name in changed.names:
            found |= self._concerned.get(name, frozenset())
        return found

    def _catch_up(self) -> None:
        while self._stale:
            uuid = self._stale.pop()
            holding = self._holdings.get(uuid)
            want = None if holding is None else holding.want
            have = self._indexed.get(uuid)
            if have is not None and have[0] is want:
                continue
            self._drop(uuid)
            if want is not None:
                self._add(uuid, want)

    def _add(self, uuid: UUID, want: L2OnHost) -> None:
        try:
            names = self._backends.of(want).device_names(want)
        except Exception:  # of a plugin: its marks, and the sweep, still lead to it
            log.exception("device_names_unknown", l2_uuid=str(uuid))
            names = frozenset()
        self._indexed[uuid] = (want, names)
        for name in names:
            self._concerned[name].add(uuid)

    def _drop(self, uuid: UUID) -> None:
        _, names = self._indexed.pop(uuid, (None, frozenset[str]()))
        for name in names:
            self._concerned[name].discard(uuid)
            if not self._concerned[name]:
                del self._concerned[name]
